"""Grids with what may happen in one, for the tests of the report."""

from heavytail_optax.experiments.measures.measure import Measured, Measurement
from heavytail_optax.experiments.runs.result import RunResult


def record_of(values, **arguments):
    """Name of a scalar -> (value, error), each the only one of its measure."""
    return {
        name: Measured(arguments, Measurement({name: value}), 1.0)
        for name, value in values.items()
    }


def finished(method, seed, test_accuracy, sharpness, train_accuracy=1.0, **changes):
    """A run of 10,000 steps on data with ten classes and 10,000 test images."""
    record = record_of({"expected_sharpness": (sharpness, sharpness / 30)})
    return RunResult(
        method=method,
        seed=seed,
        status="finished",
        step=10_000,
        steps=10_000,
        train_accuracy=train_accuracy,
        test_accuracy=test_accuracy,
        train_loss=0.001,
        truncated=0.1,
        seconds=300.0,
        examples_per_step=100.0,
        record=record,
        test_images=10_000,
        classes=10,
    )._replace(**changes)


def unfinished(method, seed, status="missing", step=0, **changes):
    """A run that did not come to its end; what it measured before is in the cell."""
    return RunResult(
        method, seed, status, step, 10_000, examples_per_step=100.0
    )._replace(**changes)


SGD = [
    finished("sgd", seed, accuracy, sharpness)
    for seed, accuracy, sharpness in (
        (0, 0.700, 0.0046),
        (1, 0.692, 0.0059),
        (2, 0.680, 0.0060),
        (3, 0.700, 0.0048),
    )
]
BALANCED = [
    finished("balanced", seed, accuracy, sharpness)
    for seed, accuracy, sharpness in (
        (0, 0.713, 0.0012),
        (1, 0.706, 0.0014),
        (2, 0.691, 0.0015),
        (3, 0.707, 0.0015),
    )
]
SHARED = [finished("shared", 0, 0.713, 0.0004, examples_per_step=1300.0)]
INFLATED = [
    finished("inflated", 0, 0.664, 0.0162, train_accuracy=0.76),
    finished("inflated", 1, 0.1, 0.0005, train_accuracy=0.1),
    unfinished(
        method="inflated",
        seed=2,
        status="diverged",
        step=1204,
        train_accuracy=0.1,
        test_accuracy=0.1,
        train_loss=float("nan"),
    ),
]
# Not in the order of the methods.
GRID = [
    *INFLATED,
    *BALANCED,
    *SHARED,
    *SGD,
    unfinished("balanced", 4, "interrupted", 2000, test_accuracy=0.5),
    unfinished("truncated-heavy-tailed-sgd", 0),
]
