import sys
import types

import pytest
from report_examples import GRID, unfinished

from heavytail_optax.experiments.commands import report as report_command
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError


@pytest.fixture
def grid(monkeypatch):
    """Stands for the module that reads grids; its cells may be replaced."""

    def read_cells(directory):
        if module.cells is None:
            raise RunDirectoryError(f"There is no grid in {directory}.")
        return "corrupted-fashion-mnist", module.cells

    name = "heavytail_optax.experiments.runs.grid"
    module = types.ModuleType(name)
    module.cells, module.read_cells = GRID, read_cells
    monkeypatch.setitem(sys.modules, name, module)
    return module


def report(*arguments):
    return report_command.run([str(each) for each in arguments], "heavytail")


def test_report_is_printed_and_written(grid, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert report(tmp_path) == 0
    output = capsys.readouterr().out
    assert "sgd (SB)" in output
    assert "10 of 13 runs... are finished" not in output
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


def test_nothing_finished_yet(grid, tmp_path, capsys):
    grid.cells = [unfinished("sgd", 0), unfinished("balanced", 0)]
    assert report(tmp_path) == 0
    output = capsys.readouterr().out
    assert "No run is finished yet." in output
    assert "0/1 ‡" in output
    assert not (tmp_path / "accuracy_against_sharpness.png").exists()


def test_directory_that_is_not_there(grid, tmp_path, capsys):
    assert report(tmp_path / "none") == 1
    assert f"There is no directory {tmp_path / 'none'}." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cells", "message"),
    [(None, "There is no grid in"), ([], "has no runs. Start some: heavytail")],
)
def test_directory_without_runs(grid, cells, message, tmp_path, capsys):
    grid.cells = cells
    assert report(tmp_path) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_file_that_cannot_be_replaced_is_told(grid, tmp_path, capsys):
    (tmp_path / "summary.csv").mkdir()
    assert report(tmp_path) == 1
    assert f"cannot be written to {tmp_path}: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["summary.csv"]


def test_full_disk_is_told(grid, tmp_path, capsys, monkeypatch):
    def replace_file(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        "heavytail_optax.experiments.report.report.replace_file", replace_file
    )
    assert report(tmp_path) == 1
    error = capsys.readouterr().err
    assert f"cannot be written to {tmp_path}: No space left on device." in error


@pytest.mark.parametrize("arguments", [[], ["--dir", "x"], ["a", "b"]])
def test_bad_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        report(*arguments)
    assert stop.value.code == 2


def test_help_tells_what_is_written(capsys):
    with pytest.raises(SystemExit) as stop:
        report("--help")
    assert stop.value.code == 0
    output = capsys.readouterr().out
    for name in ("report.md", "summary.csv", "runs.csv", "Directory of a grid"):
        assert name in output
