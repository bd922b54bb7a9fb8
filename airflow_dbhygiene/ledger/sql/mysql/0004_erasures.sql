-- Archived rows that were erased on request: which object took the place of which.

CREATE TABLE IF NOT EXISTS dbhygiene.erasure (
    run_id            varchar(200) NOT NULL,
    name              varchar(500) NOT NULL,       -- of the object as the receipt calls it
    number            int NOT NULL,                -- of the erasures of this object, from 1
    replaced_by       text NOT NULL,
    bytes             bigint NOT NULL,
    sha256            char(64) NOT NULL,
    rows_erased       bigint NOT NULL,             -- of this object, by all its erasures so far
    reason            text NOT NULL,
    erased_by         text NOT NULL,
    erased_at         datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (run_id, name, number),
    FOREIGN KEY (run_id) REFERENCES dbhygiene.run (run_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
