r"""The tables of the reproduction study, from its file of runs.

    python benchmarks/study_tables.py docs/results/study_runs.csv --out docs/results \
        --figure docs/images/study.png

writes one Markdown table a question, `study_<question>.md`, prints them, and draws the
methods of the paper.
"""

import argparse
import csv
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from study import SCALAR_NAMES, SINGLED_OUT, STUDIES

from heavytail_optax.experiments.report.columns import (
    NOTHING,
    PAPER,
    Column,
    measure_heading,
)
from heavytail_optax.experiments.report.failed_runs import failed_runs
from heavytail_optax.experiments.report.figure import plot_report
from heavytail_optax.experiments.report.markdown import markdown_table
from heavytail_optax.experiments.report.number_format import (
    format_number,
    format_percent,
    format_with_error,
)
from heavytail_optax.experiments.report.paper_figures import PAPER_FIGURES
from heavytail_optax.experiments.report.rows import build_report
from heavytail_optax.experiments.report.seed_statistics import (
    mean_over_seeds,
    paired_difference,
    values_by_seed,
)
from heavytail_optax.experiments.runs.result import RunResult

PRESET = "corrupted-fashion-mnist"
CLASSES = 10
NO_BREAK = "\N{NO-BREAK SPACE}"
Runs = Mapping[str, Sequence[RunResult]]


class Question(NamedTuple):
    """A table.

    Attributes:
      variants: its rows, in order.
      reference: the row that the differences are taken to.
      measures: its columns of sharpness.
      with_accuracy: whether there are columns of accuracy and cost.
    """

    variants: tuple[str, ...]
    reference: str
    measures: tuple[str, ...] = ("expected_sharpness", "top_eigenvalue")
    with_accuracy: bool = True


def _rows_that_start(text: str) -> tuple[str, ...]:
    return tuple(name for name in STUDIES["ablations"] if name.startswith(text))


FRESH = f"{SINGLED_OUT}, seeds 3 to 9"
_MAIN = tuple(STUDIES["main"])
_FLATNESS = tuple(name for name in SCALAR_NAMES if not name.startswith("escape"))
QUESTIONS = {
    "main": Question(_MAIN, "sgd"),
    "flatness": Question(
        _MAIN,
        "sgd",
        _FLATNESS,
        with_accuracy=False,
    ),
    "escape": Question(
        _MAIN,
        "sgd",
        tuple(name for name in SCALAR_NAMES if name.startswith("escape")),
        with_accuracy=False,
    ),
    "competitors": Question(
        ("sgd", *STUDIES["competitors"], "balanced"), "sgd", _FLATNESS
    ),
    "alpha": Question(
        ("balanced", *_rows_that_start("balanced, alpha"))
        + _rows_that_start("balanced, normal"),
        "balanced",
    ),
    "scale": Question(
        ("balanced", *_rows_that_start("balanced, inflation_scale"), FRESH),
        "balanced",
    ),
    "max_norm": Question(
        ("balanced", *_rows_that_start("balanced, max_norm"), "balanced-untruncated"),
        "balanced",
    ),
    "cooldown": Question(
        ("balanced", *_rows_that_start("balanced, cooldown")), "balanced"
    ),
    "noise": Question(("sgd", *_rows_that_start("noise"), "balanced"), "sgd"),
    "vgg11": Question(tuple(STUDIES["vgg11"]), "vgg11, sgd"),
}


def read_runs(path: pathlib.Path) -> Runs:
    """variant -> its runs, in the order of the seeds."""
    runs: dict[str, list[RunResult]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            runs.setdefault(row["variant"], []).append(_run(row))
    runs = {
        name: sorted(cells, key=lambda cell: cell.seed) for name, cells in runs.items()
    }
    if fresh := [cell for cell in runs.get(SINGLED_OUT, ()) if cell.seed >= 3]:
        runs[FRESH] = fresh
    return runs


def _run(row: Mapping[str, str]) -> RunResult:
    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    sharpness = {
        name: (value, number(f"{name}_standard_error"))
        for name in SCALAR_NAMES
        if (value := number(name)) is not None
    }
    status: Any = row["status"]
    # Under the name of the variant, of which several may share a method.
    name: Any = row["variant"]
    return RunResult(
        method=name,
        seed=int(row["seed"]),
        status=status,
        step=int(row["step"]),
        steps=int(row["step"]),
        train_accuracy=number("train_accuracy"),
        test_accuracy=number("test_accuracy"),
        truncated=number("truncated"),
        examples_per_step=number("examples_per_step"),
        sharpness=sharpness,
        classes=CLASSES,
    )


def table(question: Question, runs: Runs) -> str:
    """The table of a question and the notes under it; empty without a run."""
    variants = [name for name in question.variants if name in runs]
    if not variants:
        return ""
    diverged = [
        f"{name} seed {cell.seed} ({cell.how_it_ended})"
        for name in variants
        for cell in runs[name]
        if cell.status != "finished"
    ]
    if not question.with_accuracy:
        runs = {name: _measured(cells, question) for name, cells in runs.items()}
    failed = failed_runs([cell for name in variants for cell in runs[name]])

    def column(heading: tuple[str, ...], text: Callable[[str], str]) -> Column:
        return Column(heading, tuple(text(name) for name in variants))

    def label(name: str) -> str:
        mark = " †" if any(variant == name for variant, _ in failed) else ""
        return f"{name}{mark}"

    columns = [column(("Variant",), label)]
    if question.with_accuracy:
        reference = question.reference
        columns += [
            column(("Seeds",), lambda name: _finished_of_all(runs[name])),
            column(("Test", "%"), lambda name: _percent(runs[name], _test_accuracy)),
            column(
                (f"minus {reference}", "[95 % interval]"),
                lambda name: _difference(runs, name, reference, _test_accuracy),
            ),
            column(("Train", "%"), lambda name: _share(runs[name], _train_accuracy)),
            column(("Truncated", "%"), lambda name: _share(runs[name], _truncated)),
            column(("Images", "a step"), lambda name: _cost(runs[name])),
        ]
    else:
        columns.append(column(("Runs", "measured"), lambda name: str(len(runs[name]))))
    for measure in question.measures:
        columns.append(
            column(
                measure_heading(measure),
                lambda name, measure=measure: _mean(runs[name], _sharpness(measure)),
            )
        )
    if question is QUESTIONS["main"]:
        columns.insert(3, column((*PAPER, "test %"), _paper_accuracy))
        columns.insert(-1, column((*PAPER, "sharpness"), _paper_sharpness))
    parts = [markdown_table(columns)]
    if failed:
        named = ", ".join(
            f"{name} seed {seed} ({why})" for (name, seed), why in failed.items()
        )
        parts.append(
            f"† Finished without having learned the training images: {named}. Such a "
            "run may look flat. They are in the means."
        )
    if diverged:
        parts.append(f"In no mean: {', '.join(diverged)}.")
    return "\n\n".join(parts)


def _measured(cells: Sequence[RunResult], question: Question) -> list[RunResult]:
    """The finished runs of which something in the question's columns is known."""
    return [
        cell
        for cell in cells
        if cell.status == "finished"
        and any(name in cell.sharpness for name in question.measures)
    ]


def _test_accuracy(cell: RunResult) -> float | None:
    return cell.test_accuracy


def _train_accuracy(cell: RunResult) -> float | None:
    return cell.train_accuracy


def _truncated(cell: RunResult) -> float | None:
    return cell.truncated


def _sharpness(measure: str) -> Callable[[RunResult], float | None]:
    return lambda cell: cell.sharpness.get(measure, (None, None))[0]


def _percent(cells: Sequence[RunResult], quantity: Callable) -> str:
    mean, error, *_ = mean_over_seeds(values_by_seed(cells, quantity))
    return NOTHING if mean is None else _in_one_piece(format_percent(mean, error))


def _share(cells: Sequence[RunResult], quantity: Callable) -> str:
    mean = mean_over_seeds(values_by_seed(cells, quantity)).mean
    return NOTHING if mean is None else format_percent(mean)


def _mean(cells: Sequence[RunResult], quantity: Callable) -> str:
    mean, error, *_ = mean_over_seeds(values_by_seed(cells, quantity))
    return NOTHING if mean is None else _in_one_piece(format_with_error(mean, error))


def _difference(runs: Runs, name: str, reference: str, quantity: Callable) -> str:
    """The mean of the differences by seed, with its interval."""
    if name == reference or reference not in runs:
        return NOTHING
    found = paired_difference(
        values_by_seed(runs[name], quantity).values,
        values_by_seed(runs[reference], quantity).values,
    )
    if found is None:
        return NOTHING
    mean = format_percent(found.mean, sign="+")
    if found.interval is None:
        return mean
    low, high = (format_percent(end, sign="+") for end in found.interval)
    return _in_one_piece(f"{mean} [{low}, {high}]")


def _in_one_piece(text: str) -> str:
    return text.replace(" ", NO_BREAK)


def _finished_of_all(cells: Sequence[RunResult]) -> str:
    finished = sum(cell.status == "finished" for cell in cells)
    return f"{finished}/{len(cells)}"


def _cost(cells: Sequence[RunResult]) -> str:
    cost = cells[0].examples_per_step
    return NOTHING if cost is None else f"{cost:,.0f}"


def _figures_of(name: str) -> Any:
    is_the_method_itself = not STUDIES["main"][name].changed
    method = STUDIES["main"][name].method
    return PAPER_FIGURES.get((PRESET, method)) if is_the_method_itself else None


def _paper_accuracy(name: str) -> str:
    figures = _figures_of(name)
    return NOTHING if figures is None else f"{figures.test_accuracy:.2f}"


def _paper_sharpness(name: str) -> str:
    figures = _figures_of(name)
    if figures is None:
        return NOTHING
    return format_number(figures.sharpness["expected_sharpness"])


def draw(path: pathlib.Path, runs: Runs) -> None:
    """Accuracy against expected sharpness, of the methods as the preset has them."""
    measure = "expected_sharpness"
    cells = [
        cell._replace(
            sharpness={
                name: value for name, value in cell.sharpness.items() if name == measure
            }
        )
        for name, variant in STUDIES["main"].items()
        if not variant.changed
        for cell in runs.get(name, ())
    ]
    plot_report(path, build_report(PRESET, cells))


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
