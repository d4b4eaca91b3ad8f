"""Move megabytes to PostgreSQL and back with pg8000: python postgres_transfer.py HOST PORT USER PASSWORD."""

import hashlib
import io
import sys

import pg8000.dbapi

host, port, user, password = sys.argv[1:]
data = hashlib.shake_128(b"postgres").digest(2_000_000)
# Without TLS, so that the bytes of one run are as many as those of the next.
database = pg8000.dbapi.connect(user, host, "postgres", int(port), password, timeout=30, ssl_context=False)
cursor = database.cursor()
cursor.execute("select cast(%s as bytea), encode(sha256(cast(%s as bytea)), 'hex')", (data, data))
back, digest = cursor.fetchone()
print(back == data, digest == hashlib.sha256(data).hexdigest())
lines = b"".join(b"%d\n" % number for number in range(100_000))
cursor.execute("create temporary table numbers (number int)")
cursor.execute("copy numbers from stdin", stream=io.BytesIO(lines))
copied = io.BytesIO()
cursor.execute("copy numbers to stdout", stream=copied)
print(len(lines), copied.getvalue() == lines)
database.close()
