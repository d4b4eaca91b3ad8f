"""Read a mailbox with imaplib: python imap_read.py [--tls] HOST USER PASSWORD."""

import email
import imaplib
import ssl
import sys

words = sys.argv[1:]
tls = words[0] == "--tls"
host, user, password = words[tls:]
secure = ssl.create_default_context()
box = imaplib.IMAP4_SSL(host, timeout=30, ssl_context=secure) if tls else imaplib.IMAP4(host, timeout=30)
with box:
    box.login(user, password)
    _, (count,) = box.select("INBOX", readonly=True)
    print(int(count), "messages")
    _, (numbers,) = box.search(None, "ALL")
    for number in numbers.split():
        _, answer = box.fetch(number.decode(), "(BODY.PEEK[])")
        print(email.message_from_bytes(answer[0][1])["Subject"])
