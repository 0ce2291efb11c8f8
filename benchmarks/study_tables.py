r"""The tables of the reproduction study, from its file of runs.

    python benchmarks/study_tables.py docs/results/study_runs.csv --out docs/results \
        --figure docs/images/study.png

writes one Markdown table a question, `study_<question>.md`, prints them, and draws the
methods of the paper.
"""

import argparse
import pathlib
from typing import NamedTuple

import pandas as pd
from study import PRESET, SCALAR_NAMES, SINGLED_OUT, STUDIES

from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.report import summary as report_summary
from heavytail_optax.experiments.report.accuracy_figure import draw_report
from heavytail_optax.experiments.report.number_format import (
    format_difference,
    format_number,
    format_percent,
    format_with_error,
)
from heavytail_optax.experiments.report.paper_figures import PAPER_FIGURES
from heavytail_optax.experiments.report.style import save_figure
from heavytail_optax.experiments.report.tables import (
    Column,
    markdown_table,
    mean_column,
    measure_heading,
    text_column,
)
from heavytail_optax.experiments.runs.result import RunResult

CLASSES = 10
NO_BREAK = "\N{NO-BREAK SPACE}"
ACCURACIES = ("test_accuracy", "train_accuracy", "truncated")
FRESH = f"{SINGLED_OUT}, seeds 3 to 9"


class Question(NamedTuple):
    """A table: its rows, that of the differences, and what its columns show."""

    variants: tuple[str, ...]
    reference: str
    measures: tuple[str, ...] = ("expected_sharpness", "top_eigenvalue")
    with_accuracy: bool = True  # and the cost


def _ablations(reference: str, start: str, *others: str) -> Question:
    names = [name for name in STUDIES["ablations"] if name.startswith(start)]
    return Question((reference, *names, *others), reference)


_MAIN = tuple(STUDIES["main"])
_NORMAL = [name for name in STUDIES["ablations"] if "normal" in name]
_ESCAPE = tuple(name for name in SCALAR_NAMES if name.startswith("escape"))
_FLATNESS = tuple(name for name in SCALAR_NAMES if name not in _ESCAPE)
QUESTIONS = {
    "main": Question(_MAIN, "sgd"),
    "flatness": Question(_MAIN, "sgd", _FLATNESS, with_accuracy=False),
    "escape": Question(_MAIN, "sgd", _ESCAPE, with_accuracy=False),
    "competitors": Question(
        ("sgd", *STUDIES["competitors"], "balanced"), "sgd", _FLATNESS
    ),
    "alpha": _ablations("balanced", "balanced, alpha", *_NORMAL),
    "scale": _ablations("balanced", "balanced, inflation_scale", FRESH),
    "max_norm": _ablations("balanced", "balanced, max_norm", "balanced-untruncated"),
    "cooldown": _ablations("balanced", "balanced, cooldown"),
    "noise": _ablations("sgd", "noise", "balanced"),
    "vgg11": Question(tuple(STUDIES["vgg11"]), "vgg11, sgd"),
}


def read_runs(path: pathlib.Path) -> pd.DataFrame:
    """The report's long table, a row a run, under the name of the variant."""
    runs = pd.read_csv(path).rename(columns={"variant": "name"})
    runs["classes"] = CLASSES
    ends = runs[["method", "seed", "status", "step", "step"]].itertuples(index=False)
    runs["how_it_ended"] = [RunResult(*each).how_it_ended for each in ends]
    fresh = runs[(runs["name"] == SINGLED_OUT) & (runs["seed"] >= 3)]
    return pd.concat([runs, fresh.assign(name=FRESH)], ignore_index=True)


def table(question: Question, runs: pd.DataFrame) -> str:
    """The table of a question and the notes under it; empty without a run."""
    own = [runs[runs["name"] == name].sort_values("seed") for name in question.variants]
    runs = pd.concat(own, ignore_index=True)
    if runs.empty:
        return ""
    finished = runs["status"] == "finished"
    not_in_means = report_summary.named_runs(runs, runs["how_it_ended"].mask(finished))
    measures = list(question.measures)
    if not question.with_accuracy:
        runs = runs[finished & runs[measures].notna().any(axis=1)]
    failed = report_summary.failures(runs)
    groups = runs.groupby("name", sort=False)
    rows = report_summary.means(runs, [*ACCURACIES, *measures]).assign(
        runs=groups.size(),
        finished=groups["status"].agg(lambda status: (status == "finished").sum()),
        examples_per_step=groups["examples_per_step"].first(),
        failed=failed.groupby(runs["name"]).count(),
    )
    pairs = report_summary.differences(runs, question.reference)
    rows = rows.join(pairs.add_prefix("difference_"))
    names = [name + " †" * bool(n) for name, n in rows["failed"].items()]
    columns = [Column("Variant", names)]
    if question.with_accuracy:
        ends = [f"difference_{each}" for each in ("mean", "low", "high")]
        heading = f"minus {question.reference} [95 % interval]"
        columns += [
            text_column("Seeds", rows, "{}/{}".format, "finished", "runs"),
            mean_column("Test %", rows, format_percent, "test_accuracy"),
            text_column(heading, rows, _difference, *ends),
            text_column("Train %", rows, format_percent, "train_accuracy"),
            text_column("Truncated %", rows, format_percent, "truncated"),
            text_column("Images a step", rows, "{:,.0f}".format, "examples_per_step"),
        ]
    else:
        columns.append(text_column("Runs measured", rows, str, "runs"))
    columns += [
        mean_column(measure_heading(measure), rows, format_with_error, measure)
        for measure in measures
    ]
    if question is QUESTIONS["main"]:
        paper = [PAPER_FIGURES.get((PRESET, name)) for name in rows.index]
        rows["paper"] = [each and 100 * each["test_accuracy"] for each in paper]
        columns.insert(3, text_column("paper test %", rows, "{:.2f}".format, "paper"))
        rows["paper"] = [each and each["expected_sharpness"] for each in paper]
        columns.insert(-1, text_column("paper sharpness", rows, format_number, "paper"))
    # A number and its error stay on one line.
    for column in columns[1:]:
        column.texts[:] = [text.replace(" ", NO_BREAK) for text in column.texts]
    parts = [markdown_table(columns)]
    if named := report_summary.named_runs(runs, failed):
        parts.append(
            f"† Finished without having learned the training images: {named}. Such a run "
            "may look flat. They are in the means."
        )
    if not_in_means:
        parts.append(f"In no mean: {not_in_means}.")
    return "\n\n".join(parts)


def _difference(mean: float, low: float, high: float) -> str:
    if pd.isna(low):
        return format_difference(mean)
    return "{} [{}, {}]".format(*map(format_difference, (mean, low, high)))


def draw(path: pathlib.Path, runs: pd.DataFrame) -> None:
    """Accuracy against expected sharpness, of the methods as the preset has them."""
    names = [name for name, each in STUDIES["main"].items() if not each.changed]
    runs = runs[runs["name"].isin(names)]
    papers = [METHODS[name].paper_name for name in runs["name"]]
    runs = runs.assign(paper_name=papers, failed=report_summary.failures(runs))
    report = report_summary.build_report(PRESET, runs)
    figure = draw_report(report._replace(measures=["expected_sharpness"]))
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--figure", type=pathlib.Path)
    arguments = parser.parse_args()
    runs = read_runs(arguments.runs)
    for name, question in QUESTIONS.items():
        text = table(question, runs)
        if not text:
            continue
        print(f"{name}\n\n{text}\n")
        if arguments.out is not None:
            (arguments.out / f"study_{name}.md").write_text(f"{text}\n")
    if arguments.figure is not None:
        draw(arguments.figure, runs)


if __name__ == "__main__":
    main()
