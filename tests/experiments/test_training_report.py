import io
import itertools
import math

import drawn_plots
import pytest
from rich.console import Console

from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.report.training import draw_training, training_table
from heavytail_optax.experiments.runs.grid import Run
from heavytail_optax.experiments.runs.result import read_result, truncated_share
from heavytail_optax.experiments.storage.metrics_log import append_metrics
from heavytail_optax.experiments.training.trainer import Metrics

HISTORY = tuple(
    Metrics(
        step=step,
        batch_loss=1.0,
        train_loss=2.0 / step,
        train_accuracy=0.9,
        test_loss=1.0,
        test_accuracy=0.8,
        update_norm=0.1,
        largest_update_norm=1.0,
        truncated=truncated,
        max_norm=0.25,
        seconds=step / 10,
    )
    for step, truncated in ((10, 0.5), (20, 0.1), (25, 0.0))
)

BAD = HISTORY[-1]._replace(train_loss=math.nan, test_accuracy=0.1)
UNBOUNDED = tuple(row._replace(max_norm=math.nan) for row in (*HISTORY[:2], BAD))


@pytest.fixture
def result(tiny, tmp_path):
    """What a run of 25 steps has come to with these metrics."""
    numbers = itertools.count()

    def result(method, history, seed=0):
        settings = replaced(tiny, steps=25, method=method, seed=seed)
        run = Run(method, tmp_path / str(next(numbers)), settings)
        for metrics in history:
            append_metrics(run.paths.metrics, metrics)
        return read_result(run)

    return result


def text_of(table, width):
    file = io.StringIO()
    Console(file=file, width=width).print(table)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_table_shows_the_last_metrics(width, result, tiny):
    results = [
        result("independent", HISTORY),
        result("truncated-heavy-tailed-sgd", ()),
        result("inflated", UNBOUNDED),
        result("sgd", HISTORY[:2]),
    ]
    text = text_of(training_table(results, tiny, 400, width), width)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    # sqrt(0.8 * 0.2 / 400) is 2%; two small batches of 10 and a large one of 100.
    assert "independent (Our 1) 90.0 80.0 ± 2.0 0.0800 24.0 0.25 120 2.5" in lines
    assert "truncated-heavy-tailed-sgd - - - - - 10 -" in lines
    assert "missing" in lines
    assert "inflated (SB+Noise) - - - 24.0 - 120 2.5" in lines
    assert "diverged at step 25" in lines
    assert "interrupted at step 20" in lines


def test_a_bound_that_never_cut_is_explained(result, tiny):
    uncut = tuple(row._replace(truncated=0.0) for row in HISTORY)
    results = [result("sgd", uncut), result("balanced", uncut)]
    share = replaced(tiny, max_norm=None, truncated_share=0.03)
    text = " ".join(text_of(training_table(results, share, 400), 120).split())
    assert (
        "No update was truncated (balanced), though --truncated-share is 0.03" in text
    )
    for settings, history in ((share, HISTORY), (tiny, uncut)):
        results = [result("sgd", uncut), result("balanced", history)]
        text = text_of(training_table(results, settings, 400), 120)
        assert "No update" not in text


def test_seeds_are_told_apart(result, tiny):
    results = [result("sgd", HISTORY, seed) for seed in (0, 7)]
    text = text_of(training_table(results, tiny, 400), 120)
    assert "seed 0" in text and "seed 7" in text
    assert "seed" not in text_of(training_table(results[1:], tiny, 400), 120)


def test_truncated_share_is_that_of_all_steps():
    assert truncated_share(HISTORY) == pytest.approx((5 + 1) / 25)


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"balanced": ()},
        {"inflated": (*HISTORY[:2], BAD)},
        {"inflated": (BAD,)},
    ],
)
def test_picture_has_the_numbers_of_each_run(tiny, result, others):
    results = [result("sgd", HISTORY), *(result(*each) for each in others.items())]
    figure = draw_training(results, replaced(tiny, steps=25), 400)
    figure.draw_without_rendering()
    loss, accuracy = figure.axes
    assert len(loss.lines) == len(accuracy.lines) == 1 + sum(map(bool, others.values()))
    steps = [metrics.step for metrics in HISTORY]
    for axes, values in (
        (loss, [metrics.train_loss for metrics in HISTORY]),
        (accuracy, [100 * metrics.test_accuracy for metrics in HISTORY]),
    ):
        assert list(axes.lines[0].get_xdata()) == steps
        assert list(axes.lines[0].get_ydata()) == values
    if "inflated" in others:
        finite = others["inflated"][:-1]
        assert len(loss.lines[1].get_xdata()) == len(finite)
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert "diverged at step 25" in labels[1]


def test_equal_runs_can_be_told_apart(tiny, result):
    results = [result(name, HISTORY) for name in ("sgd", "balanced", "shared")]
    figure = draw_training(results, replaced(tiny, steps=25), 400)
    for axes in figure.axes:
        for each in results:
            colour = METHODS[each.method].colour
            assert drawn_plots.pixels_of(axes, colour) > 40
