"""Fetch with requests over one pooled connection: python requests_get.py HOST."""

import hashlib
import sys

import requests

with requests.Session() as web:
    print(web.get(f"https://{sys.argv[1]}/moved", timeout=30).text.strip())
    print(web.get(f"https://{sys.argv[1]}/nth", timeout=30).text.strip())
    data = web.get(f"https://{sys.argv[1]}/large", timeout=30).content
    print(len(data), hashlib.sha256(data).hexdigest()[:16])
    print(web.post(f"https://{sys.argv[1]}/upload", data=b"y" * 1_000_000, timeout=30).text.strip())
