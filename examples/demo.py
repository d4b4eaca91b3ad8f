"""Show the news reader, on this machine alone: a session that one process opens and another goes on with.

``make demo`` runs this. It needs no privilege and no internet. Where there is a browser and a display it opens the page
and stays until Ctrl-C; elsewhere it prints what the page shows and ends by itself, with status 0 if all of it happened.
"""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from page import Page

EXAMPLE = Path(__file__).resolve().parent / "newsreader"
GROUP = "sample.bread"
#: Where no policy should let anybody: a cloud's metadata service.
FORBIDDEN = "169.254.169.254:80"
#: Seconds after which the demo gives up, and how long an article takes from the local server, to be seen arriving.
LONGEST, PACE = 50, 0.4

#: Nothing here is for a proxy.
web = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Program:
    """A program that runs beside the demo, and what it has said on standard error and output."""

    def __init__(self, *words: str, folder: Path, **changes: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *words], cwd=folder, env={**os.environ, **changes}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip())
                self._changed.notify_all()
        with self._changed:
            self.lines.append("")
            self._changed.notify_all()

    def wait_for(self, pattern: str) -> "re.Match[str]":
        """Return the match in the first line that has one, when it has been said."""
        seen = 0
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    match = re.search(pattern, line)
                    if match:
                        return match
                seen = len(self.lines)
                if self.process.poll() is not None and not self._thread.is_alive():
                    raise SystemExit("demo: a program has ended early:\n" + "\n".join(self.lines))
                self._changed.wait(1)

    def stop(self) -> None:
        """End it as Ctrl-C would."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._thread.join(10)


def main() -> None:
    """Run the demo."""
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LONGEST)
    with tempfile.TemporaryDirectory(prefix="outgate-demo-") as name:
        folder = Path(name) / "newsreader"
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "news.db*"))
        news = Program("newsserver.py", "--port", "0", "--pace", str(PACE), folder=folder)
        try:
            place = news.wait_for(r"^news at (\S+)")[1]
            policy = folder / "front.yaml"
            policy.write_text(policy.read_text().replace("127.0.0.1:7119", place))
            log = folder / "decisions.jsonl"
            words = ("-m", "outgate", "dev", "--port", "0", "--log", str(log), "front.yaml", "back.yaml")
            dev = Program(*words, folder=folder, NEWS_SERVER=place)
            try:
                tell(dev, news, place, log)
            finally:
                dev.stop()
        finally:
            news.stop()


def tell(dev: Program, news: Program, place: str, log: Path) -> None:
    """Go through the news reader, and say what is to be seen."""
    say("1. Two services, one policy: a front end, a back end, and a news server on this machine.")
    print("$ outgate dev front.yaml back.yaml")
    base = "http://" + dev.wait_for(r"default: http://(\S+?)/")[1]
    gate = dev.wait_for(r"outgate ps --socket (\S+?);")[1]
    print(f"  the page is at {base}/")

    say(f"2. The page lists the groups of {place}, which the policy names as an exception.")
    page = Page(ask(f"{base}/"))
    for group, count, about in zip(page.all("name"), page.all("count"), page.all("about")):
        print(f"  {group:<15} {count:>2}  {about}")
    expect(GROUP in page.all("name"), "the groups are listed", page.html)

    say(f"3. It opens {GROUP}: the front end dials, and passes the open session to a task; the back end reads on.")
    with ask_for(f"{base}/readings", {"server": place, "group": GROUP}) as answer:
        shown = answer.url.partition("?")[0]
    has_browser = is_seen(shown)
    final = watch(shown, gate)

    say("4. Two processes, one connection. The server has seen it whole, from the greeting to QUIT:")
    opener, worker = re.findall(r"process (\d+)", final.one("session"))
    print(f"  front end  process {opener:<7} opened the connection")
    print(f"  back end   process {worker:<7} read on, and said QUIT")
    print("  " + news.wait_for(r"connection \d+: .*GROUP.*QUIT")[0])
    expect(opener != worker, "another process reads on", final.html)

    say("5. The decision log has one decision for it, and one end with its bytes:")
    lines = of_lease(log, int(opener))
    for line in lines:
        print("  " + json.dumps(line, ensure_ascii=False))
    expect([line["event"] for line in lines] == ["decision", "end"], "the log has the connection", log.read_text())

    say(f"6. What the policy does not permit, the page says in words. Somebody asks for {FORBIDDEN}:")
    page = Page(ask(f"{base}/readings", {"server": FORBIDDEN, "group": "x"}, status=502))
    print(f"  {page.one('what')}\n  {page.one('cure')}")
    expect("(metadata)" in page.one("what") and bool(page.one("cure")), "the policy refuses", page.html)

    if has_browser:
        signal.alarm(0)
        say(f"The page is open: {shown}  Ctrl-C ends it all.")
        try:
            dev.process.wait()
        except KeyboardInterrupt:
            print()
    say("Next:")
    print(
        "  .venv/bin/python examples/newsreader/newsserver.py         # that server, in a terminal of its own\n"
        "  .venv/bin/outgate dev examples/newsreader/front.yaml examples/newsreader/back.yaml\n"
        "  make tour                                                  # three unmodified programs under one gate\n"
        "  .venv/bin/outgate run -- python YOUR_PROGRAM.py            # and one of yours: public destinations only"
    )


def watch(shown: str, gate: str) -> Page:
    """Print what changes on the page of a reading until nothing does, and return the whole page."""
    depths: dict[str, str] = {}
    said: set[str] = set()
    arrived = 0
    for html in events(shown):
        part = Page(html)
        for each in part.elements:
            if "article" in each.names:
                depths[each.attributes["id"]] = next(name[6:] for name in each.names if name.startswith("depth-"))
        for step in part.all("step"):
            if step not in said:
                print(f"  {step}")
                said.add(step)
        for each in part.elements:
            if "article" in each.names and "coming" not in each.names:
                arrived += 1
                print(f"    {'  ' * int(depths[each.attributes['id']])}{part.one('subject')}  ({part.one('by')})")
                if arrived == 1:
                    show("outgate", "ps", "--socket", gate)
    expect(arrived == len(depths) > 0, "all articles have arrived", repr(depths))
    page = Page(ask(shown))
    expect("was told QUIT" in page.one("session"), "the session has ended as it should", page.html)
    return page


def events(shown: str) -> "Iterator[str]":
    """Follow the page's server-sent events, and yield the HTML of each part that changes."""
    with ask_for(f"{shown}/events") as stream:
        event = ""
        for raw in stream:
            name, _, value = raw.decode().rstrip("\n").partition(": ")
            if name == "event":
                event = value
            elif name == "data" and event == "part":
                yield json.loads(value)["html"]


def of_lease(log: Path, pid: int) -> "list[dict[str, object]]":
    """Return what the decision log says of the last connection that a process has made, when that has ended."""
    while True:
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        made = [line["lease"] for line in lines if line.get("pid") == pid and line["event"] == "decision"]
        found = [line for line in lines if made and line.get("lease") == made[-1]]
        if any(line["event"] == "end" for line in found):
            break
        time.sleep(0.05)  # nobody tells of a line in a file
    keys = ("event", "lease", "pid", "host", "port", "verdict", "sent", "received", "duration", "how")
    return [{key: line[key] for key in keys if key in line} for line in found]


def is_seen(url: str) -> bool:
    """Open a page for whoever sits here, and return whether somebody does."""
    if not sys.stdout.isatty() or not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False


def ask_for(url: str, form: "dict[str, str] | None" = None) -> "http.client.HTTPResponse":
    """Make a request as the page would, and return the answer to it, wherever it leads."""
    return web.open(url, form and urllib.parse.urlencode(form).encode(), timeout=20)


def ask(url: str, form: "dict[str, str] | None" = None, status: int = 200) -> str:
    """Make a request, hold the answer to its status, and return its text."""
    try:
        with ask_for(url, form) as answer:
            found, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            found, text = error.code, error.read().decode()
    expect(found == status, f"{url} is answered {status}, not {found}", text)
    return text


def show(*words: str) -> None:
    """Print a command as one would type it, and what it prints."""
    print("    $ " + " ".join(words), flush=True)
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, timeout=20)
    for line in done.stdout.splitlines():
        print("      " + line)
    expect(done.returncode == 0, " ".join(words), done.stderr)


def say(text: str) -> None:
    """Print a heading."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"\n{bold}{text}{plain}", flush=True)


def expect(happened: bool, what: str, seen: str) -> None:
    """Hold the demo to what it says. Ends it with status 1 where that did not happen, and shows what did."""
    if not happened:
        raise SystemExit(f"demo: this did not happen: {what}\n{seen}")


def give_up(*_: object) -> None:
    """End a demo that takes too long."""
    raise SystemExit(f"demo: it has not ended within {LONGEST} seconds")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:  # urllib's are, too
        raise SystemExit(f"demo: {error}") from None
