CREATE TABLE airlines (
    carrier text NOT NULL,
    name    text NOT NULL
);

-- All but the code is null for the airports that fly but are missing in the published list.
CREATE TABLE airports (
    faa   text NOT NULL,
    name  text,
    lat   double precision,
    lon   double precision,
    alt   integer,
    tz    smallint,
    dst   text,
    tzone text
);

-- All but the tail number is null for the planes that fly but are missing in the published list.
CREATE TABLE planes (
    tailnum      text NOT NULL,
    year         smallint,
    type         text,
    manufacturer text,
    model        text,
    engines      smallint,
    seats        smallint,
    speed        smallint,
    engine       text
);

CREATE TABLE flights (
    id             bigint GENERATED ALWAYS AS IDENTITY,
    year           smallint    NOT NULL,
    month          smallint    NOT NULL,
    day            smallint    NOT NULL,
    dep_time       smallint,
    sched_dep_time smallint    NOT NULL,
    dep_delay      smallint,
    arr_time       smallint,
    sched_arr_time smallint    NOT NULL,
    arr_delay      smallint,
    carrier        text        NOT NULL,
    flight         integer     NOT NULL,
    tailnum        text,
    origin         text        NOT NULL,
    dest           text        NOT NULL,
    air_time       smallint,
    distance       integer     NOT NULL,
    hour           smallint    NOT NULL,
    minute         smallint    NOT NULL,
    time_hour      timestamptz NOT NULL
);
