"""Send mail with smtplib over port 587, STARTTLS and a password, as mail programs do. Nothing in here knows of outgate.

    SMTP_PASSWORD=... outgate run -- python submit.py smtp.example.com USER me@example.com you@example.net

It sends twice. First as most programs do, without ``local_hostname``: smtplib then asks ``socket.getfqdn()`` what this
host is called. outgate answers that through the gate's resolver; App Engine never had ``gethostbyaddr``, nor has the
profile "app-engine", where smtplib raises ``NotImplementedError``. Then with ``local_hostname``, which works in both.
Port 25 is refused in both.
"""

import os
import smtplib
import ssl
import sys
from email.message import EmailMessage

host, user, sender, recipient = sys.argv[1:]


def submit(how, **named):
    """Send a message, and say under which name this host has greeted."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, recipient, f"Sent {how}"
    message.set_content("It came over a socket of the gate's.\n")
    with smtplib.SMTP(host, 587, timeout=30, **named) as server:
        server.starttls(context=ssl.create_default_context())
        server.login(user, os.environ["SMTP_PASSWORD"])
        server.send_message(message)
        print(f"{how}: sent, as {server.local_hostname}")


try:
    submit("without local_hostname")
except NotImplementedError as error:
    print(f"without local_hostname: NotImplementedError: {error}")
submit("with local_hostname", local_hostname="worker.example.com")

try:
    smtplib.SMTP(host, 25, timeout=30, local_hostname="worker.example.com")
except PermissionError as error:
    print(f"port 25: PermissionError: {error}")
