"""Run a program that fails, and tell how as one line of JSON: python how_it_fails.py PROGRAM [ARG ...].

What is told: the classes and text of the exception that the program saw, and of every exception within it: its causes,
and what it keeps in arguments and attributes.
"""

import json
import runpy
import sys


def within(error, seen):
    """Put an exception and what it carries into ``seen``, each once."""
    if any(error is known for known in seen):
        return
    seen.append(error)
    kept = [error.__cause__, error.__context__, *error.args, *vars(error).values()]
    while kept:
        one = kept.pop()
        if isinstance(one, BaseException):
            within(one, seen)
        elif isinstance(one, dict):
            kept += one.values()
        elif isinstance(one, (list, tuple)):
            kept += one


seen = []
del sys.argv[0]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except Exception as error:
    within(error, seen)
print(json.dumps([{"kinds": [kind.__name__ for kind in type(each).__mro__], "text": str(each)} for each in seen]))
