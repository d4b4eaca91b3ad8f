"""Query PostgreSQL with psycopg, which is libpq's: python psycopg_query.py HOST PORT USER PASSWORD."""

import sys

import psycopg

host, port, user, password = sys.argv[1:]
with psycopg.connect(
    host=host, port=port, user=user, password=password, dbname="postgres", connect_timeout=10
) as database:
    print(database.execute("select 6 * 7").fetchone()[0])
