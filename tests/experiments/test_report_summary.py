"""Means, errors, paired differences and failures against NumPy and SciPy."""

import io
import math

import numpy as np
import pandas as pd
import pytest
from report_examples import BALANCED, GRID, SGD, finished, record_of, unfinished
from scipy import stats

from heavytail_optax.experiments.methods import METHOD_NAMES
from heavytail_optax.experiments.report.summary import (
    build_report,
    differences,
    failures,
    left_out,
    means,
    measures_of,
    named_runs,
    runs_table,
)

PAPER = "corrupted-fashion-mnist"


def sample(name, key, size, scale=1.0):
    values = np.random.default_rng(key).normal(0.7, scale, size)
    return [finished(name, seed, value, 0.1) for seed, value in enumerate(values)]


def accuracies(cells):
    return np.array([cell.test_accuracy for cell in cells])


def back(text):
    return pd.read_csv(io.StringIO(text))


@pytest.mark.parametrize("size", [2, 3, 10])
def test_mean_and_error_are_those_of_numpy(size):
    cells = sample("sgd", size, size)
    row = means(runs_table(cells), ["test_accuracy"]).loc["sgd"]
    array = accuracies(cells)
    np.testing.assert_allclose(row["test_accuracy"], array.mean(), rtol=1e-14)
    error = array.std(ddof=1) / math.sqrt(size)
    np.testing.assert_allclose(row["test_accuracy_standard_error"], error, rtol=1e-12)
    assert row["test_accuracy_seeds"] == size


def test_one_seed_has_no_error_and_none_no_mean():
    cells = [finished("sgd", 5, 0.7, 0.1), unfinished("balanced", 0)]
    table = means(runs_table(cells), ["test_accuracy"])
    np.testing.assert_equal(list(table.loc["sgd"]), [0.7, np.nan, 1])
    np.testing.assert_equal(list(table.loc["balanced"]), [np.nan, np.nan, 0])


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("size", [2, 5])
def test_paired_difference_is_that_of_scipy_and_numpy(size, confidence):
    ours, theirs = sample("balanced", 1, size), sample("sgd", 2, size, scale=3.0)
    runs = runs_table([*theirs, *ours])
    found = differences(runs, "sgd", confidence=confidence)
    assert list(found.index) == ["balanced"]
    row = found.loc["balanced"]
    reference = stats.ttest_rel(accuracies(ours), accuracies(theirs))
    interval = reference.confidence_interval(confidence)
    np.testing.assert_allclose([row["low"], row["high"]], interval, rtol=1e-10)
    by_seed = accuracies(ours) - accuracies(theirs)
    error = np.sqrt(np.sum((by_seed - by_seed.mean()) ** 2) / (size - 1) / size)
    np.testing.assert_allclose(row["mean"], by_seed.mean(), rtol=1e-10)
    np.testing.assert_allclose(row["standard_error"], error, rtol=1e-10)
    assert row["seeds"] == size


def test_difference_pairs_seeds_whatever_their_order():
    ours = [finished("balanced", seed, x, 0.1) for seed, x in ((2, 3), (0, 1), (7, 9))]
    theirs = [finished("sgd", seed, x, 0.1) for seed, x in ((0, 0), (9, 8), (2, 0))]
    row = differences(runs_table([*ours, *theirs]), "sgd").loc["balanced"]
    assert (row["mean"], row["standard_error"], row["seeds"]) == (2.0, 1.0, 2)


def test_difference_of_one_seed_has_no_interval_and_of_none_no_row():
    cells = [*sample("sgd", 0, 1), *sample("balanced", 1, 3)]
    row = differences(runs_table(cells), "sgd").loc["balanced"]
    assert row["seeds"] == 1
    assert np.isnan([row["standard_error"], row["low"], row["high"]]).all()
    assert differences(runs_table(cells), "shared").empty


def test_equal_differences_have_an_interval_of_no_width():
    cells = [finished("sgd", seed, seed, 0.1) for seed in (0, 1)]
    cells += [finished("balanced", seed, seed + 1, 0.1) for seed in (0, 1)]
    row = differences(runs_table(cells), "sgd").loc["balanced"]
    assert row["low"] == row["high"] == 1.0


def test_runs_that_do_not_count_are_named():
    cells = [
        finished("sgd", 0, 0.7, 0.1),
        unfinished("sgd", 1, "diverged", 1204, test_accuracy=0.1),
        unfinished("sgd", 2, "interrupted", 30, test_accuracy=0.5),
        unfinished("sgd", 3),
        finished("sgd", 4, None, 0.1),
        finished("sgd", 5, math.inf, 0.1),
        finished("sgd", 6, 0.7, 0.1)._replace(record={}),
    ]
    runs = runs_table(cells)
    assert means(runs, ["test_accuracy"]).loc["sgd", "test_accuracy"] == 0.7
    reasons = left_out(runs, ["test_accuracy", "expected_sharpness"])
    assert list(reasons.dropna()) == [
        "diverged at step 1,204",
        "interrupted at step 30",
        "missing",
        "test accuracy: not measured",
        "test accuracy: not finite",
        "expected sharpness: not measured",
    ]
    assert named_runs(runs, reasons).startswith("sgd seed 1 (diverged at step 1,204)")


def measured_with(method, seed, value, samples, **others):
    values = {"expected_sharpness": (value, None)}
    record = record_of(values, num_samples=samples, stddev=0.01, **others)
    return finished(method, seed, 0.7, 0.0)._replace(record=record)


def test_values_measured_in_another_way_are_not_averaged():
    samples = {0: 100, 1: 10, 2: 100}
    cells = [measured_with("sgd", seed, seed + 1.0, x) for seed, x in samples.items()]
    runs = runs_table(cells)
    row = means(runs, ["expected_sharpness"]).loc["sgd"]
    np.testing.assert_allclose(list(row), [2.0, 1.0, 2])  # of 1 and 3
    (reason,) = left_out(runs, ["expected_sharpness"]).dropna()
    assert "num_samples 10," in reason and "num_samples 100" in reason
    assert "stddev" not in reason
    # Measured alike, all three count.
    cells = [measured_with("sgd", seed, seed + 1.0, 10) for seed in samples]
    row = means(runs_table(cells), ["expected_sharpness"]).loc["sgd"]
    np.testing.assert_allclose(list(row), [2.0, 1 / math.sqrt(3), 3])


def test_of_two_ways_the_one_of_the_other_methods_counts():
    cells = [measured_with("balanced", seed, 1.0, 100) for seed in range(2)]
    cells += [measured_with("sgd", 0, 1.0, 10), measured_with("sgd", 1, 3.0, 100)]
    row = means(runs_table(cells), ["expected_sharpness"]).loc["sgd"]
    assert (row["expected_sharpness"], row["expected_sharpness_seeds"]) == (3.0, 1)


@pytest.mark.parametrize(
    ("rough", "thorough"),
    [
        ({"samples": 10}, {"samples": 100}),
        ({"samples": 100, "images": 60}, {"samples": 10}),  # which is on all images
        ({"samples": 100, "images": 60}, {"samples": 10, "images": 100}),
    ],
)
def test_of_two_ways_as_frequent_the_more_thorough_one_counts(rough, thorough):
    cells = [measured_with("sgd", 0, 1.0, **rough)]
    cells += [measured_with("sgd", 1, 3.0, **thorough)]
    row = means(runs_table(cells), ["expected_sharpness"]).loc["sgd"]
    assert (row["expected_sharpness"], row["expected_sharpness_seeds"]) == (3.0, 1)


def test_a_measure_may_depend_on_the_variant():
    """Escape jumps by the largest norm, which a variant may change."""
    names, cells = ["sgd", "sgd", "far", "far"], []
    for seed, norm in ((0, 0.25), (1, 0.25), (0, 0.5), (1, 0.5)):
        cells.append(measured_with("sgd", seed, 1.0, 100, jump_norm=norm))
    runs = runs_table(cells, names)
    assert left_out(runs, ["expected_sharpness"]).isna().all()
    assert (means(runs, ["expected_sharpness"])["expected_sharpness_seeds"] == 2).all()


def test_a_measured_value_that_is_not_finite_is_called_so():
    values = (math.nan, math.inf, 0.1)
    runs = runs_table([finished("sgd", seed, 0.7, x) for seed, x in enumerate(values)])
    reasons = left_out(runs, ["expected_sharpness"])
    assert list(reasons[:2]) == ["expected sharpness: not finite"] * 2
    assert reasons[2] is None


@pytest.mark.parametrize("second", [finished("sgd", 0, 0.7, 0.1), unfinished("sgd", 0)])
def test_a_seed_that_comes_twice_is_refused(second):
    with pytest.raises(ValueError, match="The seed 0 of sgd comes twice"):
        runs_table([finished("sgd", 0, 0.7, 0.1), second])


def test_finished_runs_that_did_not_learn_are_found():
    runs = runs_table(GRID)
    failed = runs.assign(failed=failures(runs)).dropna(subset="failed")
    assert list(zip(failed["name"], failed["seed"], failed["failed"], strict=True)) == [
        ("inflated", 0, "far below the others"),
        ("inflated", 1, "at chance"),
    ]


def test_chance_is_found_even_if_all_are_there():
    cells = [finished("sgd", seed, 0.1, 0.0, train_accuracy=0.11) for seed in range(3)]
    assert set(runs_table(cells)["failed"]) == {"at chance"}
    for classes in (100, None):
        others = [cell._replace(classes=classes) for cell in cells]
        assert runs_table(others)["failed"].isna().all()
    assert runs_table([unfinished("sgd", 0)])["failed"].isna().all()


def test_rows_are_in_the_order_of_the_methods_and_seeds():
    names = [*(cell.method for cell in GRID), "another", "a variant"]
    cells = [*GRID, SGD[1], SGD[0]]
    runs = build_report(PAPER, runs_table(cells, names)).runs
    known = [name for name in METHOD_NAMES if name in names]
    assert list(runs["name"].unique()) == [*known, "another", "a variant"]
    assert list(runs["seed"][runs["name"] == "balanced"]) == [0, 1, 2, 3, 4]


def test_measures_are_in_the_papers_order():
    later = {"trace_of_hessian": (5.0, None), "maximal_sharpness": (2.0, None)}
    cells = [SGD[0]._replace(record=record_of({**later, **SGD[0].sharpness}))]
    assert measures_of(runs_table(cells)) == [
        "expected_sharpness",
        "maximal_sharpness",
        "trace_of_hessian",
    ]


def test_runs_csv_reads_back_whole():
    runs = back(runs_table(GRID).to_csv(index=False))
    assert len(runs) == len(GRID)
    fields = ("method", "seed", "status", "step", "steps", "seconds", "classes")
    fields = (*fields, "train_accuracy", "test_accuracy", "test_images")
    for cell, (_, row) in zip(GRID, runs.iterrows(), strict=True):
        for field in fields:
            value = getattr(cell, field)
            assert pd.isna(row[field]) if value is None else row[field] == value
        value, error = cell.sharpness.get("expected_sharpness", (np.nan, np.nan))
        found = row[["expected_sharpness", "expected_sharpness_standard_error"]]
        np.testing.assert_allclose(list(found.astype(float)), [value, error], 1e-12)


def test_summary_csv_agrees_with_numpy_on_the_runs():
    report = build_report(PAPER, runs_table(GRID))
    table = report.runs
    runs = back(table.to_csv(index=False))
    summary = back(report.summary.to_csv()).set_index("name")
    assert list(summary.index) == list(table["name"].unique())
    for name, row in summary.iterrows():
        own = runs[(runs["name"] == name) & (runs["status"] == "finished")]
        assert row["seeds_finished"] == len(own)
        for quantity in ("test_accuracy", "train_accuracy", "expected_sharpness"):
            values = own[quantity].to_numpy()
            if not values.size:
                assert np.isnan(row[quantity])
                continue
            np.testing.assert_allclose(row[quantity], values.mean(), rtol=1e-12)
            error = row[f"{quantity}_standard_error"]
            if values.size == 1:
                assert np.isnan(error)
                continue
            expected = values.std(ddof=1) / math.sqrt(values.size)
            np.testing.assert_allclose(error, expected, rtol=1e-9, atol=1e-15)
    balanced = summary.loc["balanced"]
    assert balanced["left_out"] == "4 interrupted at step 2,000"
    assert summary.loc["inflated", "failed"] == "0 far below the others; 1 at chance"
    assert balanced["difference_to_sgd"] == pytest.approx(0.01125)
    # Student's t with three degrees of freedom: 1.125 +- 3.1824 * 0.15478.
    assert balanced["difference_to_sgd_low"] == pytest.approx(0.0063240, abs=1e-7)
    assert summary.loc["sgd", "paper_test_accuracy"] == 0.692
    assert summary.loc["sgd", "paper_expected_sharpness"] == 0.008


def test_a_variant_is_not_its_method():
    names = ["sgd", "a variant"]
    summary = build_report(PAPER, runs_table([SGD[0], SGD[0]], names)).summary
    assert list(summary["method"]) == ["sgd", "sgd"]
    assert summary.loc["sgd", "paper_name"] == "SB"
    others = summary.loc["a variant", ["paper_name", "paper_test_accuracy"]]
    assert others.isna().all()
    assert summary.loc["a variant", "difference_to_sgd"] == 0.0


def test_hundreds_of_seeds():
    cells = [finished("sgd", seed, 0.7 + seed * 1e-5, 0.005) for seed in range(300)]
    row = build_report(PAPER, runs_table([*cells, *BALANCED])).summary.loc["sgd"]
    assert row["test_accuracy"] == pytest.approx(0.701495)
    # The standard deviation of 0 to n - 1 is sqrt(n (n + 1) / 12).
    error = 1e-5 * math.sqrt(301 / 12)
    assert row["test_accuracy_standard_error"] == pytest.approx(error)
