"""Pictures of runs that are long, short, or have nothing to show."""

import pathlib

import numpy as np
import pytest
from matplotlib.figure import Figure
from report_examples import finished

from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.measures.gradient_noise import (
    SIZES,
    NoiseDraws,
    assess_noise,
)
from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.report.noise import DiagnosedRun, draw_noise
from heavytail_optax.experiments.report.style import log_ticks
from heavytail_optax.experiments.report.training import draw_training
from heavytail_optax.experiments.runs.grid import Run
from heavytail_optax.experiments.training.trainer import Metrics

SETTINGS = replaced(PRESETS["corrupted-digits"].settings, steps=20)
ROW = Metrics(20, 1.0, 0.75, 0.7, 1.0, 0.8, 0.1, 0.2, 0.1, 0.25, 1.0)


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.72, 0.86), (0.1, 0.12), (1.1, 9.5), (2.1, 30), (1e-5, 0.05), (1e-8, 1e12)]
    + [(0.0371, 0.0389), (1.11, 1.13), (0.96, 1.15), (5e-4, 4e-3), (3.01, 9.1)],
)
def test_a_logarithmic_axis_has_three_to_twelve_true_labels(low, high):
    axes = Figure().subplots()
    axes.set(yscale="log", ylim=(low, high))
    log_ticks(axes.yaxis)
    ticks = [x for x in axes.yaxis.get_majorticklocs() if low <= x <= high]
    assert 3 <= len(ticks) <= 12
    labels = [float(axes.yaxis.get_major_formatter()(x, None)) for x in ticks]
    np.testing.assert_allclose(labels, ticks, rtol=1e-9)
    assert len(axes.yaxis.get_minorticklocs()) == 0


def test_a_run_with_one_evaluation_has_a_dot_in_each_panel():
    figure = draw_training(
        [finished("sgd", 0, 0.8, 0.1, history=(ROW,))], SETTINGS, 597
    )
    for axes in figure.axes:
        (line,) = axes.lines
        assert len(line.get_xdata()) == 1 and line.get_marker() == "o"


def test_noise_that_has_no_tail_leaves_no_empty_panel():
    zeros = np.zeros((len(SIZES), 2, 100), np.float32)
    draws = NoiseDraws(("all", "dense"), (10, 10), zeros, zeros[0, 0])
    run = Run("sgd", pathlib.Path("run"), SETTINGS)
    found = DiagnosedRun(run, [ROW], 10, draws, assess_noise(draws), None, None)
    norms, *others = draw_noise([found]).axes
    assert [line.get_marker() for line in norms.lines] == ["o", "o"]
    for axes in others:
        assert not axes.has_data()
        assert "Cannot tell" in axes.texts[0].get_text()
