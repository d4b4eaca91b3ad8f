"""Dial one address through every way there is: the program that runs inside the proof of ``outgate doctor``.

``program.py`` runs, ``table.py`` lists the ways, the other modules are the ways. It is any program: standard library
only, Python 3.9+, and nothing of outgate's but this folder.
"""
