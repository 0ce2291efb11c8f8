"""Which run of the study beyond SGD comes next, from the rows of those that are done."""

import csv
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import result_file
from beyond_sgd_arms import ARMS, OPTIMIZERS, Family

Kind = Literal["tuning", "counts", "followed"]
Row = Mapping[str, str]

TUNING_SEEDS = {"lenet": (1000, 1001), "bytes": (1000,), "resnet": (1000,)}
TUNING_NOISE = {"lenet": "200", "bytes": "none", "resnet": "none"}
SPLITS = "valid", "train", "test"
SCORES = "loss", "accuracy", "calibration_error"
COLUMNS = [
    *("task", "noise", "optimizer", "arm", "kind", "seed"),
    *("learning_rate", "weight_decay", "data", "steps"),
    *(f"{split}_{score}" for split in SPLITS for score in SCORES),
    *(f"accuracy_{shift}" for shift in ("noise", "blur", "contrast")),
    *("expected_sharpness", "adaptive_sharpness"),
    *("critical_sharpness", "top_eigenvalue"),
    *("tail_index_before", "tail_index_after", "cut", "largest_update"),
    *(f"curve_{split}_{what}" for split in SPLITS[1:] for what in SCORES[:2]),
    *("curve_expected_sharpness", "seconds"),
    *("rounds", "device", "python", "jax", "optax", "commit"),
]


class Run(NamedTuple):
    """One run, by what makes it."""

    task: str
    noise: str
    optimizer: str
    arm: str
    kind: Kind
    seed: int
    learning_rate: float
    weight_decay: float


def in_words(value: Any) -> str:
    """A number, or several with spaces between them, of five digits."""
    return " ".join(f"{number:.5g}" for number in np.ravel(np.asarray(value)))


def rows_in(path: pathlib.Path) -> list[Row]:
    """The rows so far."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: pathlib.Path, row: Mapping[str, Any]) -> None:
    """Adds a row, while other processes may do so too."""
    with result_file.end_of(path) as (file, is_new):
        writer = csv.DictWriter(file, COLUMNS)
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def identity(run: Run) -> tuple:
    """What a run is skipped by: numbers as they come back from the file."""
    return (*run[:4], run.seed, f"{run.learning_rate:.4g}", f"{run.weight_decay:.4g}")


def done(rows: Sequence[Row]) -> set[tuple]:
    """The identities of all rows."""
    return {
        (
            *(row[name] for name in ("task", "noise", "optimizer", "arm")),
            int(row["seed"]),
            f"{float(row['learning_rate']):.4g}",
            f"{float(row['weight_decay']):.4g}",
        )
        for row in rows
    }


def score(row: Row) -> float:
    """What tuning makes large; a run that is not finite is the worst."""
    loss = float(row["valid_loss"])
    if not math.isfinite(loss):
        return -math.inf if row["task"] == "bytes" else 0.0
    return -loss if row["task"] == "bytes" else float(row["valid_accuracy"])


def tuned(
    rows: Sequence[Row], task: str, optimizer: str, arm: str
) -> dict[tuple[float, float], float]:
    """The mean score of each pair of which all tuning seeds are done."""
    scores: dict[tuple[float, float], list[float]] = {}
    wanted = (task, optimizer, arm, "tuning")
    for row in rows:
        if tuple(row[x] for x in ("task", "optimizer", "arm", "kind")) == wanted:
            pair = float(row["learning_rate"]), float(row["weight_decay"])
            scores.setdefault(pair, []).append(score(row))
    number = len(TUNING_SEEDS[task])
    return {p: float(np.mean(own)) for p, own in scores.items() if len(own) >= number}


def pairs_to_tune(
    family: Family, scores: Mapping[tuple[float, float], float]
) -> list[tuple[float, float]]:
    """The grid, and one more rate once the best of the grid is at its edge."""
    grid = [(rate, decay) for rate in family.rates for decay in family.decays]
    if not all(pair in scores for pair in grid):
        return grid
    best = max(grid, key=lambda pair: scores[pair])[0]
    beyond = {family.rates[0]: best / 3, family.rates[-1]: best * 3}
    if best not in beyond:
        return grid
    more = float(f"{beyond[best]:.4g}")
    return grid + [(more, decay) for decay in family.decays]


def chosen(
    rows: Sequence[Row], task: str, optimizer: str, arm: str
) -> tuple[float, float] | None:
    """The best pair of an arm, once it is known."""
    factor = ARMS[arm].rate
    if factor is not None:
        best = chosen(rows, task, optimizer, "alone")
        return best and (float(f"{best[0] * factor:.4g}"), best[1])
    scores = tuned(rows, task, optimizer, arm)
    pairs = pairs_to_tune(OPTIMIZERS[optimizer], scores)
    if not all(pair in scores for pair in pairs):
        return None
    return max(pairs, key=lambda pair: scores[pair])


def runs_of(
    rows: Sequence[Row],
    task: str,
    noise: str,
    optimizer: str,
    arm: str,
    num_seeds: int,
) -> Iterator[Run]:
    """All runs of an arm that can be told now, tuning first."""
    if ARMS[arm].rate is None:
        scores = tuned(rows, task, optimizer, arm)
        for pair in pairs_to_tune(OPTIMIZERS[optimizer], scores):
            for seed in TUNING_SEEDS[task]:
                own = TUNING_NOISE[task]
                yield Run(task, own, optimizer, arm, "tuning", seed, *pair)
    best = chosen(rows, task, optimizer, arm)
    if best is not None:
        kind: Kind = "followed" if arm == "alone" else "counts"
        for seed in range(num_seeds):
            yield Run(task, noise, optimizer, arm, kind, seed, *best)


def next_run(
    rows: Sequence[Row],
    *,
    task: str,
    num_seeds: int,
    noises: Sequence[str],
    optimizers: Sequence[str],
    arms: Sequence[str],
) -> Run | None:
    """The first run without a row; None if there is none."""
    has = done(rows)
    for noise in noises:
        for optimizer in optimizers:
            for arm in arms:
                for run in runs_of(rows, task, noise, optimizer, arm, num_seeds):
                    if identity(run) not in has:
                        return run
    return None
