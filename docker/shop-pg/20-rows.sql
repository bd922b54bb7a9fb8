-- Made-up flights of 2013, thirty an hour: 262,800 rows, the same each time.
INSERT INTO airlines VALUES ('AA', 'First Air'), ('DL', 'Second Air'), ('UA', 'Third Air');
INSERT INTO airports (faa, name, tz) VALUES ('EWR', 'Newark', -5), ('JFK', 'Kennedy', -5), ('LGA', 'La Guardia', -5);
INSERT INTO planes (tailnum, year, seats) SELECT 'N' || n, 1970 + n % 43, 100 + n % 200 FROM generate_series(1, 500) AS n;

INSERT INTO flights (
    year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier, flight,
    tailnum, origin, dest, air_time, distance, hour, minute, time_hour
)
SELECT 2013, extract(month FROM moment), extract(day FROM moment),
       CASE WHEN n % 40 > 0 THEN extract(hour FROM moment) * 100 + n % 60 END,
       extract(hour FROM moment) * 100,
       CASE WHEN n % 40 > 0 THEN n % 60 END,
       NULL, (extract(hour FROM moment)::int + 2) % 24 * 100, CASE WHEN n % 40 > 0 THEN n % 90 - 20 END,
       (ARRAY['AA', 'DL', 'UA'])[n % 3 + 1], n % 4000, CASE WHEN n % 40 > 0 THEN 'N' || n % 400 + 1 END,
       (ARRAY['EWR', 'JFK', 'LGA'])[n / 3 % 3 + 1], (ARRAY['JFK', 'LGA', 'EWR'])[n / 3 % 3 + 1],
       60 + n % 300, 200 + n % 2500, extract(hour FROM moment), n % 60, moment
FROM (
    SELECT n, timestamptz '2013-01-01 00:00+00' + n / 30 * interval '1 hour' AS moment
    FROM generate_series(0, 262799) AS n
) AS numbered
ORDER BY n;
