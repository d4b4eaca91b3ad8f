"""Read news in Celery's workers, each of which goes on with the session that the one before it had.

Celery's messages are JSON, and a descriptor is text: ``outgate.descriptor(sock)`` goes in, ``outgate.adopt(text)``
comes out. Nobody has to accept pickles, which run whatever code their writer likes; a descriptor that somebody has
changed is only refused. ``REDIS_URL`` says where the queue is:

    outgate run -- celery --app celery_tasks worker                                     # as the same app
    outgate run -- python celery_front.py news.example.com example.group

``read_pickled`` is the same with a whole protocol object, for a queue that only you can write to.
"""

import nntplib
import os

from celery import Celery

import outgate

app = Celery("news", broker=os.environ.get("REDIS_URL", "redis://"), backend=os.environ.get("REDIS_URL", "redis://"))
app.conf.accept_content = ["json", "pickle"]  # without read_pickled: ["json"], which is the default
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_max_tasks_per_child = 1


def ask(file, line):
    """Send a command (RFC 3977) and return the first line of the answer."""
    file.write(line.encode() + b"\r\n")
    file.flush()
    return file.readline().decode().rstrip()


@app.task
def read_next(text, left):
    """Go to the next article, say its subject, and pass the socket on until nothing is left to do."""
    with outgate.adopt(text) as sock, sock.makefile("rwb") as file:
        number = ask(file, "NEXT").split()[1]
        assert ask(file, f"HDR Subject {number}").startswith("225")
        subject = file.readline().decode().split(" ", 1)[1].rstrip()
        assert file.readline() == b".\r\n"  # nothing is read ahead now: a descriptor carries no bytes
        if left > 1:
            read_next.delay(outgate.descriptor(sock), left - 1)
        else:
            ask(file, "QUIT")
    print(f"worker {os.getpid()} {subject}", flush=True)


@app.task(serializer="pickle")
def read_pickled(server, left):
    """Do the same with an object of nntplib, which may have read ahead: it travels with it."""
    number = server.next()[1]
    _, ((_, overview),) = server.over((number, number))
    print(f"worker {os.getpid()} {nntplib.decode_header(overview['subject'])}", flush=True)
    if left > 1:
        read_pickled.delay(server, left - 1)
        server.file.close()
        server.sock.close()
    else:
        server.quit()
