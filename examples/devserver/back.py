"""The back end: it has nothing to show, and runs the tasks of its queue."""


async def app(scope, receive, send):
    """Answer whoever looks."""
    if scope["type"] == "http":
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"the back end runs tasks\n"})
