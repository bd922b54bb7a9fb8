-- What held a chunk's purge up, or made its batches smaller.

CREATE TABLE dbhygiene.interruption (
    run_id            text NOT NULL,
    chunk             integer NOT NULL,
    ended_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    seconds           double precision NOT NULL,   -- that nothing was deleted; 0 where only the next batch was smaller
    reason            text NOT NULL,
    FOREIGN KEY (run_id, chunk) REFERENCES dbhygiene.chunk
);
CREATE INDEX interruption_by_run ON dbhygiene.interruption (run_id);
