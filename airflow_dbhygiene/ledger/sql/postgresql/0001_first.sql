-- Everything that a purge did, and what it may do next. Times are the database's own.

CREATE TABLE dbhygiene.run (
    run_id            text PRIMARY KEY,
    policy            text NOT NULL,
    table_name        text NOT NULL,
    state             text NOT NULL CHECK (state IN ('planned', 'done', 'failed')),
    since             timestamptz,
    cutoff            timestamptz,
    policy_digest     text NOT NULL,
    plan              text NOT NULL,               -- JSON: the frozen plan, policy included
    origin            text NOT NULL,               -- JSON: who asked: DAG, DAG run, task
    planned_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    reported_at       timestamptz,
    report            text,                        -- JSON: the certificate
    certificate_sha256 text,
    restored_at       timestamptz                  -- when rows of it were last put back
);
CREATE INDEX run_by_policy ON dbhygiene.run (policy, planned_at);

CREATE TABLE dbhygiene.chunk (
    run_id            text NOT NULL REFERENCES dbhygiene.run,
    chunk             integer NOT NULL,
    state             text NOT NULL
        CHECK (state IN ('planned', 'archived', 'verified', 'purging', 'purged', 'damaged')),
    label             text NOT NULL,
    lower_bound       text,                        -- JSON: a place in the walk, included; NULL is the beginning
    upper_bound       text,                        -- JSON: a place in the walk, not included; NULL is the end
    planned_rows      bigint NOT NULL,
    nonce             text,                        -- of the archive that won
    archived_rows     bigint,
    compared_rows     bigint,                      -- how many rows verify compared with the server's
    purged_through    bigint NOT NULL DEFAULT 0,   -- the fence: archived rows before this ordinal are dealt with
    purged            bigint NOT NULL DEFAULT 0,
    drifted           bigint NOT NULL DEFAULT 0,
    held              bigint NOT NULL DEFAULT 0,
    vanished          bigint NOT NULL DEFAULT 0,
    locked            bigint NOT NULL DEFAULT 0,
    archive_seconds   double precision,
    verify_seconds    double precision,
    purge_seconds     double precision NOT NULL DEFAULT 0,
    changed_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, chunk),
    CHECK (state <> 'purged' OR archived_rows = purged + drifted + held + vanished)
);

CREATE TABLE dbhygiene.object (
    run_id            text NOT NULL,
    chunk             integer NOT NULL,
    nonce             text NOT NULL,               -- of the attempt that wrote it
    part              integer NOT NULL,
    name              text NOT NULL,               -- below the store's URL; recorded before the upload begins
    state             text NOT NULL CHECK (state IN ('intended', 'written', 'discarding', 'discarded')),
    first_ordinal     bigint,
    archived_rows     bigint,
    bytes             bigint,
    sha256            text,
    fingerprint       text,                        -- SHA-256 of the (key, version) pairs
    changed_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, chunk, nonce, part),
    FOREIGN KEY (run_id, chunk) REFERENCES dbhygiene.chunk
);

CREATE TABLE dbhygiene.batch (
    run_id            text NOT NULL,
    chunk             integer NOT NULL,
    batch             integer NOT NULL,
    first_ordinal     bigint NOT NULL,
    end_ordinal       bigint NOT NULL,
    careful           boolean NOT NULL,            -- whether rows were matched one by one
    purged            bigint NOT NULL,
    drifted           bigint NOT NULL,
    held              bigint NOT NULL,
    vanished          bigint NOT NULL,
    locked            bigint NOT NULL,
    seconds           double precision NOT NULL,
    committed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, chunk, batch),
    FOREIGN KEY (run_id, chunk) REFERENCES dbhygiene.chunk
);

CREATE TABLE dbhygiene.outcome (                   -- of archived rows that were not purged
    run_id            text NOT NULL,
    chunk             integer NOT NULL,
    ordinal           bigint NOT NULL,
    outcome           text NOT NULL CHECK (outcome IN ('drifted', 'held', 'vanished', 'locked')),
    row_key           text NOT NULL,               -- JSON: the key's values as text
    noted_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, chunk, ordinal),
    FOREIGN KEY (run_id, chunk) REFERENCES dbhygiene.chunk
);

CREATE TABLE dbhygiene.restore (                   -- batches of archived rows that were put back
    restore_id        text NOT NULL,
    run_id            text NOT NULL,
    chunk             integer NOT NULL,
    first_ordinal     bigint NOT NULL,
    end_ordinal       bigint NOT NULL,
    target            text NOT NULL,               -- the table that they were put into
    restored          bigint NOT NULL,
    existing          bigint NOT NULL,             -- left alone, since their key exists again
    committed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (restore_id, chunk, first_ordinal),
    FOREIGN KEY (run_id, chunk) REFERENCES dbhygiene.chunk
);

CREATE TABLE dbhygiene.hold (                      -- legal holds: rows that nothing may delete
    hold_id           text PRIMARY KEY,
    table_name        text NOT NULL,
    predicate         text NOT NULL,               -- SQL condition over the table's columns
    reason            text NOT NULL,
    placed_by         text NOT NULL,
    placed_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    until_at          timestamptz,
    released_by       text,
    released_at       timestamptz
);
CREATE INDEX hold_by_table ON dbhygiene.hold (table_name);

CREATE TABLE dbhygiene.pause (
    scope             text PRIMARY KEY,            -- 'all', 'table:public.flights' or 'policy:flights'
    reason            text NOT NULL,
    placed_by         text NOT NULL,
    placed_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
