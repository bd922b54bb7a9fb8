-- Archived rows that were erased on request: which object took the place of which.

CREATE TABLE dbhygiene.erasure (
    run_id            text NOT NULL REFERENCES dbhygiene.run,
    name              text NOT NULL,               -- of the object as the receipt calls it
    number            integer NOT NULL,            -- of the erasures of this object, from 1
    replaced_by       text NOT NULL,
    bytes             bigint NOT NULL,
    sha256            text NOT NULL,
    rows_erased       bigint NOT NULL,             -- of this object, by all its erasures so far
    reason            text NOT NULL,
    erased_by         text NOT NULL,
    erased_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, name, number)
);
