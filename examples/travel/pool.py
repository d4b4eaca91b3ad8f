"""Hand an open NNTP session to the workers of a process pool, one after the other.

    outgate run -- python pool.py news.example.com example.group

The session is pickled like any argument: ``submit`` needs nothing else. Each worker goes on where the one before it
stopped, for they all have the same connection.
"""

import concurrent.futures
import nntplib
import os
import sys


def read_next(server):
    """Go to the next article, and say who read its subject."""
    number = server.next()[1]
    _, ((_, overview),) = server.over((number, number))
    subject = nntplib.decode_header(overview["subject"])
    # This process's copy is closed, and no QUIT is said: the session goes on with those who have it.
    server.file.close()
    server.sock.close()
    return os.getpid(), subject


def main():
    """Open a session here, and let two workers read."""
    host, group = sys.argv[1:]
    with nntplib.NNTP(host) as server:
        print("front", os.getpid(), server.getwelcome()[:3], server.group(group)[1], "articles")
        for _ in range(2):
            with concurrent.futures.ProcessPoolExecutor(1) as pool:
                print("worker", *pool.submit(read_next, server).result())
        print("front again", os.getpid(), server.next()[1])


if __name__ == "__main__":
    main()
