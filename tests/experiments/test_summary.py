import io

import pytest
from rich.console import Console

from heavytail_optax.experiments.job import MethodResult
from heavytail_optax.experiments.plot import plot_training
from heavytail_optax.experiments.settings import METHOD_NAMES
from heavytail_optax.experiments.summary import summary_table, truncated_share
from heavytail_optax.experiments.training import Metrics

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


def text_of(table, width):
    file = io.StringIO()
    Console(file=file, width=width).print(table)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_table_shows_the_last_metrics(width):
    results = [
        MethodResult(METHOD_NAMES[0], "finished", HISTORY),
        MethodResult(METHOD_NAMES[1], "interrupted", ()),
    ]
    text = text_of(summary_table(results, test_images=400), width)
    # sqrt(0.8 * 0.2 / 400) is 2%.
    assert "90.0 80.0 ± 2.0 0.0800 24.0 2.5" in " ".join(text.split())
    assert METHOD_NAMES[1] in text
    assert "(interrupted)" in text


def test_truncated_share_is_that_of_all_steps():
    assert truncated_share(HISTORY) == pytest.approx((5 + 1) / 25)


@pytest.mark.parametrize("histories", [1, 2])
def test_picture_is_drawn_with_what_there_is(tmp_path, tiny, histories):
    both = dict(zip(METHOD_NAMES, (HISTORY, HISTORY[:1] * (histories - 1))))
    plot_training(tmp_path / "training.png", both, tiny, 400)
    assert (tmp_path / "training.png").read_bytes()[:4] == b"\x89PNG"
