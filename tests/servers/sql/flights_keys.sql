INSERT INTO planes (tailnum)
SELECT DISTINCT tailnum FROM flights WHERE tailnum IS NOT NULL
EXCEPT
SELECT tailnum FROM planes;

INSERT INTO airports (faa)
SELECT dest FROM flights
EXCEPT
SELECT faa FROM airports;

ALTER TABLE airlines ADD PRIMARY KEY (carrier);
ALTER TABLE airports ADD PRIMARY KEY (faa);
ALTER TABLE planes ADD PRIMARY KEY (tailnum);
ALTER TABLE flights ADD PRIMARY KEY (id);

CREATE INDEX flights_time_hour_id ON flights (time_hour, id);
CREATE INDEX flights_carrier ON flights (carrier);
CREATE INDEX flights_origin ON flights (origin);
CREATE INDEX flights_dest ON flights (dest);
CREATE INDEX flights_tailnum ON flights (tailnum);

ALTER TABLE flights
    ADD FOREIGN KEY (carrier) REFERENCES airlines (carrier),
    ADD FOREIGN KEY (origin) REFERENCES airports (faa),
    ADD FOREIGN KEY (dest) REFERENCES airports (faa),
    ADD FOREIGN KEY (tailnum) REFERENCES planes (tailnum);

ANALYZE airlines, airports, planes, flights;
