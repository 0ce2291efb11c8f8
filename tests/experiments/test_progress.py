import io
import re

import pytest
from rich.console import Console

from heavytail_optax.experiments.terminal import Progress, describe
from heavytail_optax.experiments.training.trainer import Chunk, Metrics

STEPS = 1000
RUNS = [f"run of method {number}" for number in range(8)]


def metrics_at(step, **values):
    return Metrics(*[0] * 11)._replace(step=step, **values)


def chunk_at(step, speed=100.0, seconds_left=0.0, batch_loss=0.0):
    return Chunk(None, step, batch_loss, 0.0, speed, seconds_left, None, None)


def shown(work, **options):
    """What a console shows of some work, without the codes that move its cursor."""
    file = io.StringIO()
    with Progress(Console(file=file, **options)) as progress:
        work(progress)
    # Versions of rich before 14.3 end with an empty line.
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).rstrip()


def carry_out(progress, label, chunks=100):
    """Reports what a run reports."""
    progress.start(label, STEPS, 0)
    for number in range(1, chunks + 1):
        step = STEPS * number // chunks
        left = (STEPS - step) / 100
        progress.advance(label, chunk_at(step, seconds_left=left), metrics_at(step))
    for part in ((0, 20), (10, 20), (1, 1)):
        progress.measuring(label, "expected", *part)
    progress.done(label)


def test_what_a_chunk_of_steps_came_to_is_on_one_line():
    metrics = metrics_at(200, test_accuracy=0.781, truncated=0.042)
    chunk = chunk_at(300, 100.0, 117.2, 0.9137)
    expected = (
        "300/3,000  100/s  1:57 left  loss 0.914  test 78.1%  truncated lately 4%"
    )
    assert describe(chunk, metrics, 3000) == expected
    assert "3.0/s" in describe(chunk_at(300, 3.0), metrics, 600)
    assert describe(chunk, None, 300).endswith("done  loss 0.914")


def test_lines_are_few_and_say_which_run_it_is():
    def work(progress):
        progress.plan(dict.fromkeys(RUNS, 1.0), [])
        carry_out(progress, RUNS[0])
        progress.start(RUNS[1], STEPS, STEPS)

    lines = shown(work, width=100).splitlines()
    assert lines[0].startswith("0 of 8")
    assert lines[1] == f"run 1 of 8: {RUNS[0]}: compiling"
    assert len(lines) == 1 + 1 + 10 + 1 + 1 + 1
    assert f"run 1 of 8: {RUNS[0]}: measuring expected" in lines
    assert f"{RUNS[0]}: 1,000/1,000  100/s  done" in lines[-4]
    assert lines[-2].startswith("1 of 8") and lines[-2].endswith("left")
    assert lines[-1] == f"run 2 of 8: {RUNS[1]}: already done"


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_keeps_one_bar_however_many_runs_there_are(width):
    def work(progress):
        progress.plan(dict.fromkeys(RUNS, 1.0), [])
        for label in RUNS:
            carry_out(progress, label, chunks=2)
        progress.note("a note")

    output = shown(work, force_terminal=True, width=width)
    assert "compiling" in output and "a note" in output and "8 of 8 done" in output
    for number, label in enumerate(RUNS, 1):
        line = rf"run {number} of 8: {label}  1,000/1,000  .*done"
        assert len(re.findall(line, output)) == 1


def test_what_another_process_has_done_counts():
    def work(progress):
        progress.plan(dict.fromkeys(RUNS, 1.0), RUNS[:2])
        progress.done(RUNS[0], RUNS[5])
        progress.done(RUNS[5])

    lines = shown(work).splitlines()
    assert [line.split(" runs")[0] for line in lines] == ["2 of 8", "3 of 8"]


def test_time_left_is_in_proportion_to_the_work_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def work(progress):
        # The first was done before, so it says nothing about the speed.
        progress.plan({"a": 5.0, "b": 1.0, "c": 8.0, "d": 2.0}, ["a"])
        now[0] += 60.0
        progress.done("b")
        # What is there of the next one does not either.
        progress.start("c", STEPS, STEPS // 2)
        now[0] += 300.0
        progress.done("c")

    lines = [line for line in shown(work).splitlines() if "runs are done" in line]
    assert lines == [
        "1 of 4 runs are done",
        "2 of 4 runs are done, about 10 min left",
        "3 of 4 runs are done, about 3 min left",
    ]


def test_time_left_adds_that_of_this_run_to_that_of_the_others(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def work(progress):
        progress.plan({"a": 1.0, "b": 3.0}, [])
        progress.start("a", STEPS, 0)
        # Compilation is there once a run, not once a step.
        now[0] += 600.0
        progress.advance("a", chunk_at(1, seconds_left=1200.0), None)

    # 20 minutes of this one, and three times its 30 of the other.
    assert "0 of 2 done, about 1 h 50 min left" in shown(work, force_terminal=True)
