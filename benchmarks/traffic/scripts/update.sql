\set n random(1, 10000)
SELECT o_orderkey FROM recent WHERE n = :n \gset
BEGIN;
SELECT o_totalprice FROM orders WHERE o_orderkey = :o_orderkey FOR UPDATE;
UPDATE orders SET o_totalprice = o_totalprice + 1 WHERE o_orderkey = :o_orderkey;
END;
