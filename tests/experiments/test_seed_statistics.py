import math

import numpy as np
import pytest
from report_examples import GRID, finished, unfinished
from scipy import stats

from heavytail_optax.experiments.report.failed_runs import failed_runs
from heavytail_optax.experiments.report.seed_statistics import (
    SeedValues,
    mean_over_seeds,
    paired_difference,
    values_by_seed,
)


def accuracy(cell):
    return cell.test_accuracy


def sample(seed, size, scale=1.0):
    values = np.random.default_rng(seed).normal(70.0, scale, size)
    return {key: float(value) for key, value in enumerate(values)}


@pytest.mark.parametrize("size", [2, 3, 10])
def test_mean_and_error_are_those_of_numpy(size):
    values = sample(size, size)
    mean = mean_over_seeds(SeedValues(values, {}))
    array = np.asarray(list(values.values()))
    np.testing.assert_allclose(mean.mean, array.mean(), rtol=1e-14)
    error = array.std(ddof=1) / math.sqrt(size)
    np.testing.assert_allclose(mean.standard_error, error, rtol=1e-12)
    assert mean.count == size


def test_one_seed_has_no_error_and_none_no_mean():
    assert mean_over_seeds(SeedValues({5: 0.7}, {}))[:3] == (0.7, None, 1)
    nothing = mean_over_seeds(SeedValues({}, {0: "missing"}))
    assert nothing == (None, None, 0, {0: "missing"})


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("size", [2, 5])
def test_paired_difference_is_scipys(size, confidence):
    ours, theirs = sample(1, size), sample(2, size, scale=3.0)
    found = paired_difference(ours, theirs, confidence)
    reference = stats.ttest_rel(list(ours.values()), list(theirs.values()))
    interval = reference.confidence_interval(confidence)
    np.testing.assert_allclose(found.interval, tuple(interval), rtol=1e-12)
    np.testing.assert_allclose(
        found.mean / found.standard_error, reference.statistic, rtol=1e-12
    )


def test_difference_pairs_seeds_whatever_their_order():
    ours = {2: 73.0, 0: 71.0, 7: 10.0}
    theirs = {0: 70.0, 2: 70.0, 9: 99.0}
    found = paired_difference(ours, theirs)
    assert found.mean == 2.0
    assert found.standard_error == 1.0
    assert found.seeds == (0, 2)
    assert found.unpaired == (7, 9)


def test_difference_of_one_seed_has_no_error_and_of_none_is_none():
    found = paired_difference({0: 71.0}, {0: 70.0})
    assert (found.mean, found.standard_error, found.interval) == (1.0, None, None)
    assert paired_difference({0: 71.0}, {1: 70.0}) is None


def test_equal_differences_have_an_interval_of_no_width():
    found = paired_difference({0: 1.0, 1: 2.0}, {0: 0.0, 1: 1.0})
    assert found.interval == (1.0, 1.0)


def test_runs_that_do_not_count_are_named():
    cells = [
        finished("sgd", 0, 0.7, 0.1),
        unfinished("sgd", 1, "diverged", 1204, test_accuracy=0.1),
        unfinished("sgd", 2, "interrupted", 30, test_accuracy=0.5),
        unfinished("sgd", 3),
        finished("sgd", 4, None, 0.1),
        finished("sgd", 5, math.inf, 0.1),
    ]
    found = values_by_seed(cells, accuracy)
    assert found.values == {0: 0.7}
    assert found.left_out == {
        1: "diverged at step 1,204",
        2: "interrupted at step 30",
        3: "missing",
        4: "not measured",
        5: "inf",
    }


@pytest.mark.parametrize("second", [finished("sgd", 0, 0.7, 0.1), unfinished("sgd", 0)])
def test_a_seed_that_comes_twice_is_refused(second):
    with pytest.raises(ValueError, match="The seed 0 of sgd comes twice"):
        values_by_seed([finished("sgd", 0, 0.7, 0.1), second], accuracy)


def test_finished_runs_that_did_not_learn_are_found():
    assert failed_runs(GRID) == {
        ("inflated", 0): "far below the others",
        ("inflated", 1): "at chance",
    }


def test_chance_is_found_even_if_all_are_there():
    cells = [finished("sgd", seed, 0.1, 0.0, train_accuracy=0.11) for seed in range(3)]
    assert set(failed_runs(cells).values()) == {"at chance"}
    hundred = [cell._replace(classes=100) for cell in cells]
    assert failed_runs(hundred) == {}
    unknown = [cell._replace(classes=None) for cell in cells]
    assert failed_runs(unknown) == {}
    assert failed_runs([unfinished("sgd", 0)]) == {}
