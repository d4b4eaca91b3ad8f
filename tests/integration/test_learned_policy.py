"""A program is learned from in a world of names, and held to what was learned: it works, and nothing else does."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from support.fenced import Step, asked, attempts, check_refused, command, natively
from support.world import DOMAIN, MAIL, METADATA, PRIVATE4, TRAP_PORT, WWW, World

PUBLIC_NAME, SAME_NAME, INSIDE, METADATA_NAME = (f"{host}.{DOMAIN}" for host in ("www4", "www6", "inside", "metadata"))

#: What the program does: by name and by address, public and not, at once and after a look-up of its own.
STEPS: tuple[Step, ...] = (
    ("create", PUBLIC_NAME, 443),
    ("connect", PUBLIC_NAME.upper(), 80),
    ("stream", SAME_NAME, 443),
    ("create", WWW[0], 80),  # known by name by then
    ("create", MAIL[0], 143),
    ("create", INSIDE, TRAP_PORT),
    ("create", METADATA_NAME, TRAP_PORT),
)
#: What it did not do, though it could have: other names, ports and addresses, some of them at the same address.
OTHERS: tuple[Step, ...] = (
    ("create", f"www.{DOMAIN}", 443),
    ("create", f"mail4.{DOMAIN}", 110),
    ("create", PUBLIC_NAME, 8080),
    ("connect", INSIDE, 81),
    ("create", PRIVATE4, 81),
    ("create", METADATA, 81),
    ("create", f"both.{DOMAIN}", TRAP_PORT),
)


def learn(world: World, policy: Path, *steps: Step) -> None:
    """Have a policy learned of these steps, all of which must work as they do natively."""
    done = world.outgate("run", "--fence", "--learn", str(policy), "--", *command(*steps))
    assert json.loads(done.stdout) == natively(world, *steps), done.stderr


def test_a_learned_policy_is_what_the_program_needs(world: World, log: Path, tmp_path: Path) -> None:
    """What was done goes on to work, rules by name hold for it, and whatever else is tried is refused."""
    policy = tmp_path / "policy.toml"
    learn(world, policy, *STEPS)
    app = tomllib.loads(policy.read_text(encoding="utf-8"))["apps"]["default"]
    assert app["allow"] == [f"tcp://{PUBLIC_NAME}:80,443", f"tcp://{SAME_NAME}:443", f"tcp://{MAIL[0]}:143"]
    assert app["except"] == [f"tcp://{INSIDE}:{TRAP_PORT}", f"tcp://{METADATA}:{TRAP_PORT}"]
    again = attempts(world, log, *STEPS, options=("--config", str(policy)))
    assert again == natively(world, *STEPS)
    check_refused(OTHERS, attempts(world, log, *OTHERS, options=("--config", str(policy))))


def test_names_that_were_not_reached_are_asked_of_nobody(world: World, log: Path, tmp_path: Path) -> None:
    """With ``--names`` a learned policy has no other name looked up, though an exception by address is in it."""
    kept, policy = tmp_path / "kept.jsonl", tmp_path / "policy.toml"
    done = world.outgate("run", "--learn", str(tmp_path / "first.toml"), "--log", str(kept), "--", *command(*STEPS))
    assert done.returncode == 0, done.stderr
    assert world.outgate("learn", str(kept), "--names", "-o", str(policy)).returncode == 0
    others = tuple(step for step in OTHERS if step[1] not in (PRIVATE4, METADATA, PUBLIC_NAME, INSIDE))
    with world.watch() as watch:
        held = attempts(world, log, *STEPS, options=("--config", str(policy)))
        names = asked(watch)
    assert held == natively(world, *STEPS)
    assert names == {step[1].lower() for step in STEPS if step[1] not in (WWW[0], MAIL[0])}
    with world.watch() as watch:
        check_refused(others, attempts(world, log, *others, options=("--config", str(policy))))
        assert not asked(watch)
