"""Fetch with httpx's synchronous client over HTTP/1.1 and HTTP/2: python httpx_http2.py HOST."""

import hashlib
import sys

import httpx

base = f"https://{sys.argv[1]}"
for version in (1, 2):
    with httpx.Client(timeout=30, http2=version == 2, follow_redirects=True) as web:
        answer = web.get(base + "/moved")
        print(answer.http_version, answer.text.strip(), [step.status_code for step in answer.history])
        digest = hashlib.sha256()
        with web.stream("GET", base + "/large") as answer:
            for part in answer.iter_bytes():
                digest.update(part)
        print(digest.hexdigest()[:16])
        print(web.post(base + "/upload", content=b"y" * 1_000_000).text.strip())
