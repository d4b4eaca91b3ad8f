"""Read a mailbox with poplib. Nothing in here knows of outgate.

outgate run -- python mail.py pop.example.com 110 USER PASSWORD
"""

import poplib
import sys

host, port, user, password = sys.argv[1:]
box = poplib.POP3(host, int(port), timeout=10)
box.user(user)
box.pass_(password)
count, size = box.stat()
_, lines, _ = box.retr(1)
print(f"{count} message{'s' * (count != 1)}, {size} bytes:", lines[-1].decode())
box.quit()
