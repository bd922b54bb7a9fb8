INSERT INTO planes (tailnum)
SELECT DISTINCT tailnum FROM flights WHERE tailnum IS NOT NULL AND tailnum NOT IN (SELECT tailnum FROM planes);

INSERT INTO airports (faa)
SELECT DISTINCT dest FROM flights WHERE dest NOT IN (SELECT faa FROM airports);

ANALYZE TABLE airlines, airports, planes, flights;
