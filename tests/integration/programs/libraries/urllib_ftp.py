"""Fetch a file with urllib by its ftp: URL: python urllib_ftp.py HOST."""

import hashlib
import sys
import urllib.request

with urllib.request.urlopen(f"ftp://{sys.argv[1]}/large.bin", timeout=30) as answer:
    content = answer.read()
print(answer.headers["Content-Length"], len(content), hashlib.sha256(content).hexdigest()[:16])
