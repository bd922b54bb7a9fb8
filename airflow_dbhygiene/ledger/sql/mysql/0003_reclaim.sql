-- What was done about the space of a run's rows, and what it gave back.
CREATE TABLE IF NOT EXISTS dbhygiene.reclaim (
    run_id            varchar(200) NOT NULL PRIMARY KEY,
    done              longtext NOT NULL,           -- JSON: the action, and the table's figures before and after
    done_at           datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    FOREIGN KEY (run_id) REFERENCES dbhygiene.run (run_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
