"""Run a program in a sandbox of sandlock's that may connect to loopback: ``sandlocked.py PROGRAM ARGUMENTS``."""

import sys

from sandlock import Sandbox

sandbox = Sandbox(fs_readable=["/"], fs_writable=["/tmp"], net_allow=["127.0.0.1:*"])
sys.exit(sandbox.run_interactive(sys.argv[1:]))
