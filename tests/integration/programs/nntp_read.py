"""Read a news group with nntplib: python nntp_read.py HOST GROUP [PORT]."""

import hashlib
import sys
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # gone from Python 3.13 on
    import nntplib

host, group = sys.argv[1:3]
port = int(sys.argv[3]) if sys.argv[3:] else nntplib.NNTP_PORT
with nntplib.NNTP(host, port, timeout=30) as server:
    print("server:", "InterNetNews" in server.getwelcome(), "READER" in server.getcapabilities())
    _, count, first, last, name = server.group(group)
    print(f"{name}: {count} articles, {first} to {last}")
    _, overviews = server.over((first, last))
    for number, overview in overviews:
        print(number, nntplib.decode_header(overview["subject"]))
    _, info = server.body(str(last))
    print(info.message_id, hashlib.sha256(b"\n".join(info.lines)).hexdigest()[:16])
