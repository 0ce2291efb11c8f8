r"""The tables of the reproduction study, from its file of runs.

    python benchmarks/study_tables.py docs/results/study_runs.csv --out docs/results \
        --figures docs/images

writes one Markdown table a question, `study_<question>.md`, prints them, and draws the
methods of the paper: `study.png` and `study_<task>.png`.
"""

import argparse
import pathlib
from typing import NamedTuple

import pandas as pd
from study import PRESET, SCALAR_NAMES, SINGLED_OUT, STUDIES

from heavytail_optax.experiments.report.accuracy_figure import draw_report
from heavytail_optax.experiments.report.style import save_figure
from heavytail_optax.experiments.report.summary import (
    build_report,
    failures,
    named_runs,
    summarise,
)
from heavytail_optax.experiments.report.tables import (
    Column,
    format_difference,
    format_number,
    format_percent,
    format_with_error,
    markdown_table,
    mean_column,
    measure_heading,
    text_column,
)
from heavytail_optax.experiments.runs.result import RunResult

CLASSES = 10
NO_BREAK = "\N{NO-BREAK SPACE}"
FRESH = f"{SINGLED_OUT}, seeds 3 to 9"


class Question(NamedTuple):
    """A table: its rows, that of the differences, and what its columns show."""

    variants: tuple[str, ...]
    reference: str
    paper: str | None = None  # the preset whose figures stand beside ours
    task: str = ""  # what each variant's name begins with, left out in the table
    measures: tuple[str, ...] = ("expected_sharpness", "top_eigenvalue")
    with_accuracy: bool = True  # and the cost
    with_bound: bool = False


def _ablations(reference: str, start: str, *others: str) -> Question:
    names = [name for name in STUDIES["ablations"] if name.startswith(start)]
    return Question((reference, *names, *others), reference)


_MAIN = tuple(STUDIES["main"])
_NORMAL = [name for name in STUDIES["ablations"] if "normal" in name]
_ESCAPE = tuple(name for name in SCALAR_NAMES if name.startswith("escape"))
_FLATNESS = tuple(name for name in SCALAR_NAMES if name not in _ESCAPE)
QUESTIONS = {
    "main": Question(_MAIN, "sgd", PRESET),
    "flatness": Question(_MAIN, "sgd", measures=_FLATNESS, with_accuracy=False),
    "escape": Question(_MAIN, "sgd", measures=_ESCAPE, with_accuracy=False),
    "competitors": Question(
        ("sgd", *STUDIES["competitors"], "balanced"), "sgd", measures=_FLATNESS
    ),
    "alpha": _ablations("balanced", "balanced, alpha", *_NORMAL),
    "scale": _ablations("balanced", "balanced, inflation_scale", FRESH),
    "max_norm": _ablations("balanced", "balanced, max_norm", "balanced-untruncated"),
    "cooldown": _ablations("balanced", "balanced, cooldown"),
    "noise": _ablations("sgd", "noise", "balanced"),
    "vgg11": Question(tuple(STUDIES["vgg11"]), "vgg11, sgd"),
    "cifar10": Question(
        (*STUDIES["cifar10"], "cifar10, balanced-adaptive"),
        "sgd",
        "cifar10",
        "cifar10, ",
        ("expected_sharpness",),
    ),
    # The first of each pair has the b that was found by hand.
    **{
        f"adaptive_{name}": Question(pair, pair[0], with_bound=True)
        for name, pair in {
            "lenet": ("balanced", "balanced-adaptive"),
            "lenet_fresh_seeds": ("fresh, balanced", "fresh, balanced-adaptive"),
            "lenet_larger_scale": (
                SINGLED_OUT,
                SINGLED_OUT.replace("balanced", "balanced-adaptive"),
            ),
            "vgg11": ("vgg11, balanced", "vgg11, balanced-adaptive"),
            "cifar10": ("cifar10, balanced", "cifar10, balanced-adaptive"),
        }.items()
    },
}


def read_runs(path: pathlib.Path) -> pd.DataFrame:
    """The report's long table, a row a run, under the name of the variant."""
    runs = pd.read_csv(path).rename(columns={"variant": "name"})
    runs["classes"] = CLASSES
    ends = runs[["method", "seed", "status", "step", "step"]].itertuples(index=False)
    runs["how_it_ended"] = [RunResult(*each).how_it_ended for each in ends]
    fresh = runs[(runs["name"] == SINGLED_OUT) & (runs["seed"] >= 3)]
    return pd.concat([runs, fresh.assign(name=FRESH)], ignore_index=True)


def runs_of(question: Question, runs: pd.DataFrame) -> pd.DataFrame:
    """The question's runs, in its order, under the names that the table shows."""
    own = [runs[runs["name"] == name].sort_values("seed") for name in question.variants]
    found = pd.concat(own, ignore_index=True)
    return found.assign(name=found["name"].str.removeprefix(question.task))


def table(question: Question, runs: pd.DataFrame) -> str:
    """The table of a question and the notes under it; empty without a comparison."""
    runs = runs_of(question, runs)
    if not set(runs["name"]) - {question.reference}:
        return ""
    finished = runs["status"] == "finished"
    runs["left_out"] = runs["how_it_ended"].mask(finished)
    not_in_means = named_runs(runs, runs["left_out"])
    measures, reference = list(question.measures), question.reference
    if not question.with_accuracy:
        runs = runs[finished & runs[measures].notna().any(axis=1)]
    runs = runs.assign(failed=failures(runs))
    rows = summarise(runs, question.paper or "", reference, measures)
    marks = rows["failed"].notna()
    columns = [Column("Variant", [name + " †" * mark for name, mark in marks.items()])]
    if question.with_accuracy:
        ends = [f"difference_to_{reference}{end}" for end in ("", "_low", "_high")]
        heading = f"minus {reference} [95 % interval]"
        counts = "seeds_finished", "seeds_asked"
        columns += [
            text_column("Seeds", rows, "{}/{}".format, *counts),
            mean_column("Test %", rows, format_percent, "test_accuracy"),
            text_column(heading, rows, _difference, *ends),
            text_column("Train %", rows, format_percent, "train_accuracy"),
            text_column("Truncated %", rows, format_percent, "truncated"),
            text_column("Images a step", rows, "{:,.0f}".format, "examples_per_step"),
        ]
        if question.with_bound:
            last = mean_column("Last bound", rows, format_with_error, "max_norm")
            columns.insert(-1, last)
    else:
        columns.append(text_column("Runs measured", rows, str, "seeds_asked"))
    columns += [
        mean_column(measure_heading(measure), rows, format_with_error, measure)
        for measure in measures
    ]
    if question.paper is not None:
        paper = "paper_test_accuracy", "paper_expected_sharpness"
        columns.insert(3, text_column("paper test %", rows, _percent, paper[0]))
        sharpness = text_column("paper sharpness", rows, format_number, paper[1])
        columns.insert(-1, sharpness)
    # A number and its error stay on one line.
    for column in columns[1:]:
        column.texts[:] = [text.replace(" ", NO_BREAK) for text in column.texts]
    parts = [markdown_table(columns)]
    if named := named_runs(runs, runs["failed"]):
        parts.append(
            f"† Finished without having learned the training images: {named}. Such a run "
            "may look flat. They are in the means."
        )
    if not_in_means:
        parts.append(f"In no mean: {not_in_means}.")
    return "\n\n".join(parts)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _difference(mean: float, low: float, high: float) -> str:
    if pd.isna(low):
        return format_difference(mean)
    return "{} [{}, {}]".format(*map(format_difference, (mean, low, high)))


def draw(path: pathlib.Path, question: Question, runs: pd.DataFrame) -> None:
    """Accuracy against expected sharpness, of the paper's methods and `balanced`."""
    variants = {name: x for own in STUDIES.values() for name, x in own.items()}
    names = [
        x
        for x in question.variants
        if variants[x].method == x.removeprefix(question.task)
    ]
    runs = runs_of(question._replace(variants=tuple(names)), runs)
    if runs.empty:
        return
    report = build_report(question.paper, runs.assign(failed=failures(runs)))
    figure = draw_report(report._replace(measures=["expected_sharpness"]))
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--figures", type=pathlib.Path)
    arguments = parser.parse_args()
    runs = read_runs(arguments.runs)
    for name, question in QUESTIONS.items():
        text = table(question, runs)
        if not text:
            continue
        print(f"{name}\n\n{text}\n")
        if arguments.out is not None:
            (arguments.out / f"study_{name}.md").write_text(f"{text}\n")
        if arguments.figures is not None and question.paper is not None:
            file = "study.png" if name == "main" else f"study_{name}.png"
            draw(arguments.figures / file, question, runs)


if __name__ == "__main__":
    main()
