"""Log in and type with telnetlib: python telnet_type.py HOST USER PASSWORD."""

import sys
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # gone from Python 3.13 on
    import telnetlib

host, user, password = sys.argv[1:]
with telnetlib.Telnet(host, timeout=30) as terminal:
    terminal.read_until(b"login: ", 30)
    terminal.write(user.encode() + b"\n")
    terminal.read_until(b"Password: ", 30)
    terminal.write(password.encode() + b"\n")
    number, match, _ = terminal.expect([rb"Welcome (\w+)", b"Login incorrect"], 30)
    print(number, match.group(1).decode())
    terminal.read_until(b"$ ", 30)
    terminal.write(b"count\n")
    print(terminal.expect([rb"\r\n(\d+)\r\n"], 30)[1].group(1).decode())
    terminal.write(b"exit\n")
    # The server ends at the next line only: a terminal that is closed at once may lose what was written last.
    print(terminal.expect([rb"(goodbye)"], 30)[1].group(1).decode())
    terminal.write(b"\n")
    terminal.read_all()
