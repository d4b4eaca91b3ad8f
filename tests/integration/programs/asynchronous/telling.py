"""What the programs beside this file share: which loop to run on, and what an error comes from."""

import asyncio
import sys


def run(main):
    """Run a coroutine on asyncio's own loop, or on uvloop's if the first argument of the program is ``uvloop``."""
    if sys.argv[1] == "uvloop":
        import uvloop

        uvloop.run(main)
    else:
        asyncio.run(main)


#: Where the libraries keep what an error came from, beside the language's own places.
_PLACES = ("__cause__", "__context__", "real_error", "value")


#: Where the libraries keep what an error came from, beside the language's own places.
_PLACES = ("__cause__", "__context__", "real_error", "value")


def causes(error):
    """Return an error and all that it came from, the members of groups too."""
    found, left = [], [error]
    while left:
        error = left.pop()
        if isinstance(error, BaseException) and error not in found:
            found.append(error)
            left += [getattr(error, place, None) for place in _PLACES]
            left += [*getattr(error, "exceptions", ()), *error.args]
    return found


def tell_refusal(error):
    """Print which refusal of the policy's an error comes from, or what it says if it comes from none."""
    for each in causes(error):
        kinds = [kind.__name__ for kind in type(each).__mro__]
        if "PolicyDenied" in kinds:
            print("denied", kinds[0], each.errno, each.cure is not None)
            return
    print(type(error).__name__, error)
