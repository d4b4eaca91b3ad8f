"""Fetch with requests, urllib and httpx, which follow redirects, and name the errors: python follow.py URL ..."""

import json
import sys
import urllib.request

import httpx
import requests


def chain(error):
    """Name the kinds of an error and of everything that it came from."""
    seen = []
    while error is not None:
        seen += [kind.__name__ for kind in type(error).__mro__]
        reason = getattr(error, "reason", None)
        error = error.__cause__ or error.__context__ or (reason if isinstance(reason, Exception) else None)
    return seen


WAYS = {
    "requests": lambda url: requests.get(url, timeout=10).text,
    "urllib": lambda url: urllib.request.urlopen(url, timeout=10).read().decode(),
    "httpx": lambda url: httpx.get(url, timeout=10, follow_redirects=True).text,
}
for url in sys.argv[1:]:
    for name, way in WAYS.items():
        try:
            print(json.dumps({"way": name, "url": url, "text": way(url)}))
        except Exception as error:
            print(json.dumps({"way": name, "url": url, "kinds": chain(error), "text": str(error)}))
