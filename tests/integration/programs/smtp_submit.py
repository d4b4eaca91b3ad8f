"""Submit a message with smtplib over STARTTLS with a password: python smtp_submit.py HOST PORT USER PASSWORD."""

import smtplib
import ssl
import sys

host, port, user, password = sys.argv[1:]
with smtplib.SMTP(host, int(port), timeout=30) as server:  # without local_hostname: getfqdn() finds one
    print("EHLO", server.local_hostname)
    print(server.starttls(context=ssl.create_default_context())[0], server.sock.version() in ("TLSv1.2", "TLSv1.3"))
    print(server.login(user, password)[0])
    print("refused recipients:", server.sendmail(user + "@corp.example", ["b@far.example"], "Subject: Hi\n\nHo."))
