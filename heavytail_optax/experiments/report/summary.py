"""The long table, a row a run, and the table of means from it, a row a method.

Means and errors are over the finished runs. A run that did not finish, a value that is
not finite, and one that was measured in another way than those of the other seeds, enter
no mean: `left_out` says why.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ..measures.flatness import SCALARS
from ..measures.measure import in_words
from ..methods import METHOD_NAMES, METHODS
from ..runs.result import RunResult
from .paper_figures import PAPER_FIGURES

REFERENCE = "sgd"
DIFFERENCE = f"difference_to_{REFERENCE}"
FAILED = "\N{NO-BREAK SPACE}†"

_LONG = {"record", "asked_measures", "history", "followed", "is_kept"}
_FIELDS = [*(name for name in RunResult._fields if name not in _LONG), "how_it_ended"]
_TEXTS = ("name", "paper_name", "method", "status", "how_it_ended")
_WHOLE = ("seed", "step", "steps", "test_images", "classes")
_ERROR, _ARGUMENTS = "_standard_error", "_arguments"
_FAR_BELOW = 0.1
_TIMES_CHANCE = 2.0  # some data have a class that is twice as common as the others
_ENOUGH_SEEDS = 3
_FITTED = 0.99


class Report(NamedTuple):
    """All that a report shows."""

    preset: str
    runs: pd.DataFrame  # a row a run
    summary: pd.DataFrame  # a row a method, under its name
    measures: Sequence[str]  # of sharpness


def build_report(preset: str, runs: pd.DataFrame) -> Report:
    """Methods in the order of their list, all other names in that of the runs."""
    names = [*METHOD_NAMES, *runs["name"]]
    place = runs["name"].map({name: names.index(name) for name in names})
    runs = runs.assign(place=place).sort_values(["place", "seed"], ignore_index=True)
    measures = measures_of(runs)
    reasons = left_out(runs, ["test_accuracy", *measures])
    runs = runs.drop(columns="place").assign(left_out=reasons)
    summary = summarise(runs, preset, REFERENCE, measures)
    return Report(preset, runs, summary, measures)


def runs_table(
    results: Sequence[RunResult], names: Sequence[str] | None = None
) -> pd.DataFrame:
    """A row a run, in their order, under its method's name or another."""
    names = names or [each.method for each in results]
    known = [scalar for scalars in SCALARS.values() for scalar in scalars]
    found = dict.fromkeys(measure for each in results for measure in each.sharpness)
    measures = sorted(found, key=lambda measure: (*known, measure).index(measure))
    rows = []
    for name, result in zip(names, results, strict=True):
        row: dict[str, Any] = {"name": name, "paper_name": paper_name(name)}
        row |= {field: getattr(result, field) for field in _FIELDS}
        how = {
            scalar: ", ".join(in_words(measured.arguments))
            for measured in result.record.values()
            for scalar in measured.outcome.scalars
        }
        for measure in measures:
            value, error = result.sharpness.get(measure, (None, None))
            row |= {measure: value, f"{measure}{_ERROR}": error}
            row[f"{measure}{_ARGUMENTS}"] = how.get(measure)
        rows.append(row)
    runs = pd.DataFrame(rows)
    if any(twice := runs.duplicated(["name", "seed"])):
        name, seed = runs.loc[twice, ["name", "seed"]].iloc[0]
        raise ValueError(f"The seed {seed} of {name} comes twice.")
    texts = [*_TEXTS, *(f"{measure}{_ARGUMENTS}" for measure in measures)]
    numbers = dict.fromkeys(runs.columns.drop(texts), "float")
    runs = runs.astype(numbers | dict.fromkeys(_WHOLE, "Int64"))
    runs.insert(len(_FIELDS) + 2, "failed", failures(runs))
    return runs


def measures_of(runs: pd.DataFrame) -> list[str]:
    """The measures of sharpness that a table has."""
    names = runs.columns[runs.columns.str.endswith(_ERROR)]
    return [name.removesuffix(_ERROR) for name in names]


def failures(runs: pd.DataFrame) -> pd.Series:
    """Why a finished run did not learn the training images; None for the others."""
    # Without truncation a jump may leave all ReLUs off: the accuracy is that of
    # guessing, and a perturbation hardly changes the loss: the run looks flat.
    accuracy = runs["train_accuracy"].where(runs["status"] == "finished")
    failed = pd.Series(None, runs.index, dtype=object)
    others = accuracy.dropna().median()
    failed[accuracy <= others - _FAR_BELOW] = "far below the others"
    failed[accuracy <= _TIMES_CHANCE / runs["classes"].astype(float)] = "at chance"
    return failed


def cannot_show(runs: pd.DataFrame) -> list[str]:
    """What runs that are too few or too short say nothing about, a line each."""
    lines = []
    finished = runs[runs["status"] == "finished"]
    seeds = finished.groupby("name", sort=False)["seed"].nunique()
    if seeds.size > 1 and len(few := seeds[seeds < _ENOUGH_SEEDS]):
        names = ", ".join(f"{name} {number}" for name, number in few.items())
        lines.append(
            f"Fewer than {_ENOUGH_SEEDS} seeds are too few for an interval ({names}): the "
            "differences between these methods and others may be chance. heavytail "
            "reproduce --num-seeds 5 trains with more."
        )
    # Counts, as a mean without the runs that failed would not be that of the table.
    learned = finished[finished["failed"].isna()]
    is_short = learned["train_accuracy"] < _FITTED
    counts = is_short.groupby(learned["name"], sort=False).agg(["sum", "size"])
    if len(short := counts[counts["sum"] > 0]):
        names = ", ".join(
            f"{name} {of[0]} of {of[1]}" for name, *of in short.itertuples()
        )
        lines.append(
            f"Training was too short. Of the runs that learned, some have a training "
            f"accuracy below {_FITTED:.0%} ({names}), so accuracy and flatness are not "
            "those of a minimum. Use more --steps."
        )
    return lines


def left_out(runs: pd.DataFrame, quantities: Sequence[str]) -> pd.Series:
    """Why a run is in not all means of some quantities; None if it is in all."""
    table = pd.DataFrame({each: _why_not(runs, each) for each in quantities})
    found = []
    for _, why in table.iterrows():
        quantities_of: dict[str, list[str]] = {}
        for quantity, reason in why.dropna().items():
            name = str(quantity).replace("_", " ")
            quantities_of.setdefault(reason, []).append(name)
        parts = [f"{', '.join(names)}: {k}" for k, names in quantities_of.items()]
        found.append("; ".join(parts) or None)
    reasons = pd.Series(found, runs.index, dtype=object)
    return reasons.where(runs["status"] == "finished", runs["how_it_ended"])


def _why_not(runs: pd.DataFrame, quantity: str) -> pd.Series:
    """Why the value of a finished run is in no mean; None if it is in one."""
    value, reasons = runs[quantity], pd.Series(None, runs.index, dtype=object)
    reasons[value.isna()] = "not measured"
    reasons[np.isinf(value)] = "not finite"
    if f"{quantity}{_ARGUMENTS}" in runs:
        own = runs[f"{quantity}{_ARGUMENTS}"].where(runs["status"] == "finished")
        reasons[value.isna() & own.notna()] = "not finite"
        usual = usual_arguments(runs, quantity)
        for row in runs.index[own.notna() & (own != usual)]:
            here, there = own[row].split(", "), usual[row].split(", ")
            odd = ", ".join(each for each in here if each not in there)
            others = ", ".join(each for each in there if each not in here)
            reasons[row] = f"measured with {odd}, not with {others} as the other seeds"
    return reasons


def usual_arguments(runs: pd.DataFrame, measure: str) -> pd.Series:
    """How the finished runs of the same name were measured, or most of them."""
    own = runs[f"{measure}{_ARGUMENTS}"].where(runs["status"] == "finished")
    overall = own.value_counts()

    def most(names: pd.Series) -> str | None:
        counts = names.value_counts()
        rank = names.dropna().unique().tolist()
        key = lambda each: (counts[each], overall[each], *_thoroughness(each))
        return max(rank, key=key, default=None)

    return own.groupby(runs["name"], sort=False).transform(most)


def _thoroughness(arguments: str) -> tuple[float, float]:
    """Of how a run was measured: the images, all where no number is given, and draws."""
    given = {
        k: value for k, _, value in (x.partition(" ") for x in arguments.split(", "))
    }
    return float(given.get("images", "inf")), float(given.get("num_samples", 0))


def named_runs(runs: pd.DataFrame, reasons: Sequence[str] | pd.Series) -> str:
    """The runs that have a reason: "sgd seed 0 (at chance), ..."."""
    found = runs.assign(reason=reasons).dropna(subset="reason")
    parts = zip(found["name"], found["seed"], found["reason"], strict=True)
    return ", ".join(f"{name} seed {seed} ({reason})" for name, seed, reason in parts)


def means(runs: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """Of each quantity the mean, its standard error (divisor n - 1) and the seeds."""
    groups = counted(runs, quantities).groupby(runs["name"], sort=False)
    table = groups.agg(["mean", "sem", "count"])
    endings = {"mean": "", "sem": _ERROR, "count": "_seeds"}
    table.columns = [f"{quantity}{endings[what]}" for quantity, what in table.columns]
    return table


def differences(
    runs: pd.DataFrame,
    reference: str,
    quantity: str = "test_accuracy",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """A method's values less the reference's, by seed: mean and Student's interval."""
    # Runs of the same seed share initial weights, batches and random labels, so that
    # the differences vary less than the values.
    table = counted(runs, [quantity]).assign(name=runs["name"], seed=runs["seed"])
    values = table.pivot(index="seed", columns="name", values=quantity)
    # Without the reference there are no differences.
    own = values.pop(reference) if reference in values else np.nan
    pairs = values.sub(own, axis=0).dropna(axis=1, how="all")
    mean, error, seeds = pairs.mean(), pairs.sem(), pairs.count()
    half = stats.t.ppf((1 + confidence) / 2, seeds - 1) * error
    ends = {"low": mean - half, "high": mean + half}
    return pd.DataFrame({"mean": mean, "standard_error": error, "seeds": seeds, **ends})


def summarise(
    runs: pd.DataFrame, preset: str, reference: str, measures: Sequence[str]
) -> pd.DataFrame:
    """A row a method: seeds, accuracies, cost, measures and the paper's figures."""
    groups = runs.groupby("name", sort=False)
    finished = runs["status"] == "finished"
    of_run = ["test_accuracy", "train_accuracy", "truncated", "max_norm"]
    quantities = [*of_run, *measures]
    pairs = differences(runs, reference).astype({"seeds": "Int64"})
    mean = f"difference_to_{reference}"
    pairs.columns = [mean, *(f"{mean}_{each}" for each in pairs.columns[1:])]
    table = pd.DataFrame(
        {
            "method": groups["method"].first(),
            "paper_name": groups["name"].first().map(paper_name),
            "seeds_asked": groups.size(),
            "seeds_finished": finished.groupby(runs["name"], sort=False).sum(),
            "left_out": _by_name(runs, "left_out"),
            "failed": _by_name(runs, "failed"),
            "examples_per_step": groups["examples_per_step"].first(),
        },
        index=pd.Index(runs["name"].unique(), name="name"),
    )
    table = table.join([means(runs, quantities), pairs])
    papers = [PAPER_FIGURES.get((preset, name), {}) for name in table.index]
    for name in ("test_accuracy", *measures):
        table[f"paper_{name}"] = [each.get(name, np.nan) for each in papers]
    return table


def paper_name(name: str) -> str | None:
    """What the paper's tables call a method; None for what is not in them."""
    return METHODS[name].paper_name if name in METHODS else None


def label(name: str) -> str:
    """The name of a method with that of the paper's tables; any other as it is."""
    return METHODS[name].label if name in METHODS else name


def counted(runs: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """The values that enter means; all else is NaN."""
    values = runs[list(quantities)].where(runs["status"] == "finished")
    reasons = {each: _why_not(runs, each) for each in quantities}
    return values.where(pd.DataFrame(reasons).isna())


def _by_name(runs: pd.DataFrame, column: str) -> pd.Series:
    """The seeds of each name that have a reason: "1 missing; 2 diverged at step 7"."""
    found = runs.dropna(subset=column)
    pairs = zip(found["seed"], found[column], strict=True)
    texts = found.assign(text=[f"{seed} {reason}" for seed, reason in pairs])
    return texts.groupby("name")["text"].agg("; ".join)
