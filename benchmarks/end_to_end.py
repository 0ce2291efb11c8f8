"""Processor time of the commands, of two versions of this project in turn.

Each command runs in a process of its own, in a new folder, with a new user's cache: once
with nothing in it ("first") and once more in another folder ("second"). In each round the
two versions follow each other in a new random order; ratios are of the same round. What
counts is the time of all threads, as the system tells it when a process has ended.

    git worktree add ../before COMMIT
    python benchmarks/end_to_end.py ../before . --out benchmarks/results/end_to_end.csv
"""

import argparse
import os
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping

import result_file

COMMANDS = {
    "reproduce": "reproduce --num-seeds 1 --steps {steps} --directory {folder}",
    "train": "train --steps {steps} --directory {folder}",
    "reproduce-help": "reproduce --help",
    "simulate-help": "simulate --help",
    "import-jax": "",
}
HAS_SECOND = ("reproduce", "train")


def processor_seconds(version: pathlib.Path, words: list[str], cache: str) -> float:
    """Of one process with that version of the package, all threads together."""
    program = ["-m", "heavytail_optax", *words] if words else ["-c", "import jax"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(version.absolute()),
        "XDG_CACHE_HOME": cache,
    }
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *program],
        check=True,
        env=environment,
        cwd=cache,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def one_round(version: pathlib.Path, name: str, steps: int) -> dict[str, float]:
    """Name -> seconds of a command with an empty cache, and with a filled one."""
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for turn in ("first", "second") if name in HAS_SECOND else ("",):
            text = COMMANDS[name].format(steps=steps, folder=f"{cache}/{turn}")
            label = f"{name}, {turn}" if turn else name
            found[label] = processor_seconds(version, text.split(), cache)
    return found


def row(label: str, before: list[float], after: list[float]) -> Mapping[str, str]:
    """Medians, and the median and the range of the ratios of the same round."""
    ratios = [new / old for old, new in zip(before, after, strict=True)]
    return {
        "command": label,
        "before_s": f"{statistics.median(before):.2f}",
        "after_s": f"{statistics.median(after):.2f}",
        "ratio": f"{statistics.median(ratios):.3f}",
        "ratio_range": f"{min(ratios):.3f}-{max(ratios):.3f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=pathlib.Path, help="folder of one version")
    parser.add_argument("after", type=pathlib.Path, help="folder of the other")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--steps", type=int, default=120, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    order, rows = random.Random(0), []
    for name in arguments.only:
        times: dict[str, tuple[list[float], list[float]]] = {}
        for _ in range(arguments.rounds):
            versions = [(0, arguments.before), (1, arguments.after)]
            for place, version in order.sample(versions, 2):
                found = one_round(version, name, arguments.steps)
                for label, seconds in found.items():
                    times.setdefault(label, ([], []))[place].append(seconds)
        for label, (before, after) in times.items():
            rows.append({**row(label, before, after), "steps": arguments.steps})
            print(rows[-1], flush=True)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
