"""Open a session with a news server, and hand it to a task of Huey's: python huey_front.py HOST GROUP."""

import nntplib
import os
import sys

from huey_tasks import read_next

host, group = sys.argv[1:]
server = nntplib.NNTP(host)
print("front", os.getpid(), server.getwelcome()[:3], server.group(group)[1], "articles")
read_next(server, 2)
server.file.close()  # the session waits in the queue, for as long as the app's idle_timeout
server.sock.close()
