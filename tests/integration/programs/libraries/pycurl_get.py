"""Fetch with pycurl, which is libcurl's: python pycurl_get.py URL."""

import io
import sys

import pycurl

body = io.BytesIO()
handle = pycurl.Curl()
handle.setopt(pycurl.URL, sys.argv[1])
handle.setopt(pycurl.TIMEOUT, 30)
handle.setopt(pycurl.WRITEDATA, body)
handle.perform()
print(handle.getinfo(pycurl.RESPONSE_CODE), body.getvalue().decode().strip())
handle.close()
