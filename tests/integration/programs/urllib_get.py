"""Fetch with urllib and follow a redirect: python urllib_get.py URL."""

import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1], timeout=30) as answer:
    print(answer.status, answer.geturl().rsplit("/", 1)[1], answer.read().decode().strip())
