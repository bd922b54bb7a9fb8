-- Runs that somebody gave up: nothing copies or deletes their rows any more.

CREATE TABLE dbhygiene.abandonment (
    run_id            text PRIMARY KEY REFERENCES dbhygiene.run,
    reason            text NOT NULL,
    abandoned_by      text NOT NULL,
    abandoned_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
