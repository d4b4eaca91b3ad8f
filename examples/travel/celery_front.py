"""Open a session with a news server, and hand it to a task of Celery's: celery_front.py HOST GROUP [--pickle]."""

import nntplib
import os
import sys

from celery_tasks import read_next, read_pickled

import outgate

host, group = sys.argv[1:3]
server = nntplib.NNTP(host)
print("front", os.getpid(), server.getwelcome()[:3], server.group(group)[1], "articles")
if "--pickle" in sys.argv:
    read_pickled.delay(server, 2)
else:
    read_next.delay(outgate.descriptor(server.sock), 2)
server.file.close()  # the session waits in the queue, for as long as the app's idle_timeout
server.sock.close()
