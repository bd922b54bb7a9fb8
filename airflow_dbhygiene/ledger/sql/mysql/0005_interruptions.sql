-- What held a chunk's purge up, or made its batches smaller.

CREATE TABLE IF NOT EXISTS dbhygiene.interruption (
    interruption      bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    run_id            varchar(200) NOT NULL,
    chunk             int NOT NULL,
    ended_at          datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    seconds           double NOT NULL,             -- that nothing was deleted; 0 where only the next batch was smaller
    reason            text NOT NULL,
    FOREIGN KEY (run_id, chunk) REFERENCES dbhygiene.chunk (run_id, chunk)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
