"""The front end: shows a server's groups, opens one, and shows its articles as the back end reads them.

``NEWS_SERVER`` names the server that the page begins with; the form on it takes any other.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import articles
import sessions
import store
from flask import Flask, Response, abort, redirect, render_template, request, url_for
from sessions import Server
from store import Group, Reading
from werkzeug.wrappers import Response as AnyResponse
from words import Trouble, explain

#: Where newsserver.py listens unless it is told otherwise.
LOCAL = "127.0.0.1:7119"
#: Seconds between two looks at the store, between two signs of life, and until the browser must ask again.
LOOK, SIGN, LONGEST = 0.1, 5, 60
#: The page runs its own script and style, talks to nobody else, and is nobody's frame.
CONTENT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

app = Flask(__name__)
app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
app.add_template_filter(articles.blocks, "blocks")
kept = store.default()


@app.after_request
def guard(response: Response) -> Response:
    """Have the browser hold what the page promises, whatever an article says."""
    response.headers["Content-Security-Policy"] = CONTENT
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"  # with none, a form's own Origin would be null
    return response


@app.before_request
def refuse_others() -> None:
    """Refuse forms that another site's page sends: they would open connections in this reader's name."""
    origin = request.headers.get("Origin")
    if request.method == "POST" and origin and urlsplit(origin).netloc != request.host:
        abort(403)


@app.get("/")
def index() -> tuple[str, int]:
    """Show the groups of a server."""
    asked = request.args.get("server") or os.environ.get("NEWS_SERVER") or LOCAL
    return page(asked, request.args.get("match") or "*")


@app.post("/readings")
def read() -> AnyResponse | tuple[str, int]:
    """Open a group, and show it from now on under an address of its own."""
    asked, name, pattern = (request.form.get(key, "") for key in ("server", "group", "match"))
    try:
        reading = sessions.open_group(kept, Server.of(asked), name)
    except Exception as error:
        return page(asked, pattern or "*", trouble=in_words(error, asked))
    return redirect(url_for("show", reading=reading, match=pattern or None), 303)


@app.get("/readings/<reading>")
def show(reading: str) -> tuple[str, int]:
    """Show a reading as far as it is."""
    found = kept.find(reading) or abort(404)
    return page(found.server, request.args.get("match") or "*", found)


@app.get("/readings/<reading>/events")
def events(reading: str) -> Response:
    """Send what changes of a reading, until nothing will."""
    if kept.find(reading) is None:
        abort(404)
    since = request.headers.get("Last-Event-ID") or request.args.get("since", "")
    lines = follow(reading, int(since) if since.isdecimal() and len(since) < 10 else 0)
    return Response(lines, mimetype="text/event-stream", headers={"Cache-Control": "no-store"})


@app.post("/failed/<reading>")
def failed(reading: str) -> tuple[str, int]:
    """Note that the task of a reading has failed for good. The queue alone may say so (``login: admin``)."""
    kept.fail(reading, "The back end could not go on with the session.", request.get_data(as_text=True))
    return "", 204


@app.errorhandler(403)
@app.errorhandler(404)
def nothing_here(error: Exception) -> tuple[str, int]:
    """Say that a reading is gone, or was never there."""
    code = int(getattr(error, "code", 404))
    text = "This is not here, or not any more: articles are kept for an hour."
    if code == 403:
        text = "That form came from another site."
    trouble = Trouble(text, "Begin with the groups.")
    return render_template("page.html", trouble=trouble, groups=[], server=LOCAL, match="*"), code


def page(asked: str, pattern: str, reading: Reading | None = None, trouble: Trouble | None = None) -> tuple[str, int]:
    """Return the page and its status: the groups of a server, and a reading or what went wrong."""
    groups: list[Group] = []
    try:
        server = Server.of(asked)
        # After a refusal the server is not asked once more for what is not known.
        groups = listing(server, sessions.word(pattern)) if trouble is None else kept.groups(str(server), pattern) or []
    except Exception as error:
        trouble = trouble or in_words(error, asked)
    text = render_template(
        "page.html",
        server=asked,
        match=pattern,
        groups=groups,
        trouble=trouble,
        reading=reading,
        articles=kept.articles(reading.id) if reading else [],
    )
    return text, 502 if trouble and not reading else 200


def listing(server: Server, pattern: str) -> list[Group]:
    """Return a server's groups, from the store where they are fresh."""
    groups = kept.groups(str(server), pattern)
    if groups is None:
        groups = sessions.groups(server, pattern)
        kept.keep_groups(str(server), pattern, groups)
    return groups


def in_words(error: Exception, server: str) -> Trouble:
    """Return what to show of an error; what was typed wrong says itself what would be right."""
    return Trouble(str(error)) if isinstance(error, sessions.Mistyped) else explain(error, server)


def follow(reading: str, since: int) -> Iterator[str]:
    """Yield server-sent events: parts of the page by their ids, as they change, and at the end ``over``."""
    sent: dict[str, str] = {}
    with app.app_context():
        begun = told = time.monotonic()
        while time.monotonic() < begun + LONGEST:
            found = kept.find(reading)
            if found is None:
                break
            if found.revision > since:
                made = parts(found, since)
                for name in (each for each in made if made[each] != sent.get(each)):
                    data = json.dumps({"id": name, "html": made[name]})
                    yield f"id: {found.revision}\nevent: part\ndata: {data}\n\n"
                sent.update(made)
                since, told = found.revision, time.monotonic()
            if found.is_over:
                break
            if time.monotonic() > told + SIGN:
                yield ": still here\n\n"  # who has gone is noticed by writing to it
                told = time.monotonic()
            time.sleep(LOOK)
        else:
            return
    yield "event: over\ndata: \n\n"


def parts(found: Reading, since: int) -> dict[str, str]:
    """Return the parts of the page that a reading has changed since a revision, by their ids."""
    every = kept.articles(found.id)
    changed = [each for each in every if each.revision > since]
    if not every or any(each.text is None for each in changed):  # some are new, and so their places
        made = {"articles": render_template("articles.html", reading=found, articles=every)}
    else:
        made = {f"article-{each.number}": render_template("article.html", article=each) for each in changed}
    return {**made, "session": render_template("session.html", reading=found)}
