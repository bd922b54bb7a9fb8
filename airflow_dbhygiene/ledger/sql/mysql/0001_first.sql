-- Everything that a purge did, and what it may do next. Times are the database's own, in UTC.
-- The server commits each of these statements by itself: a migration that was cut short runs once more from the start.

CREATE TABLE IF NOT EXISTS dbhygiene.run (
    run_id            varchar(200) NOT NULL PRIMARY KEY,
    policy            varchar(100) NOT NULL,
    table_name        text NOT NULL,
    state             varchar(20) NOT NULL CHECK (state IN ('planned', 'done', 'failed')),
    since             varchar(50),                 -- ISO 8601
    cutoff            varchar(50),                 -- ISO 8601
    policy_digest     char(64) NOT NULL,
    plan              longtext NOT NULL,           -- JSON: the frozen plan, policy included
    origin            longtext NOT NULL,           -- JSON: who asked: DAG, DAG run, task
    planned_at        datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    reported_at       datetime(6),
    report            longtext,                    -- JSON: the certificate
    certificate_sha256 char(64),
    restored_at       datetime(6),                 -- when rows of it were last put back
    KEY run_by_policy (policy, planned_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS dbhygiene.chunk (
    run_id            varchar(200) NOT NULL,
    chunk             int NOT NULL,
    state             varchar(20) NOT NULL
        CHECK (state IN ('planned', 'archived', 'verified', 'purging', 'purged', 'damaged')),
    label             text NOT NULL,
    lower_bound       longtext,                    -- JSON: a place in the walk, included; NULL is the beginning
    upper_bound       longtext,                    -- JSON: a place in the walk, not included; NULL is the end
    planned_rows      bigint NOT NULL,
    nonce             varchar(50),                 -- of the archive that won
    archived_rows     bigint,
    compared_rows     bigint,                      -- how many rows verify compared with the server's
    purged_through    bigint NOT NULL DEFAULT 0,   -- the fence: archived rows before this ordinal are dealt with
    purged            bigint NOT NULL DEFAULT 0,
    drifted           bigint NOT NULL DEFAULT 0,
    held              bigint NOT NULL DEFAULT 0,
    vanished          bigint NOT NULL DEFAULT 0,
    locked            bigint NOT NULL DEFAULT 0,
    archive_seconds   double,
    verify_seconds    double,
    purge_seconds     double NOT NULL DEFAULT 0,
    changed_at        datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (run_id, chunk),
    FOREIGN KEY (run_id) REFERENCES dbhygiene.run (run_id),
    CHECK (state <> 'purged' OR archived_rows = purged + drifted + held + vanished)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS dbhygiene.object (
    run_id            varchar(200) NOT NULL,
    chunk             int NOT NULL,
    nonce             varchar(50) NOT NULL,        -- of the attempt that wrote it
    part              int NOT NULL,
    name              text NOT NULL,               -- below the store's URL; recorded before the upload begins
    state             varchar(20) NOT NULL CHECK (state IN ('intended', 'written', 'discarding', 'discarded')),
    first_ordinal     bigint,
    archived_rows     bigint,
    bytes             bigint,
    sha256            char(64),
    fingerprint       char(64),                    -- SHA-256 of the versions
    changed_at        datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (run_id, chunk, nonce, part),
    FOREIGN KEY (run_id, chunk) REFERENCES dbhygiene.chunk (run_id, chunk)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS dbhygiene.batch (
    run_id            varchar(200) NOT NULL,
    chunk             int NOT NULL,
    batch             int NOT NULL,
    first_ordinal     bigint NOT NULL,
    end_ordinal       bigint NOT NULL,
    careful           boolean NOT NULL,            -- whether rows were matched one by one
    purged            bigint NOT NULL,
    drifted           bigint NOT NULL,
    held              bigint NOT NULL,
    vanished          bigint NOT NULL,
    locked            bigint NOT NULL,
    seconds           double NOT NULL,
    committed_at      datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (run_id, chunk, batch),
    FOREIGN KEY (run_id, chunk) REFERENCES dbhygiene.chunk (run_id, chunk)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Of archived rows that were not purged.
CREATE TABLE IF NOT EXISTS dbhygiene.outcome (
    run_id            varchar(200) NOT NULL,
    chunk             int NOT NULL,
    ordinal           bigint NOT NULL,
    outcome           varchar(20) NOT NULL CHECK (outcome IN ('drifted', 'held', 'vanished', 'locked')),
    row_key           longtext NOT NULL,           -- JSON: the key's values as text
    noted_at          datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (run_id, chunk, ordinal),
    FOREIGN KEY (run_id, chunk) REFERENCES dbhygiene.chunk (run_id, chunk)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Batches of archived rows that were put back.
CREATE TABLE IF NOT EXISTS dbhygiene.restore (
    restore_id        varchar(200) NOT NULL,
    run_id            varchar(200) NOT NULL,
    chunk             int NOT NULL,
    first_ordinal     bigint NOT NULL,
    end_ordinal       bigint NOT NULL,
    target            text NOT NULL,               -- the table that they were put into
    restored          bigint NOT NULL,
    existing          bigint NOT NULL,             -- left alone, since their key exists again
    committed_at      datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (restore_id, chunk, first_ordinal),
    FOREIGN KEY (run_id, chunk) REFERENCES dbhygiene.chunk (run_id, chunk)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Legal holds: rows that nothing may delete.
CREATE TABLE IF NOT EXISTS dbhygiene.hold (
    hold_id           varchar(300) NOT NULL PRIMARY KEY,
    table_name        varchar(300) NOT NULL,
    predicate         longtext NOT NULL,           -- SQL condition over the table's columns
    reason            text NOT NULL,
    placed_by         text NOT NULL,
    placed_at         datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    until_at          datetime(6),
    released_by       text,
    released_at       datetime(6),
    KEY hold_by_table (table_name)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS dbhygiene.pause (
    scope             varchar(400) NOT NULL PRIMARY KEY,  -- 'all', 'table:shop.flights' or 'policy:flights'
    reason            text NOT NULL,
    placed_by         text NOT NULL,
    placed_at         datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The lock between batches, which share it, and the placing of holds: its one row is never changed.
CREATE TABLE IF NOT EXISTS dbhygiene.gate (
    gate              int NOT NULL PRIMARY KEY
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

INSERT IGNORE INTO dbhygiene.gate (gate) VALUES (1);
