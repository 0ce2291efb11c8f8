"""Processor time of the commands, of two versions of this project in turn.

Each command runs in a process of its own, in a new folder, with a new user's cache: once
with nothing in it ("first") and once more in another folder ("second"). In each round the
two versions follow each other in a new random order; ratios are of the same round.
`to_first` is what the second took of the first, with the newer version. What counts is the
time of all threads, as the system tells it when a process has ended.

    git worktree add ../before COMMIT
    python benchmarks/end_to_end.py ../before . --out benchmarks/results/end_to_end.csv

A version without a cache takes as long for the second: `--no-second-before` leaves it out.
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

import result_file

COMMANDS = {
    "import-jax": "",
    "help": "--help",
    **{
        f"{name}-help": f"{name} --help"
        for name in (
            *("train", "reproduce", "report", "flatness", "diagnose"),
            *("simulate", "exit-times", "markov-chain"),
        )
    },
    "simulate": "simulate --directory {folder}",
    "train": "train --directory {folder}",
    "reproduce": "reproduce --directory {folder}",
}
HAS_SECOND = ("simulate", "train", "reproduce")
IS_TRAINED = ("train", "reproduce")


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


def one_round(
    version: pathlib.Path, name: str, options: list[str], turns: tuple[str, ...]
) -> dict[str, float]:
    """Turn -> seconds of a command, with an empty cache and then with a filled one."""
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for turn in turns:
            words = COMMANDS[name].format(folder=f"{cache}/{turn}").split()
            found[turn] = processor_seconds(version, [*words, *options], cache)
    return found


def quotient(
    numerators: list[float], denominators: list[float], name: str
) -> dict[str, str]:
    """The median and the range of the ratios of the same round; empty if not both ran."""
    if not numerators or not denominators:
        return {name: "", f"{name}_range": ""}
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return {
        name: f"{statistics.median(ratios):.3f}",
        f"{name}_range": f"{min(ratios):.3f}-{max(ratios):.3f}",
    }


def rows_of(
    name: str, before: list[dict[str, float]], after: list[dict[str, float]]
) -> list[dict[str, str]]:
    """A row for each turn, from the rounds of both versions."""
    rows = []
    for turn in after[0]:
        old = [found[turn] for found in before if turn in found]
        new = [found[turn] for found in after]
        first = [found["first"] for found in after] if turn == "second" else []
        rows.append(
            {
                "command": f"{name}, {turn}" if turn else name,
                "before_s": f"{statistics.median(old):.2f}" if old else "",
                "after_s": f"{statistics.median(new):.2f}",
                **quotient(new, old, "ratio"),
                **quotient(new, first, "to_first"),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=pathlib.Path, help="folder of one version")
    parser.add_argument("after", type=pathlib.Path, help="folder of the other")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument(
        "--steps", type=int, help="of each run; by default the preset's"
    )
    parser.add_argument("--no-second-before", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    order, rows = random.Random(0), []
    versions = {"before": arguments.before, "after": arguments.after}
    for name in arguments.only:
        is_cut = arguments.steps is not None and name in IS_TRAINED
        options = ["--steps", str(arguments.steps)] if is_cut else []
        found: dict[str, list[dict[str, float]]] = {"before": [], "after": []}
        for _ in range(arguments.rounds):
            for version in order.sample(sorted(versions), 2):
                turns = ("first", "second") if name in HAS_SECOND else ("",)
                if version == "before" and arguments.no_second_before:
                    turns = turns[:1]
                found[version].append(
                    one_round(versions[version], name, options, turns)
                )
        for row in rows_of(name, **found):
            rows.append({**row, "options": " ".join(options)})
            print(rows[-1], flush=True)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
