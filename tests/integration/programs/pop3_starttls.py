"""Read a mailbox with poplib, going over to TLS on the way: python pop3_starttls.py HOST USER PASSWORD."""

import poplib
import ssl
import sys

host, user, password = sys.argv[1:]
box = poplib.POP3(host, timeout=30)
print("STLS" in box.capa())
box.stls(context=ssl.create_default_context())
box.user(user)
box.pass_(password)
print(box.stat()[0], "messages")
box.quit()
