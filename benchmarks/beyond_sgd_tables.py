"""The tables of the study beyond SGD: each arm against its optimiser alone.

    python benchmarks/beyond_sgd_tables.py docs/results/beyond_sgd_runs.csv \
        --out docs/results

Differences are of runs with the same seed, with 95 % intervals by Student's t. A star
marks one whose p-value is below 0.05 after Holm's correction over the nine arms, of
which those without runs count as arms. Ratios are of geometric means.
"""

import argparse
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from beyond_sgd_arms import ARMS, OPTIMIZERS
from beyond_sgd_tasks import NOISES
from scipy import stats

LEVEL = 0.05
SHIFTS = ["accuracy_noise", "accuracy_blur", "accuracy_contrast"]
TUNED = ["learning_rate", "weight_decay"]


class Outcome(NamedTuple):
    """A number of each run, and whether arms are compared by its ratio."""

    heading: str
    of_runs: Callable[[pd.DataFrame], pd.Series]
    is_ratio: bool = False


def _column(name: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda runs: runs[name]


OUTCOMES = (
    Outcome("test %", _column("test_accuracy")),
    Outcome("test loss", _column("test_loss")),
    Outcome("under shift %", lambda runs: runs[SHIFTS].mean(axis=1)),
    Outcome("calibration error %", _column("test_calibration_error")),
    Outcome("sharpness ×", _column("expected_sharpness"), is_ratio=True),
    Outcome("adaptive ×", _column("adaptive_sharpness"), is_ratio=True),
    Outcome("critical ×", _column("critical_sharpness"), is_ratio=True),
    Outcome("eigenvalue ×", _column("top_eigenvalue"), is_ratio=True),
)


class Difference(NamedTuple):
    """A mean of paired differences with its interval and p-value."""

    mean: float
    low: float
    high: float
    p_value: float


def paired(arm: pd.Series, alone: pd.Series, is_ratio: bool) -> Difference:
    """Of runs with the same seed; logarithms for a ratio. NaN with fewer than two."""
    seeds = arm.index.intersection(alone.index)
    one, other = arm[seeds].to_numpy(float), alone[seeds].to_numpy(float)
    if is_ratio:
        one, other = np.log(np.maximum(one, 1e-30)), np.log(np.maximum(other, 1e-30))
    change = one - other
    if len(change) < 2 or not np.isfinite(change).all():
        mean = float(change.mean()) if len(change) else np.nan
        return Difference(mean, np.nan, np.nan, np.nan)
    error = change.std(ddof=1) / len(change) ** 0.5
    mean, freedom = float(change.mean()), len(change) - 1
    half = float(stats.t.ppf(1 - LEVEL / 2, freedom) * error)
    if error == 0.0:
        return Difference(mean, mean, mean, 0.0 if mean else 1.0)
    p_value = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return Difference(mean, mean - half, mean + half, p_value)


def survives(p_values: Sequence[float], number: int) -> list[bool]:
    """Holm's test of `number` hypotheses, of which some have no p-value yet."""
    order = np.argsort(np.nan_to_num(np.asarray(p_values, float), nan=2.0))
    found, is_open = [False] * len(p_values), True
    for rank, place in enumerate(order):
        # A comparison with NaN is false.
        is_open = is_open and p_values[place] <= LEVEL / (number - rank)
        found[place] = is_open
    return found


def in_words(found: Difference, is_ratio: bool, is_starred: bool) -> str:
    """The mean with its interval."""
    if np.isnan(found.mean):
        return ""

    def number(value: float) -> str:
        return f"{np.exp(value):.2f}" if is_ratio else f"{value:+.2f}"

    text = number(found.mean)
    if not np.isnan(found.low):
        text += f" [{number(found.low)}, {number(found.high)}]"
    return text + ("*" if is_starred else "")


def at_same_loss(arm: pd.Series, alone: pd.Series) -> float:
    """The expected sharpness of `alone` where its training loss is first that of the arm.

    Interpolated in logarithms; NaN if `alone` never comes to that loss.
    """
    losses, sharpness = (
        np.log(np.maximum([float(x) for x in str(alone[name]).split()], 1e-30))
        for name in ("curve_train_loss", "curve_expected_sharpness")
    )
    wanted = np.log(max(arm["train_loss"], 1e-30))
    below = np.flatnonzero(losses <= wanted)
    if not len(below) or below[0] == 0:
        return np.nan
    after = int(below[0])
    share = (losses[after - 1] - wanted) / (losses[after - 1] - losses[after])
    return float(
        np.exp(sharpness[after - 1] + share * (sharpness[after] - sharpness[after - 1]))
    )


def at_same_loss_of_all(runs: pd.DataFrame, alone: pd.DataFrame) -> pd.Series:
    """Of each seed that both have."""
    seeds = runs.index.intersection(alone.index)
    return pd.Series(
        {seed: at_same_loss(runs.loc[seed], alone.loc[seed]) for seed in seeds},
        dtype=float,
    )


def table(runs: Mapping[str, pd.DataFrame]) -> str:
    """Markdown: the arms of one optimiser, task and label noise."""
    alone = runs["alone"]
    outcomes = [x for x in OUTCOMES if not x.of_runs(alone).isna().all()]
    cells: dict[str, list[str]] = {}
    for name, own in runs.items():
        rate, decay = (f"{own[x].iloc[0]:g}" for x in TUNED)
        cells[name] = [
            name,
            str(len(own)),
            f"{rate}, {decay}",
            f"{own['train_accuracy'].mean():.1f}",
            f"{own['train_loss'].mean():.3g}",
            f"{own['cut'].mean():.1f}",
            f"{own['tail_index_before'].median():.1f}",
        ]
    headings = [
        "arm",
        "seeds",
        "rate, decay",
        "train %",
        "train loss",
        "cut %",
        "index",
    ]
    for outcome in outcomes:
        headings.append(outcome.heading)
        others = [name for name in runs if name != "alone"]
        base = outcome.of_runs(alone)
        found = [
            paired(outcome.of_runs(runs[name]), base, outcome.is_ratio)
            for name in others
        ]
        stars = survives([x.p_value for x in found], len(ARMS) - 1)
        cells["alone"].append(f"{base.mean():.4g}")
        for name, difference, star in zip(others, found, stars, strict=True):
            cells[name].append(in_words(difference, outcome.is_ratio, star))
    headings.append("sharpness × at the same training loss")
    cells["alone"].append("")
    for name, own in runs.items():
        if name != "alone":
            base = at_same_loss_of_all(own, alone).dropna()
            difference = paired(own["expected_sharpness"], base, is_ratio=True)
            text = in_words(difference, is_ratio=True, is_starred=False)
            cells[name].append(text or "never there")
    lines = [headings, ["---"] * len(headings), *cells.values()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def groups(rows: pd.DataFrame) -> dict[tuple[str, str, str], dict[str, pd.DataFrame]]:
    """The runs that count, by task, label noise and optimiser, then by arm and seed."""
    counts = rows[rows["kind"] != "tuning"]
    found = {}
    for task, noises in NOISES.items():
        for noise in noises:
            for optimizer in OPTIMIZERS:
                names = ("task", "noise", "optimizer")
                is_own = np.all(
                    [counts[x] == y for x, y in zip(names, (task, noise, optimizer))],
                    axis=0,
                )  # fmt: skip
                own = counts[is_own]
                arms = {
                    name: own[own["arm"] == name].set_index("seed").sort_index()
                    for name in ARMS
                    if (own["arm"] == name).any()
                }
                found[task, noise, optimizer] = arms
    return found


def progress(rows: pd.DataFrame) -> str:
    """Markdown: how many runs each optimiser and task has."""
    lines = [
        "| task | label noise | optimiser | arms with runs | runs |",
        "|---|---|---|---|---|",
    ]
    for (task, noise, optimizer), arms in groups(rows).items():
        number = sum(len(own) for own in arms.values())
        lines.append(
            f"| `{task}` | `{noise}` | {optimizer} | {len(arms)} of {len(ARMS)} | {number} |"
        )
    return "\n".join(lines)


def texts(rows: pd.DataFrame) -> dict[str, str]:
    """All tables in Markdown, by name."""
    found = {"progress": progress(rows)}
    for (task, noise, optimizer), arms in groups(rows).items():
        if "alone" in arms and len(arms) > 1:
            found[f"{task}_{noise}_{optimizer.lower()}"] = table(arms)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, help="folder for the tables")
    arguments = parser.parse_args()
    rows = pd.read_csv(arguments.runs, dtype={"noise": str})
    for name, text in texts(rows).items():
        print(f"{name}\n\n{text}\n")
        if arguments.out is not None:
            (arguments.out / f"beyond_sgd_{name}.md").write_text(f"{text}\n")


if __name__ == "__main__":
    main()
