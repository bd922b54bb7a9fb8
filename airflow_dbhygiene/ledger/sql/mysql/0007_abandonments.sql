-- Runs that somebody gave up: nothing copies or deletes their rows any more.

CREATE TABLE IF NOT EXISTS dbhygiene.abandonment (
    run_id            varchar(200) NOT NULL PRIMARY KEY,
    reason            text NOT NULL,
    abandoned_by      text NOT NULL,
    abandoned_at      datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    FOREIGN KEY (run_id) REFERENCES dbhygiene.run (run_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
