"""Grids whose runs train as jobs of submitit, in processes of their own."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from heavytail_optax import cli
from heavytail_optax.experiments.metrics_log import read_metrics
from heavytail_optax.experiments.run_directory import holder_path, metrics_path
from heavytail_optax.experiments.run_lock import RunLock

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def options(tiny_options):
    small = ["--large-batch-size", "20", "--sharpness-samples", "20", "--seeds", "1"]
    return ["reproduce", *tiny_options, *small, "--methods", "sgd", "balanced"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, options):
    """A grid of one process."""
    directory = tmp_path_factory.mktemp("grids") / "here"
    assert cli.main([*options, "--directory", str(directory)]) == 0
    return rows_of(directory)


def rows_of(directory):
    """runs.csv but for the times."""
    with (directory / "runs.csv").open(encoding="utf-8") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def submitted(directory, *more):
    return ["--launcher", "submitit", "--cluster", "local", *more] + [
        *("--directory", str(directory))
    ]


@pytest.mark.parametrize("jobs_at_once", ["1", "2"])
def test_jobs_come_to_the_same_numbers(finished, tmp_path, options, jobs_at_once):
    more = submitted(tmp_path / "grid", "--jobs-at-once", jobs_at_once)
    assert cli.main([*options, *more]) == 0
    assert rows_of(tmp_path / "grid") == finished


def test_a_failed_job_is_told_with_its_log(tmp_path, options, capsys):
    directory = tmp_path / "grid"
    assert cli.main([*options[:-1], *submitted(directory)]) == 0
    # The other method's place is taken by a file.
    (directory / "balanced").touch()
    assert cli.main([*options, *submitted(directory)]) == 1
    output, error = capsys.readouterr()
    assert "1 of 2 runs are finished" in output
    assert "balanced, seed 0: The run directory" in error
    log = pathlib.Path(error.rpartition("Log: ")[2].strip())
    assert "cannot be made" in log.read_text("utf-8")


def long_run(tmp_path, options):
    """A command whose two runs take a while; its process, and their directories."""
    directory = tmp_path / "grid"
    long = ["--steps", "150", *submitted(directory, "--jobs-at-once", "2")]
    arguments = [*options, *long]
    process = subprocess.Popen(
        [sys.executable, "-m", "heavytail_optax", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    cells = [directory / method / "seed-0" for method in ("sgd", "balanced")]
    deadline = time.monotonic() + 240
    logs = [metrics_path(cell, cell.parent.name) for cell in cells]
    while time.monotonic() < deadline and not all(read_metrics(log) for log in logs):
        time.sleep(0.05)
    return arguments, process, cells


@pytest.fixture(scope="module")
def finished_long(tmp_path_factory, options):
    directory = tmp_path_factory.mktemp("grids") / "long"
    arguments = [*options, "--steps", "150", "--directory", str(directory)]
    assert cli.main(arguments) == 0
    return rows_of(directory)


def test_a_killed_job_goes_on_by_the_same_command(finished_long, tmp_path, options):
    arguments, process, cells = long_run(tmp_path, options)
    holder = json.loads(holder_path(cells[1]).read_text("utf-8"))
    os.kill(holder["pid"], signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "balanced, seed 0 failed: It was killed, or could not start." in output
    assert "1 of 2 runs are finished" in output
    assert cli.main(arguments) == 0
    assert rows_of(tmp_path / "grid") == finished_long


def test_ctrl_c_keeps_what_is_done(finished_long, tmp_path, options):
    arguments, process, cells = long_run(tmp_path, options)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "The jobs have stopped" in output and "Traceback" not in output
    for cell in cells:
        with RunLock(cell):
            pass
    assert cli.main(arguments) == 0
    assert rows_of(tmp_path / "grid") == finished_long


def test_a_job_at_its_time_limit_saves_and_comes_again(
    finished_long, tmp_path, options
):
    _, process, cells = long_run(tmp_path, options)
    for cell in cells:
        holder = json.loads(holder_path(cell).read_text("utf-8"))
        os.kill(holder["pid"], signal.SIGUSR2)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    logs = "".join(p.read_text() for p in (tmp_path / "grid/submitit").glob("*.out"))
    assert logs.count("Requeued job") == 2
    assert rows_of(tmp_path / "grid") == finished_long
