"""Query MariaDB with PyMySQL, plain and over TLS: python pymysql_query.py HOST USER PASSWORD DATABASE."""

import ssl
import sys

import pymysql

host, user, password, database = sys.argv[1:]
for options in ({"ssl_disabled": True}, {"ssl": ssl.create_default_context()}):
    with (
        pymysql.connect(
            host=host, user=user, password=password, database=database, connect_timeout=10, **options
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("show status like 'Ssl_version'")
        print("TLS" if cursor.fetchone()[1] else "plain")
        cursor.execute("create temporary table goods (number int, title text)")
        cursor.executemany("insert into goods values (%s, %s)", [(number, f"title {number}") for number in range(200)])
        cursor.execute("select count(*), min(title), max(number) from goods")
        print(*cursor.fetchone())
        cursor.execute("select repeat('x', 1000000)")
        print(len(cursor.fetchone()[0]))
