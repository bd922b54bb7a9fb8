\set n random(1, 10000)
SELECT o_orderkey FROM recent WHERE n = :n \gset
SELECT * FROM orders WHERE o_orderkey = :o_orderkey;
