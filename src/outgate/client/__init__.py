"""Ask: the stand-in for ``_socket`` that is loaded into other people's programs. Standard library only, Python 3.9+."""
