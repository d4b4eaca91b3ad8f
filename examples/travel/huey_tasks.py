"""Read news in Huey's workers, each of which goes on with the session that the one before it had.

Huey pickles the arguments of a task, and so the session. ``HUEY_FILE`` names the SQLite file that is the queue:

    outgate run -- python huey_front.py news.example.com example.group      # opens the session, and may end
    outgate run -- huey_consumer huey_tasks.huey                            # anywhere on this host, as the same app
"""

import nntplib
import os

from huey import SqliteHuey

huey = SqliteHuey(filename=os.environ.get("HUEY_FILE", "huey.db"))


@huey.task()
def read_next(server, left):
    """Go to the next article, say its subject, and pass the session on until nothing is left to do."""
    number = server.next()[1]
    _, ((_, overview),) = server.over((number, number))
    print("worker", os.getpid(), nntplib.decode_header(overview["subject"]), flush=True)
    if left > 1:
        read_next(server, left - 1)
        server.file.close()  # the session goes on with the next worker: no QUIT
        server.sock.close()
    else:
        server.quit()
