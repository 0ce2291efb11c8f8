import io
import re

import pytest
from heavytail_optax.experiments.runs.cell_result import CellResult
from heavytail_optax.experiments.storage.sharpness_file import write_sharpness
from rich.console import Console

from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.runs.grid import new_grid
from heavytail_optax.experiments.runs.grid_progress import GridProgress
from heavytail_optax.experiments.runs.time_left import training_seconds_left
from heavytail_optax.experiments.storage import run_directory
from heavytail_optax.experiments.storage.metrics_log import append_metrics
from heavytail_optax.experiments.terminal.progress import LiveProgress, PlainProgress
from heavytail_optax.experiments.training.trainer import Chunk, Metrics


def carry_out(cell, progress, steps):
    """Reports what a run reports, and leaves what it leaves."""
    progress.begin(cell)
    progress.start(cell.label, None)
    for step in (steps // 2, steps):
        metrics = Metrics(*[0.5] * 10)._replace(step=step, seconds=20.0 * step / steps)
        chunk = Chunk(None, step, 0.5, metrics.seconds, metrics, None)
        path = run_directory.metrics_path(cell.directory, cell.method)
        path.parent.mkdir(parents=True, exist_ok=True)
        append_metrics(path, metrics)
        progress.advance(cell.label, chunk, metrics)
    for part in ((0, 20), (10, 20), (1, 1)):
        progress.measuring(cell.label, "expected", *part)
    path = run_directory.sharpness_path(cell.directory, cell.method)
    write_sharpness(path, {"expected_sharpness": (0.5, 0.25)})
    progress.end()


@pytest.fixture
def cells(tiny, tmp_path):
    methods = PRESETS["corrupted-digits"].methods
    return list(new_grid(tmp_path, "corrupted-digits-short", tiny, methods, 8).cells())


def test_lines_say_which_run_it_is_and_how_long_all_will_take(tiny, cells):
    file = io.StringIO()
    with PlainProgress(Console(file=file, width=100), tiny.training.steps) as plain:
        progress = GridProgress(plain, cells)
        for cell in cells[:2]:
            carry_out(cell, progress, tiny.training.steps)
    lines = file.getvalue().splitlines()
    assert lines[0] == "0 of 24 runs are done"
    assert lines[1] == "run 1 of 24: sgd (SB), seed 0: compiling"
    assert "run 1 of 24: sgd (SB), seed 0: measuring expected" in lines
    # 23 runs of 20 seconds, or a little more.
    (first,) = [line for line in lines if line.startswith("1 of 24 runs are done")]
    assert re.search(r"about [78] min left$", first)
    assert lines.index(first) < lines.index("run 2 of 24: balanced, seed 0: compiling")


def test_a_terminal_keeps_one_bar_however_many_runs_there_are(tiny, cells):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=130)
    with LiveProgress(console, tiny.training.steps, keep_bars=False) as live:
        progress = GridProgress(live, cells)
        for cell in cells:
            carry_out(cell, progress, tiny.training.steps)
        bars = [task.description for task in live._progress.tasks]
    assert bars == ["all runs"]
    output = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    for number, cell in enumerate(cells, 1):
        line = rf"run {number} of 24: {re.escape(cell.label)}  6/6  .*done"
        assert len(re.findall(line, output)) == 1
    assert "24 of 24 done" in output


def test_time_left_is_that_of_the_same_method_where_it_is_known():
    def result(method, step, seconds, images):
        status = "finished" if step == 10 else "interrupted" if step else "missing"
        return CellResult(
            method, 0, status, step, 10, seconds=seconds, examples_per_step=images
        )

    fast = result("sgd", 10, 2.0, 10)
    assert training_seconds_left([fast]) == 0.0
    assert training_seconds_left([fast, result("sgd", 0, None, 10)]) == 2.0
    # A method that has not begun: by the images of its steps.
    assert training_seconds_left([fast, result("shared", 0, None, 50)]) == 10.0
    # As soon as it has: by its own steps, also those of the run itself.
    assert training_seconds_left([fast, result("shared", 2, 1.0, 50)]) == 4.0
    # A diverged run takes no more steps.
    wild = result("inflated", 3, 1.0, 50)._replace(status="diverged")
    assert training_seconds_left([fast, wild]) == 0.0
