"""The back end: it has nothing to show, and goes on with the sessions that the front end has opened."""

from __future__ import annotations

import sessions  # noqa: F401  # so that the first task does not wait for it
from flask import Flask

app = Flask(__name__)


@app.get("/")
def index() -> tuple[str, dict[str, str]]:
    """Answer whoever looks."""
    return "the back end reads the news that the front end opens\n", {"Content-Type": "text/plain; charset=utf-8"}
