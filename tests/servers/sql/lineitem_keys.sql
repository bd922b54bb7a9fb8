ALTER TABLE lineitem ADD PRIMARY KEY (l_orderkey, l_linenumber);

CREATE INDEX lineitem_shipdate_key ON lineitem (l_shipdate, l_orderkey, l_linenumber);

ANALYZE lineitem;
