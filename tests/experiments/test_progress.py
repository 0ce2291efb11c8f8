import io

from rich.console import Console

from heavytail_optax.experiments.terminal.progress import (
    LiveProgress,
    PlainProgress,
    describe,
)
from heavytail_optax.experiments.training.trainer import Chunk, Metrics


def metrics_at(step, seconds, **values):
    return Metrics(*[0] * 10)._replace(step=step, seconds=seconds, **values)


def chunk_at(step, seconds, batch_loss=0.0):
    return Chunk(None, step, batch_loss, seconds, None, None)


def test_speed_and_time_left_are_those_since_the_start():
    metrics = metrics_at(200, 12.0, test_accuracy=0.781, truncated=0.042)
    chunk = chunk_at(300, 13.0, 0.9137)
    expected = "300/3,000  100/s  0:27 left  loss 0.914  test 78.1%  truncated 4%"
    assert describe(chunk, metrics, metrics_at(100, 11.0), 3000) == expected
    assert "23/s  1:57 left" in describe(chunk, metrics, None, 3000)
    assert "done" in describe(chunk, metrics, None, 300)
    assert "3.0/s" in describe(chunk_at(300, 100.0), metrics, None, 600)
    assert describe(chunk, None, None, 300).endswith("done  loss 0.914")


def test_plain_lines_are_few():
    file = io.StringIO()
    with PlainProgress(Console(file=file), 1000) as progress:
        progress.start("sgd (SB)", None)
        for step in range(1, 1001):
            progress.advance("sgd (SB)", chunk_at(step, step / 100), None)
        progress.start("truncated-heavy-tailed-sgd", metrics_at(1000, 1.0))
    lines = file.getvalue().splitlines()
    assert lines[0] == "sgd (SB): compiling"
    assert len(lines) == 12
    assert lines[-2].startswith("sgd (SB): 1,000/1,000  100/s  done")
    assert lines[-1] == "truncated-heavy-tailed-sgd: already done"


def test_live_bars_fit_the_terminal():
    for width in (80, 160):
        file = io.StringIO()
        console = Console(file=file, force_terminal=True, width=width)
        with LiveProgress(console, 100) as progress:
            progress.start("truncated-heavy-tailed-sgd", None)
            progress.advance("truncated-heavy-tailed-sgd", chunk_at(50, 1.0), None)
            progress.note("a note")
        assert "compiling" in file.getvalue()
        assert "50/100  50/s  0:01 left" in file.getvalue()
        assert "a note" in file.getvalue()
