CREATE TABLE airlines (
    carrier varchar(10)  NOT NULL PRIMARY KEY,
    name    varchar(100) NOT NULL
);

CREATE TABLE airports (
    faa   varchar(10) NOT NULL PRIMARY KEY,
    name  varchar(100),
    lat   double,
    lon   double,
    alt   int,
    tz    smallint,
    dst   varchar(10),
    tzone varchar(50)
);

CREATE TABLE planes (
    tailnum      varchar(10) NOT NULL PRIMARY KEY,
    year         smallint,
    type         varchar(50),
    manufacturer varchar(50),
    model        varchar(50),
    engines      smallint,
    seats        smallint,
    speed        smallint,
    engine       varchar(50)
);

CREATE TABLE flights (
    id             bigint      NOT NULL AUTO_INCREMENT PRIMARY KEY,
    year           smallint    NOT NULL,
    month          smallint    NOT NULL,
    day            smallint    NOT NULL,
    dep_time       smallint,
    sched_dep_time smallint    NOT NULL,
    dep_delay      smallint,
    arr_time       smallint,
    sched_arr_time smallint    NOT NULL,
    arr_delay      smallint,
    carrier        varchar(10) NOT NULL,
    flight         int         NOT NULL,
    tailnum        varchar(10),
    origin         varchar(10) NOT NULL,
    dest           varchar(10) NOT NULL,
    air_time       smallint,
    distance       int         NOT NULL,
    hour           smallint    NOT NULL,
    minute         smallint    NOT NULL,
    time_hour      timestamp   NOT NULL DEFAULT '2013-01-01 00:00:00',
    KEY flights_time_hour_id (time_hour, id),
    KEY flights_carrier (carrier),
    KEY flights_origin (origin),
    KEY flights_dest (dest),
    KEY flights_tailnum (tailnum),
    FOREIGN KEY (carrier) REFERENCES airlines (carrier),
    FOREIGN KEY (origin) REFERENCES airports (faa),
    FOREIGN KEY (dest) REFERENCES airports (faa),
    FOREIGN KEY (tailnum) REFERENCES planes (tailnum)
);
