#!/bin/dash
# SPDX-License-Identifier: Apache-2.0
# A database in memory: inserts, an index, look-ups, an aggregate and a join.
set -e
[ "$1" = run ] || exit 0
sum=$(sqlite3 :memory: "
CREATE TABLE item(id INTEGER PRIMARY KEY, kind INTEGER, name TEXT, price REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
  INSERT INTO item SELECT i, i % 97, 'item number ' || (i * 7919 % 20011), i * 0.25 FROM n;
CREATE INDEX by_name ON item(name);
UPDATE item SET price = price * 1.5 WHERE kind < 20;
DELETE FROM item WHERE id % 11 = 0;
CREATE TABLE total AS SELECT kind, count(*) AS items, sum(price) AS price FROM item GROUP BY kind;
SELECT count(*), round(sum(total.price * item.id) / 1e9)
  FROM item JOIN total USING (kind) WHERE item.name LIKE '%7%' ORDER BY item.name;")
[ "$sum" = "3130|2031.0" ]
