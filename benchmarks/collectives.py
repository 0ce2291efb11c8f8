"""The collectives of a compiled program, and how much each of them sends."""

import math
import re

# An instruction's result type, a tuple perhaps, and its name. Layouts have brackets.
_COLLECTIVE = re.compile(
    r"= (\((?:[^()]|\([^()]*\))*\)|\S+) "
    r"(all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)"
    r"(?:-start)?\("
)
_ARRAY = re.compile(r"\w+\[([\d,]*)\]")


def collectives(program: str) -> dict[str, list[int]]:
    """For each kind of collective in the text of compiled HLO, the elements of each."""
    found: dict[str, list[int]] = {}
    for result, kind in _COLLECTIVE.findall(program):
        sizes = [
            math.prod(int(length) for length in lengths.split(",") if length)
            for lengths in _ARRAY.findall(result)
        ]
        found.setdefault(kind, []).append(sum(sizes))
    return found


def collectives_by_branch(
    program: str,
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Collectives that every run meets, and those in branches and loops."""
    inner, entry = program.split("\nENTRY ")
    return collectives(entry), collectives(inner)
