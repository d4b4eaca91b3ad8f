"""The front end: opens a connection, says the first words, and passes the open socket on to the back end."""

import os
import socket
from html import escape
from urllib.parse import parse_qs

import talk

from outgate.dev import taskqueue

PAGE = """<!doctype html><meta charset="utf-8"><title>A socket that travels</title>
<h1>A socket that travels</h1>
<form method="post" action="/say"><input name="text" value="how are you?"> <button>Say it</button></form>
<ul>{heard}</ul>
"""
heard = []  # of one instance; what more than one must know belongs in a database


def app(environ, start_response):
    """Show what was heard; begin a conversation; take what a task has to tell."""
    form = {}
    if environ["REQUEST_METHOD"] == "POST":
        form = parse_qs(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode())
    if environ["PATH_INFO"] == "/say":
        begin(form.get("text", [""])[0])
        start_response("303 See Other", [("Location", "/")])
        return []
    if environ["PATH_INFO"] == "/heard":
        heard.append(form["line"][0])
        print("heard:", form["line"][0], flush=True)
        start_response("204 No Content", [])
        return []
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [PAGE.format(heard="".join(f"<li>{escape(line)}" for line in heard)).encode()]


def begin(text):
    """Open the connection, greet, and leave the rest to whoever runs the queue's tasks."""
    host, _, port = os.environ["PARTNER"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(f"hello, this is process {os.getpid()}\r\n".encode())
        with sock.makefile("rb") as file:
            heard.append(f"front end, process {os.getpid()}: {file.readline().decode().strip()}")
            # The file goes along: it may have read ahead.
            taskqueue.defer(talk.go_on, sock, file, text, _queue="talk")
