"""Read a mailbox with poplib: python pop3_read.py [--tls] HOST USER PASSWORD."""

import poplib
import ssl
import sys

words = sys.argv[1:]
tls = words[0] == "--tls"
host, user, password = words[tls:]
secure = ssl.create_default_context()
box = poplib.POP3_SSL(host, timeout=30, context=secure) if tls else poplib.POP3(host, timeout=30)
box.user(user)
box.pass_(password)
count, _ = box.stat()
print(count, "messages")
for number in range(1, count + 1):
    _, lines, _ = box.retr(number)
    print(*(line.decode() for line in lines if line.startswith(b"Subject:")), len(lines))
print(box.quit().decode())
