"""The long table, a row a run, and what follows from it: a row a method, or a variant.

Means and errors are over the finished runs. A run that did not finish, and a value that
is not finite, enter no mean: `left_out` says why.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from heavytail_optax.experiments.measure_names import SCALARS
from heavytail_optax.experiments.methods import METHOD_NAMES, METHODS
from heavytail_optax.experiments.report.paper_figures import PAPER_FIGURES
from heavytail_optax.experiments.runs.result import RunResult

FAILED = "\N{NO-BREAK SPACE}†"
REFERENCE = "sgd"
DIFFERENCE = f"difference_to_{REFERENCE}"

_FIELDS = (
    *("method", "seed", "status", "step", "steps", "train_accuracy", "test_accuracy"),
    *("train_loss", "truncated", "seconds", "examples_per_step", "test_images"),
    *("classes", "how_it_ended"),
)
_WHOLE = ("seed", "step", "steps", "test_images", "classes")
_FAR_BELOW = 0.1
_TIMES_CHANCE = 2.0  # some data have a class that is twice as common as the others


def runs_table(
    results: Sequence[RunResult], names: Sequence[str] | None = None
) -> pd.DataFrame:
    """A row a run, in their order, under its method's name or another."""
    measures = _measures(results)
    rows = []
    names = names or [each.method for each in results]
    for name, result in zip(names, results, strict=True):
        row: dict[str, Any] = {"name": name}
        row |= {field: getattr(result, field) for field in _FIELDS}
        for measure in measures:
            value, error = result.sharpness.get(measure, (None, None))
            row |= {measure: value, f"{measure}_standard_error": error}
        rows.append(row)
    runs = pd.DataFrame(rows)
    if any(twice := runs.duplicated(["name", "seed"])):
        first = runs[twice].iloc[0]
        raise ValueError(f"The seed {first.seed} of {first['name']} comes twice.")
    texts = ["name", "method", "status", "how_it_ended"]
    numbers = {column: float for column in runs.columns.drop(texts)}
    runs = runs.astype(numbers | dict.fromkeys(_WHOLE, "Int64"))
    runs.insert(runs.columns.get_loc("how_it_ended") + 1, "failed", failures(runs))
    return runs


def in_order(runs: pd.DataFrame) -> pd.DataFrame:
    """Methods in the order of their list, all other names in that of the runs; seeds."""
    known: tuple[str, ...] = METHOD_NAMES
    names = runs["name"].unique()
    places = {name: (*known, name).index(name) for name in names}
    place = runs["name"].map(places)
    first = runs["name"].map(list(names).index)
    order = runs.assign(place=place, first=first)
    return runs.loc[order.sort_values(["place", "first", "seed"]).index].reset_index(
        drop=True
    )


def measures_of(runs: pd.DataFrame) -> list[str]:
    """The measures that the table has, those known to the paper first."""
    end = "_standard_error"
    return [name.removesuffix(end) for name in runs.columns if name.endswith(end)]


def failures(runs: pd.DataFrame) -> pd.Series:
    """Why a run that finished did not learn the training images; None for all others.

    Without truncation a jump may leave all ReLUs off: the accuracy is that of guessing,
    and the loss hardly changes under a perturbation, so that the run looks flat.
    """
    accuracy = runs["train_accuracy"].where(runs["status"] == "finished")
    failed = pd.Series(None, runs.index, dtype=object)
    failed[accuracy <= accuracy.median() - _FAR_BELOW] = "far below the others"
    failed[accuracy <= _TIMES_CHANCE / runs["classes"].astype(float)] = "at chance"
    return failed


def left_out(runs: pd.DataFrame, quantities: Sequence[str]) -> pd.Series:
    """Why a run is in not all means of some quantities; None if it is in all."""
    reasons = pd.Series(None, runs.index, dtype=object)
    for quantity in reversed(quantities):
        what = quantity.replace("_", " ")
        reasons[np.isinf(runs[quantity])] = f"{what}: not finite"
        reasons[runs[quantity].isna()] = f"{what}: not measured"
    return reasons.where(runs["status"] == "finished", runs["how_it_ended"])


def named_runs(
    runs: pd.DataFrame, reasons: pd.Series, *, with_accuracy: bool = False
) -> str:
    """The runs that have a reason: "sgd seed 0 (at chance), ..."."""
    found = runs.assign(reason=reasons).dropna(subset="reason")
    accuracy = [f"{100 * x:.1f}%, " * with_accuracy for x in found["train_accuracy"]]
    parts = zip(found["name"], found["seed"], accuracy, found["reason"], strict=True)
    return ", ".join(map("{0[0]} seed {0[1]} ({0[2]}{0[3]})".format, parts))


def means(runs: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """Of each quantity the mean, its standard error and the number of seeds, a row a name.

    The standard error is `s / sqrt(n)`, with `s` the standard deviation of divisor
    `n - 1`. The columns are `quantity`, `quantity_standard_error` and `quantity_seeds`.
    """
    found = _finite(runs, quantities).groupby(runs["name"], sort=False)
    table = found.agg(["mean", "sem", "count"])
    endings = {"mean": "", "sem": "_standard_error", "count": "_seeds"}
    table.columns = [f"{quantity}{endings[what]}" for quantity, what in table.columns]
    return table


def differences(
    runs: pd.DataFrame,
    reference: str,
    quantity: str = "test_accuracy",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """The mean over seeds of each name's value less the reference's, and its interval.

    Runs of the same seed share initial weights, batches and random labels, so that the
    differences vary less than the values. The interval is Student's t. The columns are
    mean, standard_error, low, high and seeds, and there is a row for each name that has
    a seed in common with the reference, but for the reference.
    """
    table = runs[["name", "seed"]].assign(value=_finite(runs, [quantity])[quantity])
    values = table.pivot(index="seed", columns="name", values="value")
    if reference not in values:
        values[reference] = np.nan
    pairs = values.sub(values.pop(reference), axis=0)
    found = pairs.agg(["mean", "sem", "count"]).T.dropna(subset="mean")
    found.columns = ["mean", "standard_error", "seeds"]
    quantile = stats.t.ppf((1 + confidence) / 2, found["seeds"] - 1)
    half = quantile * found["standard_error"]
    found["low"], found["high"] = found["mean"] - half, found["mean"] + half
    return found.astype({"seeds": int})


def summarise(runs: pd.DataFrame, preset: str) -> pd.DataFrame:
    """A row a method: seeds, accuracies, cost and measures, with the paper's figures."""
    measures = measures_of(runs)
    groups = runs.groupby("name", sort=False)
    finished = runs["status"] == "finished"
    table = pd.DataFrame(
        {
            "method": groups["method"].first(),
            "paper_name": groups["method"]
            .first()
            .map(lambda name: METHODS[name].paper_name),
            "seeds_asked": groups.size(),
            "seeds_finished": finished.groupby(runs["name"], sort=False).sum(),
            "unfinished": _listed(runs, runs["how_it_ended"].mask(finished)),
            "failed": _listed(runs, runs["failed"]),
            "examples_per_step": groups["examples_per_step"].first(),
        },
        index=pd.Index(runs["name"].unique(), name="name"),
    )
    table = table.join(means(runs, ["test_accuracy", "train_accuracy", *measures]))
    pairs = differences(runs, REFERENCE).astype({"seeds": "Int64"})
    pairs = pairs.add_prefix(f"{DIFFERENCE}_")
    table = table.join(pairs.rename(columns={f"{DIFFERENCE}_mean": DIFFERENCE}))
    papers = [PAPER_FIGURES.get((preset, name)) for name in table.index]
    table["paper_test_accuracy"] = [
        round(each.test_accuracy / 100, 6) if each else np.nan for each in papers
    ]
    for measure in measures:
        table[f"paper_{measure}"] = [
            each.sharpness.get(measure, np.nan) if each else np.nan for each in papers
        ]
    return table


def label(name: str) -> str:
    """The name of a method with that of the paper's tables; any other as it is."""
    return METHODS[name].label if name in METHODS else name


def _measures(results: Sequence[RunResult]) -> list[str]:
    """The measures that any run has, in the order of the known ones."""
    found = dict.fromkeys(measure for each in results for measure in each.sharpness)
    known = [scalar for scalars in SCALARS.values() for scalar in scalars]
    return sorted(found, key=lambda measure: (*known, measure).index(measure))


def _finite(runs: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """The values that enter means; all else is NaN."""
    values = runs[list(quantities)].where(runs["status"] == "finished")
    return values.replace([np.inf, -np.inf], np.nan)


def _listed(runs: pd.DataFrame, reasons: pd.Series) -> pd.Series:
    """The seeds of each name that have a reason: "1 missing; 2 diverged at step 7"."""
    texts = runs["seed"].astype(str) + " " + reasons.dropna()
    return texts.dropna().groupby(runs["name"], sort=False).agg("; ".join)
