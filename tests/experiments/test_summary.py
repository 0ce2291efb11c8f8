import io
import math

import pytest
from heavytail_optax.experiments.runs.job_figure import plot_training
from heavytail_optax.experiments.runs.results import MethodResult
from heavytail_optax.experiments.runs.summary import summary_table, truncated_share
from rich.console import Console

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
        seconds=step / 10,
    )
    for step, truncated in ((10, 0.5), (20, 0.1), (25, 0.0))
)

BAD = HISTORY[-1]._replace(train_loss=math.nan, test_accuracy=0.1)
DIVERGED = MethodResult("inflated", "diverged", (*HISTORY[:2], BAD), 1023)


def text_of(table, width):
    file = io.StringIO()
    Console(file=file, width=width).print(table)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_table_shows_the_last_metrics(width, tiny):
    results = [
        MethodResult("independent", "finished", HISTORY),
        MethodResult("truncated-heavy-tailed-sgd", "interrupted", ()),
        DIVERGED,
    ]
    text = text_of(summary_table(results, tiny, test_images=400), width)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    # sqrt(0.8 * 0.2 / 400) is 2%; two small batches of 10 and a large one of 100.
    assert "independent (Our 1) 90.0 80.0 ± 2.0 0.0800 24.0 120 2.5" in lines
    assert "truncated-heavy-tailed-sgd - - - - 10 -" in lines
    assert "interrupted" in lines
    assert "inflated (SB+Noise) - - - 24.0 120 2.5" in lines
    assert "diverged at step 1,023" in lines


def test_truncated_share_is_that_of_all_steps():
    assert truncated_share(HISTORY) == pytest.approx((5 + 1) / 25)


@pytest.mark.parametrize(
    "others",
    [
        [],
        [MethodResult("balanced", "interrupted", ())],
        [DIVERGED],
        [DIVERGED._replace(history=(BAD,))],
    ],
)
def test_picture_is_drawn_with_what_there_is(tmp_path, tiny, others):
    results = [MethodResult("sgd", "finished", HISTORY), *others]
    plot_training(tmp_path / "training.png", results, tiny, 400)
    assert (tmp_path / "training.png").read_bytes()[:4] == b"\x89PNG"
