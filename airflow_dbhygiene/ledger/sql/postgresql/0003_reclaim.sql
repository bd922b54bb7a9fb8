-- What was done about the space of a run's rows, and what it gave back.
CREATE TABLE dbhygiene.reclaim (
    run_id            text PRIMARY KEY REFERENCES dbhygiene.run,
    done              text NOT NULL,               -- JSON: the action, and the table's figures before and after
    done_at           timestamptz NOT NULL DEFAULT clock_timestamp()
);
