"""What is made from the code is what is in the tree: pages, sample and units."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from outgate.core import paths
from support import pages

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location("outgate_docs_generate", ROOT / "docs" / "generate.py")
generate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(generate)


@pytest.mark.parametrize("page", generate.PAGES)
def test_a_page_is_what_the_code_says(page):
    """The page in the tree is the one that docs/generate.py makes (python docs/generate.py --write)."""
    assert (ROOT / page).read_text(encoding="utf-8") == generate.PAGES[page]()


def test_the_script_prints_a_page(capsys):
    """The script prints the page it is asked for, and says what there is when it is asked for another."""
    assert generate.main(["docs/log.md"]) == 0
    assert capsys.readouterr().out == generate.log_page()
    assert generate.main(["nothing"]) == 2
    assert "docs/errors.md" in capsys.readouterr().err


def test_units_agree_with_the_defaults():
    """The socket unit listens where clients look first, and the service reads the file that the folder unit makes."""
    socket = (ROOT / "etc" / "outgate.socket").read_text()
    service = (ROOT / "etc" / "outgate.service").read_text()
    assert f"ListenSequentialPacket={paths.search_paths({}, 1000)[0]}\n" in socket
    assert "SocketMode=0666\n" in socket
    for line in ("Type=notify", "Restart=always", "LimitNOFILE=1048576", "RuntimeDirectoryPreserve=yes"):
        assert f"\n{line}\n" in service
    assert re.search(r"\nWatchdogSec=\d+s\n", service)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("with_console", [False, True])
def test_systemd_accepts_the_units(tmp_path, with_console):
    """systemd-analyze verify has nothing to say about the units, nor about what the console's page puts beside them."""
    files = {name: (ROOT / "etc" / name).read_text() for name in ("outgate.service", "outgate.socket")}
    units = [str(tmp_path / name) for name in files]
    if with_console:
        notes = [(block.notes.get("file", ""), block.text) for block in pages.blocks(ROOT / "docs/console.md")]
        ((path, text),) = [(path, text) for path, text in notes if path.startswith("/etc/systemd/system/")]
        files[path.removeprefix("/etc/systemd/system/")] = text
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace("/usr/bin/outgate", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "outgate" in line]
    assert said == []
