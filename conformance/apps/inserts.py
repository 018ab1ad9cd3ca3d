"""INSERTs one after the other, each on a connection of its own, until WANTED of them were cut; prints which succeeded.

argv: host, how many cuts are wanted, seconds that it may take, the number of the first row
"""
import json
import random
import sys
import time

import pymysql

host, wanted, limit, first = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
end = time.monotonic() + limit
tried = cuts = refused = 0
known = []
while cuts < wanted and time.monotonic() < end:
    try:
        link = pymysql.connect(
            host=host, user="app", password="app", database="app", autocommit=True, connect_timeout=10, read_timeout=30
        )
    except (pymysql.Error, OSError):
        refused += 1
        continue
    tried += 1
    row = first + tried
    try:
        with link.cursor() as cursor:
            # Under way for some milliseconds, in which the cut falls.
            cursor.execute("INSERT INTO cuts SELECT %s FROM DUAL WHERE SLEEP(%s) = 0", (row, random.uniform(0, 0.05)))
        known.append(row)
    except (pymysql.Error, OSError):
        cuts += 1
    finally:
        try:
            link.close()
        except (pymysql.Error, OSError):
            pass
print(json.dumps({"tried": tried, "cuts": cuts, "refused": refused, "known": known}))
