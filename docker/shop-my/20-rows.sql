-- Made-up flights of 2013, thirty an hour: 262,800 rows, the same each time.
SET SESSION time_zone = '+00:00';
INSERT INTO airlines VALUES ('AA', 'First Air'), ('DL', 'Second Air'), ('UA', 'Third Air');
INSERT INTO airports (faa, name, tz) VALUES ('EWR', 'Newark', -5), ('JFK', 'Kennedy', -5), ('LGA', 'La Guardia', -5);

CREATE TEMPORARY TABLE digits (d int PRIMARY KEY);
INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9);
CREATE TEMPORARY TABLE tens LIKE digits;
INSERT INTO tens SELECT d FROM digits;
CREATE TEMPORARY TABLE hundreds LIKE digits;
INSERT INTO hundreds SELECT d FROM digits;
CREATE TEMPORARY TABLE numbers (n int PRIMARY KEY);
INSERT INTO numbers SELECT digits.d + 10 * tens.d + 100 * hundreds.d FROM digits, tens, hundreds;
CREATE TEMPORARY TABLE thousands LIKE numbers;
INSERT INTO thousands SELECT n FROM numbers WHERE n < 263;

INSERT INTO planes (tailnum, year, seats)
SELECT concat('N', n + 1), 1970 + (n + 1) % 43, 100 + (n + 1) % 200 FROM numbers WHERE n < 500;

INSERT INTO flights (
    year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier, flight,
    tailnum, origin, dest, air_time, distance, hour, minute, time_hour
)
SELECT 2013, month(moment), day(moment), if(n % 40 > 0, hour(moment) * 100 + n % 60, NULL), hour(moment) * 100,
       if(n % 40 > 0, n % 60, NULL), NULL, (hour(moment) + 2) % 24 * 100, if(n % 40 > 0, n % 90 - 20, NULL),
       elt(n % 3 + 1, 'AA', 'DL', 'UA'), n % 4000, if(n % 40 > 0, concat('N', n % 400 + 1), NULL),
       elt(n DIV 3 % 3 + 1, 'EWR', 'JFK', 'LGA'), elt(n DIV 3 % 3 + 1, 'JFK', 'LGA', 'EWR'),
       60 + n % 300, 200 + n % 2500, hour(moment), n % 60, moment
FROM (
    SELECT numbers.n + 1000 * thousands.n AS n,
           timestamp '2013-01-01 00:00:00' + INTERVAL (numbers.n + 1000 * thousands.n) DIV 30 HOUR AS moment
    FROM thousands, numbers
) AS numbered
WHERE n < 262800
ORDER BY n;
