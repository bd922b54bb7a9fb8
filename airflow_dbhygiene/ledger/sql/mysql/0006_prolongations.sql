-- Each time that somebody moved a legal hold's end.

CREATE TABLE IF NOT EXISTS dbhygiene.prolongation (
    prolongation      bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    hold_id           varchar(300) NOT NULL,
    prolonged_at      datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    prolonged_by      text NOT NULL,
    reason            text NOT NULL,
    until_before      datetime(6) NOT NULL,
    KEY prolongation_by_hold (hold_id)             -- a foreign key would wait for all who read holds
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
