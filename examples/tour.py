"""Show the main job, on this machine alone: a gate, three unmodified programs, and one that is refused.

``make tour`` runs this. It needs no privilege and no internet, and ends by itself.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import servers

HERE = Path(__file__).resolve().parent
OUTGATE = [sys.executable, "-m", "outgate"]

CONFIGURATION = """\
version = 1

[gate]
socket = "{folder}/gate.sock"
log = "{folder}/decisions.jsonl"

[apps.demo]
uid = [{uid}]
billing = true
trusted = true
# Loopback is denied by default, as everything non-public is. These three servers are the exceptions.
except = ["tcp://127.0.0.1:{mail},{news},{web}"]
"""


def say(text: str) -> None:
    """Print a heading."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"\n{bold}{text}{plain}", flush=True)


def show(*command: str, environ: "dict[str, str]", status: int = 0) -> None:
    """Print a command as one would type it, run it, and hold it to its exit status."""
    short = [os.path.relpath(word) if word.startswith(str(HERE)) else word for word in command]
    print("$ " + " ".join(short), flush=True)
    words = [sys.executable, *command[1:]] if command[0] == "python" else [*OUTGATE, *command[1:]]
    words = [sys.executable if word == "python" else word for word in words]
    done = subprocess.run(words, env=environ, timeout=60, check=False)
    if done.returncode != status:
        raise SystemExit(f"tour: {' '.join(short)} ended with {done.returncode} instead of {status}")


def main() -> None:
    """Give the tour."""
    with tempfile.TemporaryDirectory(prefix="outgate-tour-") as name:
        folder = Path(name)
        ports = servers.start(folder)
        configuration = folder / "outgate.toml"
        configuration.write_text(CONFIGURATION.format(folder=folder, uid=os.getuid(), **ports))
        say("1. The gate: one process for all programs of a host. This is its whole configuration.")
        print(configuration.read_text().replace(name, "…"))
        gate = subprocess.Popen(
            [*OUTGATE, "serve", "--config", str(configuration)], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        try:
            assert gate.stderr is not None
            ready = gate.stderr.readline().strip()
            if gate.poll() is not None:
                raise SystemExit(f"tour: the gate did not start: {ready}")
            print("  " + ready.replace(name, "…"))
            tell(folder, ports)
        finally:
            gate.terminate()
            gate.wait(10)


def tell(folder: Path, ports: "dict[str, int]") -> None:
    """Run the programs and show what the gate says of them."""
    environ = {**os.environ, "OUTGATE_SOCKET": str(folder / "gate.sock")}
    quiet = ["outgate", "run", "-q", "--", "python"]
    say("2. Three unmodified programs, each in an empty network of its own. Only sockets from the gate lead out.")
    mailbox = ("127.0.0.1", str(ports["mail"]), "reader", "secret")
    show("outgate", "run", "--", "python", str(HERE / "programs/mail.py"), *mailbox, environ=environ)
    show(*quiet, str(HERE / "programs/news.py"), "127.0.0.1", str(ports["news"]), environ=environ)
    page = f"https://127.0.0.1:{ports['web']}/"
    show(*quiet, str(HERE / "programs/web.py"), page, str(folder / "ca.pem"), environ=environ)
    say("3. A refusal is an OSError with its reason and its cure. Nothing was sent.")
    show(*quiet, str(HERE / "programs/metadata.py"), environ=environ)
    say("4. The same decision, asked for without a connect:")
    show("outgate", "why", "169.254.169.254:80", environ=environ, status=1)
    say("5. The log has a line for each decision and one for each end, exact to the byte:")
    with open(folder / "decisions.jsonl", encoding="utf-8") as log:
        for line in map(json.loads, log):
            if line["event"] == "decision":
                print(f"  {line['program']:<12} {line['host']}:{line['port']:<6} {line['verdict']:<6} {line['rule']}")
            elif line["event"] == "end":
                print(f"  {'':<12} … {line['sent']} bytes sent, {line['received']} received, {line['how']}")
    say("6. Counts per app:")
    show("outgate", "stats", environ=environ)
    say("Next, with a program of your own:")
    print(
        "  .venv/bin/outgate run -- python YOUR_PROGRAM.py        # public destinations only\n"
        "  .venv/bin/outgate run --except HOST_ADDRESS:PORT -- …  # and one exception\n"
        "  .venv/bin/outgate run --help\n"
        "  make test"
    )


if __name__ == "__main__":
    main()
