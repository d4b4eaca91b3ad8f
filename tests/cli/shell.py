"""A shell of one job: puts it into the foreground of the terminal at fd 0 and reports what becomes of it.

``shell.py FD COMMAND [ARG ...]`` writes one JSON object a line to FD: the job's pid, then each stop, continuation and
the end. A real shell is not used because what it prints, and when, is its own.
"""

import fcntl
import json
import os
import signal
import sys
import termios


def main() -> None:
    reports, command = int(sys.argv[1]), sys.argv[2:]
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pid = os.fork()
    if pid == 0:
        os.close(reports)
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execvp(command[0], command)

    def report(**what: object) -> None:
        os.write(reports, json.dumps(what).encode() + b"\n")

    report(job=pid)
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED | os.WCONTINUED)
        if os.WIFSTOPPED(status):
            report(stopped=os.WSTOPSIG(status))
        elif os.WIFCONTINUED(status):
            report(continued=True)
        elif os.WIFSIGNALED(status):
            report(signalled=os.WTERMSIG(status))
            return
        else:
            report(exited=os.WEXITSTATUS(status))
            return


main()
