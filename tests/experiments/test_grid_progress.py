import io
import re

import pytest
from rich.console import Console

from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.runs.grid import Grid, variants_of
from heavytail_optax.experiments.runs.grid_progress import GridProgress
from heavytail_optax.experiments.runs.result import RunResult, read_result
from heavytail_optax.experiments.runs.time_left import training_seconds_left
from heavytail_optax.experiments.terminal.progress import LiveProgress, PlainProgress
from heavytail_optax.experiments.training.trainer import Chunk, Metrics


def carry_out(run, progress, results, steps):
    """Reports what a run reports, and notes what it comes to."""
    progress.begin(run)
    progress.start(run.label, None)
    for step in (steps // 2, steps):
        metrics = Metrics(*[0.5] * 10)._replace(step=step, seconds=20.0 * step / steps)
        chunk = Chunk(None, step, 0.5, metrics.seconds, metrics, None)
        progress.advance(run.label, chunk, metrics)
    for part in ((0, 20), (10, 20), (1, 1)):
        progress.measuring(run.label, "expected", *part)
    results[run] = results[run]._replace(
        status="finished",
        step=steps,
        seconds=20.0,
        sharpness={"expected_sharpness": (0.5, 0.25)},
    )
    progress.end()


@pytest.fixture
def results(tiny, tmp_path):
    variants = variants_of(tiny, PRESETS["corrupted-digits"].methods)
    seeds = tuple(range(8))
    grid = Grid(tmp_path, "corrupted-digits-short", variants, seeds, is_measured=True)
    return {run: read_result(run) for run in grid.runs()}


def test_lines_say_which_run_it_is_and_how_long_all_will_take(tiny, results):
    file = io.StringIO()
    with PlainProgress(Console(file=file, width=100), tiny.training.steps) as plain:
        progress = GridProgress(plain, results)
        for run in list(results)[:2]:
            carry_out(run, progress, results, tiny.training.steps)
    lines = file.getvalue().splitlines()
    assert lines[0] == "0 of 24 runs are done"
    assert lines[1] == "run 1 of 24: sgd (SB), seed 0: compiling"
    assert "run 1 of 24: sgd (SB), seed 0: measuring expected" in lines
    # 23 runs of 20 seconds, or a little more.
    (first,) = [line for line in lines if line.startswith("1 of 24 runs are done")]
    assert re.search(r"about [78] min left$", first)
    assert lines.index(first) < lines.index("run 2 of 24: balanced, seed 0: compiling")


def test_what_another_process_has_done_counts(tiny, results):
    file = io.StringIO()
    with PlainProgress(Console(file=file, width=100), tiny.training.steps) as plain:
        progress = GridProgress(plain, results)
        first, second, *_ = results
        # What another process did in the meantime counts.
        results[first] = results[first]._replace(
            status="diverged", step=1, seconds=100.0
        )
        carry_out(second, progress, results, tiny.training.steps)
    assert file.getvalue().splitlines()[-1].startswith("2 of 24 runs are done")


def test_a_terminal_keeps_one_bar_however_many_runs_there_are(tiny, results):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=130)
    with LiveProgress(console, tiny.training.steps, keep_bars=False) as live:
        progress = GridProgress(live, results)
        for run in results:
            carry_out(run, progress, results, tiny.training.steps)
        bars = [task.description for task in live._progress.tasks]
    assert bars == ["all runs"]
    output = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    for number, run in enumerate(results, 1):
        line = rf"run {number} of 24: {re.escape(run.label)}  6/6  .*done"
        assert len(re.findall(line, output)) == 1
    assert "24 of 24 done" in output


def test_time_left_is_that_of_the_same_method_where_it_is_known():
    def result(method, step, seconds, images):
        status = "finished" if step == 10 else "interrupted" if step else "missing"
        return RunResult(
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
