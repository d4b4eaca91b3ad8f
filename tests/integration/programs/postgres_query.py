"""Query PostgreSQL over TLS with pg8000: python postgres_query.py HOST PORT USER PASSWORD."""

import ssl
import sys

import pg8000.dbapi

host, port, user, password = sys.argv[1:]
database = pg8000.dbapi.connect(
    user, host, "postgres", int(port), password, timeout=30, ssl_context=ssl.create_default_context()
)
cursor = database.cursor()
cursor.execute("create temporary table news (number int, title text)")
cursor.executemany("insert into news values (%s, %s)", [(number, f"title {number}") for number in range(200)])
cursor.execute("select count(*), min(title), max(number) from news")
print(*cursor.fetchone())
cursor.execute("select repeat('x', 1000000)")
print(len(cursor.fetchone()[0]))
database.close()
