"""Fetch in child processes, made by fork, by spawn and by a shell: python children.py URL."""

import multiprocessing
import shlex
import subprocess
import sys
import urllib.request


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode().strip()


if __name__ == "__main__":
    url = sys.argv[1]
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(method, pool.apply(fetch, (url,)))
    code = f"import urllib.request; print('shell', urllib.request.urlopen({url!r}).read().decode().strip())"
    print(subprocess.check_output(f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}", shell=True, text=True))
