"""The study's file of runs and its tables (benchmarks/study.py, study_tables.py)."""

import pathlib

import numpy as np
import pandas as pd
import pytest
import study
import study_tables
from report_examples import record_of

from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.runs.result import RunResult

ACCURACIES = {
    "sgd": [0.68, 0.70, 0.69],
    "balanced": [0.71, 0.71, 0.72],
    "gated": [0.5, 0.70],
}


def result(variant, seed, accuracy, **changes):
    values = {
        "train_accuracy": 1.0,
        "test_accuracy": accuracy,
        "truncated": 0.03,
        "examples_per_step": 100.0,
        "record": record_of({"expected_sharpness": (0.001 * (seed + 1), 1e-5)}),
        **changes,
    }
    method = study.STUDIES["main"][variant].method
    return RunResult(method, seed, "finished", 10_000, 10_000, **values)


@pytest.fixture
def runs(tmp_path):
    """Written as the study writes them, and read again."""
    path = tmp_path / "runs.csv"
    for variant, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            row = study.row_of("main", variant, result(variant, seed, accuracy), 1.0)
            study.append(path, row)
    stopped = result("gated", 2, 0.1)._replace(status="diverged", step=42)
    study.append(path, study.row_of("main", "gated", stopped, 0.0))
    assert ("gated", 2) in study.done(path)
    assert ("gated", 3) not in study.done(path)
    return study_tables.read_runs(path)


def cells(table, variant):
    (line,) = (line for line in table.splitlines() if line.startswith(f"| {variant} "))
    return [cell.strip().replace("\xa0", " ") for cell in line.strip("|").split("|")]


def test_rows_come_back_as_they_were(runs):
    sgd, gated = (runs[runs["name"] == name] for name in ("sgd", "gated"))
    assert list(sgd["test_accuracy"]) == ACCURACIES["sgd"]
    assert list(sgd["expected_sharpness"]) == [0.001, 0.002, 0.003]
    assert list(sgd["expected_sharpness_standard_error"]) == [1e-5] * 3
    assert list(gated["how_it_ended"])[2] == "diverged at step 42"


def test_means_and_paired_differences_are_those_of_numpy(runs):
    question = study_tables.QUESTIONS["competitors"]
    table = study_tables.table(question, runs)
    _, seeds, test, difference, *_ = cells(table, "balanced")
    differences = np.array([3.0, 1.0, 3.0])
    error = differences.std(ddof=1) / np.sqrt(3)
    half = 4.302653 * error  # Student's t with two degrees of freedom
    mean = differences.mean()
    assert seeds == "3/3"
    assert test == "71.3 ± 0.3"
    assert difference == f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]"


def test_what_failed_is_named(runs):
    table = study_tables.table(study_tables.QUESTIONS["main"], runs)
    assert cells(table, "gated")[1] == "2/3"
    assert "In no mean: gated seed 2 (diverged at step 42)." in table
    assert cells(table, "sgd")[3] == "69.20"  # the paper's
    assert cells(table, "gated")[3] == "-"  # its `independent` inflates in every step


def test_the_published_rows_are_those_of_the_study(runs, tmp_path):
    path = pathlib.Path(__file__).parents[2] / "docs" / "results" / "study_runs.csv"
    rows = pd.read_csv(path)
    published = study.done(path)
    assert len(published) == len(rows)
    row = study.row_of("main", "sgd", result("sgd", 0, 0.5), 1.0)
    assert list(row.columns) == list(rows.columns)
    found = [run for _, run in study.runs(tmp_path, None, 10)]
    assert published <= {(run.name, run.settings.seed) for run in found}
    assert len({run.directory for run in found}) == len(found)
    assert {run.measures for run in found if run.name == "sgd"} == {
        (*study.FULL, "escape"),
        study.FULL,
    }


def test_every_variant_is_a_valid_run_in_one_table():
    shown = [
        name
        for question in study_tables.QUESTIONS.values()
        for name in question.variants
    ]
    for variants in study.STUDIES.values():
        for name, variant in variants.items():
            assert variant.method in METHODS
            assert name in shown
            study.settings_of(variant, seed=1)
