"""Post an article with nntplib and read it back: python nntp_post.py HOST GROUP."""

import sys
import uuid
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import nntplib

host, group = sys.argv[1:3]
message_id = f"<{uuid.uuid4().hex}@outgate.test>"
article = f"""\
From: Poster <poster@outgate.test>
Newsgroups: {group}
Subject: Posted through the gate
Message-ID: {message_id}

Hello, {group}.
""".encode()
with nntplib.NNTP(host, timeout=30) as server:
    print(server.post(article)[:3])
    _, info = server.article(message_id)
    print(info.lines[-1].decode())
