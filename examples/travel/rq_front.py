"""Open a session with a news server, and hand it to a job of RQ's: python rq_front.py HOST GROUP."""

import nntplib
import os
import sys

from rq_tasks import queue, read_next

host, group = sys.argv[1:]
server = nntplib.NNTP(host)
print("front", os.getpid(), server.getwelcome()[:3], server.group(group)[1], "articles")
queue().enqueue(read_next, server, 2)
server.file.close()  # the session waits in the queue, for as long as the app's idle_timeout
server.sock.close()
