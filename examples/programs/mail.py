"""Read a mailbox with poplib. Nothing in here knows of outgate."""

import poplib
import sys

box = poplib.POP3(sys.argv[1], int(sys.argv[2]), timeout=10)
box.user("reader")
box.pass_("secret")
count, size = box.stat()
_, lines, _ = box.retr(1)
print(f"{count} message, {size} bytes:", lines[-1].decode())
box.quit()
