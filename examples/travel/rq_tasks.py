"""Read news in RQ's workers, each of which goes on with the session that the one before it had.

RQ pickles the arguments of a job, and so the session. ``REDIS_URL`` says where the queue is:

    outgate run -- python rq_front.py news.example.com example.group        # opens the session, and may end
    outgate run -- rq worker --url $REDIS_URL news                          # anywhere on this host, as the same app

A worker forks for each job, so every article here is read by another process.
"""

import nntplib
import os

from redis import Redis
from rq import Queue


def queue():
    """Return the queue."""
    return Queue("news", connection=Redis.from_url(os.environ["REDIS_URL"]))


def read_next(server, left):
    """Go to the next article, say its subject, and pass the session on until nothing is left to do."""
    number = server.next()[1]
    _, ((_, overview),) = server.over((number, number))
    print("worker", os.getpid(), nntplib.decode_header(overview["subject"]), flush=True)
    if left > 1:
        queue().enqueue(read_next, server, left - 1)
        server.file.close()  # the session goes on with the next worker: no QUIT
        server.sock.close()
    else:
        server.quit()
