\set customer random(1, 10000)
INSERT INTO orders
VALUES (nextval('new_orders'), :customer, 'O', 100, date '1998-08-03', '1-URGENT', 'Clerk#000000001', 0, 'a new order');
