import threading
import time
from typing import NamedTuple

import pandas as pd
import pytest
from report_examples import GRID, unfinished

from heavytail_optax import cli
from heavytail_optax.experiments.commands import report as report_command
from heavytail_optax.experiments.storage.run_directory import LOCK, RunLock


class Cell(NamedTuple):
    """Stands for a run."""

    name: str
    seed: int


class Grid:
    """Stands for a grid in its directory."""

    preset = "corrupted-fashion-mnist"

    def __init__(self, directory):
        self.directory = directory
        self.results = GRID

    def read(self):
        return {Cell(each.method, each.seed): each for each in self.results}


@pytest.fixture
def grid(monkeypatch, tmp_path):
    grid = Grid(tmp_path)
    monkeypatch.setattr(report_command, "read_grid", lambda directory: grid)
    monkeypatch.setattr(report_command, "read_results", Grid.read)
    return grid


def report(*arguments):
    return cli.main(["report", *map(str, arguments)])


def test_report_is_printed_and_written(grid, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert report(tmp_path) == 0
    output = capsys.readouterr().out
    assert "sgd (SB)" in output
    assert (
        f"{len([c for c in GRID if c.status == 'finished'])} of {len(GRID)} runs"
        in (output)
    )
    for name in ("report.md", "summary.csv", "runs.csv"):
        assert f"Written: {tmp_path / name}" in output
        assert (tmp_path / name).exists()
    picture = tmp_path / "accuracy_against_sharpness.png"
    assert f"Written: {picture}" in output
    assert picture.exists()


def test_a_report_waits_for_that_of_another_process_and_is_newer(grid, tmp_path):
    held, written = threading.Event(), []

    def other_process():
        with RunLock(tmp_path):
            held.set()
            time.sleep(0.5)
            written.extend(tmp_path.glob("*.csv"))
            # A run that was finished while the first process waited.
            grid.results = GRID

    grid.results = GRID[:1]
    thread = threading.Thread(target=other_process)
    thread.start()
    held.wait()
    assert report(tmp_path) == 0
    thread.join()
    assert written == []
    assert len(pd.read_csv(tmp_path / "runs.csv")) == len(GRID)


def test_nothing_finished_yet(grid, tmp_path, capsys):
    grid.results = [unfinished("sgd", 0), unfinished("balanced", 0)]
    assert report(tmp_path) == 0
    output = capsys.readouterr().out
    assert "No run is finished yet." in output
    assert "0/1 ‡" in output
    assert not (tmp_path / "accuracy_against_sharpness.png").exists()


def test_directory_without_a_grid(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for directory in (tmp_path / "none", tmp_path / "empty"):
        assert report(directory) == 2
        assert str(directory) in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_file_that_cannot_be_replaced_is_told(grid, tmp_path, capsys):
    (tmp_path / "summary.csv").mkdir()
    assert report(tmp_path) == 1
    assert str(tmp_path / "summary.csv") in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} <= {"summary.csv", LOCK}


def test_full_disk_is_told(grid, tmp_path, capsys, monkeypatch):
    def replace_file(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        "heavytail_optax.experiments.report.report.replace_file", replace_file
    )
    assert report(tmp_path) == 1
    error = capsys.readouterr().err
    assert str(tmp_path) in error and "No space left on device" in error


@pytest.mark.parametrize("arguments", [[], ["--dir", "x"], ["a", "b"]])
def test_bad_arguments(arguments, capsys):
    assert report(*arguments) == 2


def test_help_tells_what_is_written(capsys):
    assert report("--help") == 0
    output = capsys.readouterr().out
    for name in ("report.md", "summary.csv", "runs.csv", "heavytail reproduce"):
        assert name in output
