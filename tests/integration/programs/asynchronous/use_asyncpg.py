"""Query PostgreSQL by asyncpg, with TLS and without: python use_asyncpg.py LOOP HOST USER PASSWORD [DENIED]."""

import asyncio
import ssl
import sys

import asyncpg
import telling

LOOP, HOST, USER, PASSWORD, *DENIED = sys.argv[1:]


async def main():
    for tls in (False, ssl.create_default_context()):
        options = {"user": USER, "password": PASSWORD, "database": "postgres", "ssl": tls}
        connection = await asyncpg.connect(host=HOST, **options)
        used = await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        await connection.execute("create temporary table numbers (number int, text text)")
        await connection.copy_records_to_table("numbers", records=[(n, "x" * 100) for n in range(10_000)])
        async with connection.transaction():
            rows = [row async for row in connection.cursor("select * from numbers order by number")]
        print(used, len(rows), rows[-1]["number"])
        await connection.close()
    async with asyncpg.create_pool(host=HOST, min_size=5, max_size=5, **options) as pool:
        print(sum(await asyncio.gather(*(pool.fetchval("select $1::int", number) for number in range(50)))))
    for host in DENIED:
        try:
            await asyncpg.connect(host=host, port=80, user=USER, database="postgres", ssl=False)
        except OSError as error:
            telling.tell_refusal(error)


telling.run(main())
