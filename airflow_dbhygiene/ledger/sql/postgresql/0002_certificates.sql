-- What lies beside an archive as evidence of its runs, each policy's in one chain.

CREATE TABLE dbhygiene.certificate (
    policy            text NOT NULL,
    number            integer NOT NULL,            -- in the policy's chain, from 1
    run_id            text NOT NULL REFERENCES dbhygiene.run,
    name              text NOT NULL,               -- below the store's URL
    sha256            text NOT NULL,               -- of its bytes
    previous_sha256   text,                        -- of the certificate before it
    written_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (policy, number)
);
CREATE INDEX certificate_by_run ON dbhygiene.certificate (run_id);
