"""Get a URL with a library that reads the proxy variables by itself, and say what came, or what went wrong."""

import sys

library, url = sys.argv[1:]
try:
    if library == "requests":
        import requests

        text = requests.get(url, timeout=10).text
    elif library == "httpx":
        import httpx

        text = httpx.get(url, timeout=10).text
    else:
        from urllib.request import urlopen

        text = urlopen(url, timeout=10).read().decode()
    print(text.strip())
except Exception as e:
    print(type(e).__name__, "403" in str(e))
