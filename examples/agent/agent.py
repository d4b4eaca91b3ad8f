"""Have a model write a program, run it in a sandbox, tell the model what was refused and why, until it works.

    python agent.py --allow api.example.com:443 --model 'llm' "How many people are in https://api.example.com/people ?"

``--model`` is any command that reads what was said so far and prints a Python program. ``scripted.py`` is one that
needs no network: it first reaches for a cloud's credentials, is refused, reads the reason, and does without.
"""

import argparse
import shlex
import subprocess
import sys

import sandbox

#: How often the model may try.
ATTEMPTS = 3
RULES = "Write one Python program that does the task and prints the answer. Print only the program."


def main() -> int:
    """Return 0 when a program has done the task, 1 when none has."""
    parser = argparse.ArgumentParser(description="Have a model write a program, and run it under a narrow policy.")
    parser.add_argument("task")
    parser.add_argument("--model", default=f"{sys.executable} scripted.py", metavar="COMMAND", help="writes programs")
    parser.add_argument("--allow", action="append", default=[], metavar="RULE", help="what they may reach, alone")
    parser.add_argument("--except", action="append", default=[], metavar="RULE", help="and what is denied otherwise")
    options = parser.parse_args()
    permitted = [f"--{key}={rule}" for key in ("allow", "except") for rule in getattr(options, key)]
    said = f"{RULES}\n\nTask: {options.task}\n"
    for attempt in range(1, ATTEMPTS + 1):
        written = subprocess.run(shlex.split(options.model), input=said, capture_output=True, text=True, check=True)
        print(f"-- attempt {attempt}: the model writes\n{written.stdout.strip()}")
        outcome = sandbox.run(written.stdout, permitted)
        if outcome.status == 0 and not outcome.refusals:
            print(f"-- it works\n{outcome.output.strip()}")
            return 0
        print(f"-- the model is told\n{outcome.feedback.strip()}")
        said += f"\nYour program:\n{written.stdout}\nWhat became of it:\n{outcome.feedback}\n"
    print("-- it was not done")
    return 1


if __name__ == "__main__":
    sys.exit(main())
