"""Open, use and end a protocol object, each in a process of its own: python travel.py STEP PROTOCOL FILE [WORD…].

STEP is ``open``, ``go_on`` or ``end``. The object is pickled into FILE by one step and opened from it by the next.
"""

import ftplib
import http.client
import imaplib
import pickle
import poplib
import smtplib
import sys
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # gone from Python 3.13 on
    import nntplib
    import telnetlib

TIMEOUT = 30


class Nntp:
    """A reader of news, within a group."""

    @staticmethod
    def open(host, group):
        server = nntplib.NNTP(host, timeout=TIMEOUT)
        print("InterNetNews" in server.getwelcome(), server.group(group)[1:])
        return server

    @staticmethod
    def go_on(server):
        print(server.stat()[1], server.next()[1], len(server.over((1, 5))[1]))

    @staticmethod
    def end(server):
        print(server.next()[1], server.article("5")[1].number, server.quit()[:3])


class Pop3:
    """A mailbox, logged in to."""

    @staticmethod
    def open(host, user, password):
        server = poplib.POP3(host, timeout=TIMEOUT)
        server.user(user)
        server.pass_(password)
        print(server.stat()[0])
        return server

    @staticmethod
    def go_on(server):
        print(next(line for line in server.retr(2)[1] if line.startswith(b"Subject")))

    @staticmethod
    def end(server):
        print(next(line for line in server.retr(3)[1] if line.startswith(b"Subject")), server.quit()[:3])


class Imap:
    """A mailbox, selected."""

    @staticmethod
    def open(host, user, password):
        server = imaplib.IMAP4(host, timeout=TIMEOUT)
        server.login(user, password)
        print(server.state, server.select("INBOX", readonly=True))
        return server

    @staticmethod
    def go_on(server):
        print(server.state, server.fetch("1", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1][0][1])

    @staticmethod
    def end(server):
        print(server.state, server.search(None, "SUBJECT", "Third")[1], server.logout()[0])


class Smtp:
    """A mail, of which sender, recipient and text are each given by another process."""

    @staticmethod
    def open(host, port):
        server = smtplib.SMTP(host, int(port), local_hostname="worker.example", timeout=TIMEOUT)
        server.ehlo()
        print(server.has_extn("pipelining"), server.mail("sender@worker.example")[0])
        return server

    @staticmethod
    def go_on(server):
        print(server.rcpt("somebody@elsewhere.example")[0])

    @staticmethod
    def end(server):
        print(server.data(b"Subject: from three processes\r\n\r\nhello\r\n")[0], server.quit()[0])


class Ftp:
    """A login, whose files come by connections that each process makes."""

    @staticmethod
    def open(host):
        server = ftplib.FTP(host)  # the time-out that is meant by none stays that one
        print(server.login()[:3])
        return server

    @staticmethod
    def go_on(server):
        lines = []
        server.retrlines("RETR readme.txt", lines.append)
        print(lines, sorted(server.nlst()))

    @staticmethod
    def end(server):
        size = []
        server.retrbinary("RETR large.bin", lambda data: size.append(len(data)))
        print(sum(size), server.quit()[:3])


class Telnet:
    """A terminal: the prompt may have come with what was read before."""

    @staticmethod
    def open(host, user, password):
        terminal = telnetlib.Telnet(host, timeout=TIMEOUT)
        terminal.read_until(b"login: ", TIMEOUT)
        terminal.write(user.encode() + b"\n")
        terminal.read_until(b"Password: ", TIMEOUT)
        terminal.write(password.encode() + b"\n")
        print(terminal.read_until(b"Welcome", TIMEOUT)[-7:])
        return terminal

    @staticmethod
    def go_on(terminal):
        terminal.read_until(b"$ ", TIMEOUT)
        terminal.write(b"count\n")

    @staticmethod
    def end(terminal):
        print(terminal.expect([rb"\r\n(\d+)\r\n"], TIMEOUT)[1].group(1))
        terminal.write(b"exit\n")
        print(terminal.read_until(b"goodbye", TIMEOUT).decode().split()[-1])
        terminal.write(b"\n")  # now it ends
        terminal.read_all()


class Http:
    """A connection that is kept alive, between two responses."""

    @staticmethod
    def open(host):
        connection = http.client.HTTPConnection(host, timeout=TIMEOUT)
        return Http.go_on(connection)

    @staticmethod
    def go_on(connection):
        connection.request("GET", "/nth")
        response = connection.getresponse()
        print(response.status, response.read())
        return connection

    @staticmethod
    def end(connection):
        Http.go_on(connection).close()


class Unread:
    """A response of which some has been read, and the connection that it came by."""

    @staticmethod
    def open(host):
        connection = http.client.HTTPConnection(host, timeout=TIMEOUT)
        connection.request("GET", "/large")
        response = connection.getresponse()
        print(response.status, len(response.read(100_000)))
        return connection, response

    @staticmethod
    def go_on(both):
        print(both[1].getheader("Content-Length"), len(both[1].read(1_000_000)), both[1].isclosed())

    @staticmethod
    def end(both):
        connection, response = both
        print(len(response.read()), response.isclosed())
        Http.end(connection)


def main():
    """Do one step."""
    step, protocol, path, *words = sys.argv[1:]
    kind = globals()[protocol]
    if step == "open":
        kept = kind.open(*words)
    else:
        with open(path, "rb") as file:
            kept = pickle.load(file)
        getattr(kind, step)(kept)
    if step != "end":
        with open(path, "wb") as file:
            pickle.dump(kept, file)


if __name__ == "__main__":
    main()
