-- What lies beside an archive as evidence of its runs, each policy's in one chain.

CREATE TABLE IF NOT EXISTS dbhygiene.certificate (
    policy            varchar(100) NOT NULL,
    number            int NOT NULL,                -- in the policy's chain, from 1
    run_id            varchar(200) NOT NULL,
    name              text NOT NULL,               -- below the store's URL
    sha256            char(64) NOT NULL,           -- of its bytes
    previous_sha256   char(64),                    -- of the certificate before it
    written_at        datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (policy, number),
    FOREIGN KEY (run_id) REFERENCES dbhygiene.run (run_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
