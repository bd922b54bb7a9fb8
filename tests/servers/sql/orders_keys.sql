ALTER TABLE orders ADD PRIMARY KEY (o_orderkey);

CREATE INDEX orders_orderdate_orderkey ON orders (o_orderdate, o_orderkey);

ANALYZE orders;
