-- Each time that somebody moved a legal hold's end.

CREATE TABLE dbhygiene.prolongation (
    prolongation      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hold_id           text NOT NULL REFERENCES dbhygiene.hold,
    prolonged_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    prolonged_by      text NOT NULL,
    reason            text NOT NULL,
    until_before      timestamptz NOT NULL
);
