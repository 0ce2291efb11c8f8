import csv
import json
import operator
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest

from heavytail_optax import cli
from heavytail_optax.experiments.commands import reproduce
from heavytail_optax.experiments.flat_settings import flat
from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.runs import worker
from heavytail_optax.experiments.runs.grid import read_grid
from heavytail_optax.experiments.runs.result import read_result
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError, RunLock

RUNS = [("sgd", 0), ("balanced", 0), ("sgd", 1), ("balanced", 1)]


@pytest.fixture(autouse=True)
def _called_as_heavytail(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["heavytail"])
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def options(tiny_options):
    """Two methods, two seeds, on the command line."""
    small = ["--sharpness-samples", "20"]
    return [*tiny_options, *small, "--methods", "sgd", "balanced"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, options):
    """An uninterrupted grid."""
    directory = tmp_path_factory.mktemp("grids") / "whole"
    assert cli.main(["reproduce", *options, "--directory", str(directory)]) == 0
    return directory


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of it, to change."""
    return pathlib.Path(shutil.copytree(finished, tmp_path / "copied"))


@pytest.fixture
def trained(monkeypatch):
    """The runs that have their turn, each with what it then does: by default, nothing."""
    turns = []

    def carry_out(run, *others):
        turns.append((run.method, run.settings.seed))
        action = actions.get(turns[-1])
        if action is not None:
            action(run, *others)
        return read_result(run)

    actions = {}
    monkeypatch.setattr(worker, "carry_out", carry_out)
    return turns, actions


def rows_of(directory):
    """runs.csv but for the times."""
    with (directory / "runs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert float(row.pop("seconds")) > 0
    return rows


def is_a_suggestion(output, arguments):
    """Whether the output ends with a command that comes down to these arguments."""
    line = next(x for x in output.splitlines() if x.startswith("To go on: "))
    return shlex.split(line.removeprefix("To go on: ")) == ["heavytail", *arguments]


def test_grid_leaves_runs_table_and_picture(finished, tiny):
    rows = rows_of(finished)
    assert {(row["method"], int(row["seed"])) for row in rows} == set(RUNS)
    for row in rows:
        assert row["status"] == "finished" and row["step"] == str(tiny.training.steps)
        assert (row["test_images"], row["classes"]) == ("1697", "10")
        assert float(row["expected_sharpness"]) > 0
        assert float(row["expected_sharpness_standard_error"]) > 0
    assert len({row["test_accuracy"] for row in rows}) > 1
    assert "sgd (SB)" in (finished / "report.md").read_text("utf-8")
    picture = finished / "accuracy_against_sharpness.png"
    assert picture.read_bytes()[:4] == b"\x89PNG"
    config = json.loads((finished / "sgd/seed-1/config.json").read_text("utf-8"))
    assert config["settings"]["seed"] == 1 and config["settings"]["method"] == "sgd"
    assert config["sources"]["batch_size"] == "user"


def test_a_killed_grid_goes_on_to_the_same_end(finished, tmp_path, options):
    directory = tmp_path / "killed"
    # Dies between the metrics and the checkpoint of the third run's second chunk.
    program = (
        "import os, sys; from heavytail_optax.experiments.storage import checkpoints; "
        "save = checkpoints.save_checkpoint; "
        "checkpoints.save_checkpoint = lambda directory, step, state: "
        "save(directory, step, state) "
        "if step < 4 or 'seed-1' not in str(directory) "
        "else os.kill(os.getpid(), 9); "
        "from heavytail_optax.cli import main; sys.exit(main())"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, "reproduce", *options]
        + ["--directory", str(directory)],
        capture_output=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    assert (directory / "balanced/seed-0/measurements.json").exists()
    assert not (directory / "sgd/seed-1/measurements.json").exists()
    assert not (directory / "balanced/seed-1").exists()
    assert cli.main(["reproduce", *options, "--directory", str(directory)]) == 0
    assert rows_of(directory) == rows_of(finished)


def test_what_is_done_is_skipped(copied, options, trained, capsys):
    turns, _ = trained
    assert cli.main(["reproduce", *options, "--directory", str(copied)]) == 0
    assert turns == []
    assert "4 of 4 runs are done" in capsys.readouterr().out


def test_methods_and_seeds_are_added(copied, options, trained, capsys):
    turns, _ = trained
    more = ["reproduce", *options, "sgd-truncated", "--directory", str(copied)]
    assert cli.main([*more, "--num-seeds", "3"]) == 1  # as nothing is really done
    new = [("sgd-truncated", seed) for seed in range(3)]
    assert sorted(turns) == sorted([*new, ("sgd", 2), ("balanced", 2)])
    # Those that are not asked for again are still in the report.
    assert cli.main(["reproduce", *options, "--directory", str(copied)]) == 0
    grid = read_grid(copied)
    assert tuple(grid.variants) == ("sgd", "sgd-truncated", "balanced")
    assert grid.seeds == (0, 1, 2)
    assert "4 of 9 runs are finished" in capsys.readouterr().out


def test_other_settings_are_refused(copied, options, trained, capsys):
    arguments = ["reproduce", *options, "--alpha", "1.7", "--directory", str(copied)]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert f"The grid in {copied} has other settings: --alpha is 1.4 there and 1.7" in (
        error
    )
    other = ["reproduce", "corrupted-digits", *options, "--directory", str(copied)]
    assert cli.main(other) == 2
    assert "--preset is 'corrupted-digits-short' there" in capsys.readouterr().err
    assert trained[0] == []


def test_ctrl_c_says_how_to_go_on_and_that_works(copied, options, trained, capsys):
    turns, actions = trained
    shutil.rmtree(copied / "balanced")
    directory = copied.rename(copied.with_name("a b"))
    actions["balanced", 0] = lambda *_: signal.raise_signal(signal.SIGINT)
    arguments = ["reproduce", *options, "--directory", str(directory)]
    assert cli.main(arguments) == 128 + signal.SIGINT
    assert turns == [("balanced", 0)]
    output = capsys.readouterr().out
    assert "2 of 4 runs are finished" in output
    assert is_a_suggestion(output, arguments)


def test_a_run_that_fails_does_not_cost_the_others(copied, options, trained, capsys):
    turns, actions = trained

    def fail(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED\nof memory")

    for name in ("sgd/seed-0", "balanced/seed-1"):
        (copied / name / "measurements.json").unlink()
    actions["sgd", 0] = fail
    assert cli.main(["reproduce", *options, "--directory", str(copied)]) == 1
    assert turns == [("sgd", 0), ("balanced", 1)]
    output, error = capsys.readouterr()
    assert (
        "sgd (SB), seed 0: RuntimeError: RESOURCE_EXHAUSTED (all of it is in" in error
    )
    assert "of memory" in (copied / "sgd/seed-0/failure.txt").read_text("utf-8")
    assert "Written" in output and "To go on: " in output


def test_a_run_of_another_process_is_left_to_it(
    finished, copied, options, trained, capsys
):
    turns, actions = trained
    held = copied / "balanced" / "seed-0"
    for name in ("balanced/seed-0", "sgd/seed-1"):
        (copied / name / "measurements.json").unlink()

    def lock(run, *_):
        with RunLock(run.directory):
            pass

    def measure(run, *_):
        found = run.directory.relative_to(copied)
        shutil.copy(finished / found / "measurements.json", run.directory)

    actions["balanced", 0] = lock
    actions["sgd", 1] = measure
    with RunLock(held):
        assert cli.main(["reproduce", *options, "--directory", str(copied)]) == 0
    # It is tried again, as it may have been left while the other one was at work.
    assert turns == [("balanced", 0), ("sgd", 1), ("balanced", 0)]
    output, error = capsys.readouterr()
    assert "Other processes work on: balanced, seed 0." in output
    assert error == "" and "To go on" not in output
    # Beside one that failed it is no excuse.
    (copied / "sgd/seed-1/measurements.json").unlink()
    actions["sgd", 1] = lambda *_: operator.truediv(1, 0)
    with RunLock(held):
        assert cli.main(["reproduce", *options, "--directory", str(copied)]) == 1
    output, error = capsys.readouterr()
    assert "ZeroDivisionError" in error and "To go on" in output


def test_a_run_that_is_left_in_the_meantime_is_taken(
    finished, copied, options, trained
):
    turns, actions = trained
    for name in ("balanced/seed-0", "sgd/seed-1"):
        (copied / name / "measurements.json").unlink()
    lock = RunLock(copied / "balanced/seed-0").__enter__()

    def measure(run, *_):
        with RunLock(run.directory):
            found = run.directory.relative_to(copied)
            shutil.copy(finished / found / "measurements.json", run.directory)

    def measure_and_release(run, *_):
        measure(run)
        lock.__exit__()

    actions.update({("balanced", 0): measure, ("sgd", 1): measure_and_release})
    assert cli.main(["reproduce", *options, "--directory", str(copied)]) == 0
    assert turns == [("balanced", 0), ("sgd", 1), ("balanced", 0)]
    assert rows_of(copied) == rows_of(finished)


def test_a_report_has_what_others_did_after_this_process(
    finished, copied, options, trained, monkeypatch
):
    left = copied / "balanced/seed-0/measurements.json"
    left.unlink()

    def work_with_another(*arguments):
        done = worker.work(*arguments)
        shutil.copy(finished / "balanced/seed-0/measurements.json", left)
        return done

    monkeypatch.setattr(reproduce, "work", work_with_another)
    cli.main(["reproduce", *options, "--directory", str(copied)])
    assert rows_of(copied) == rows_of(finished)


def test_digits_have_no_directory(copied, options, tmp_path, capsys):
    grid = (copied / "grid.json").read_bytes()
    for place in (tmp_path, tmp_path / "nowhere"):
        arguments = ["--directory", str(copied), "--data-dir", str(place)]
        assert cli.main(["reproduce", *options, *arguments]) == 2
        error = capsys.readouterr().err
        assert "--data-dir" in error and str(place) in error
    assert (copied / "grid.json").read_bytes() == grid


def test_a_finished_grid_needs_no_data_and_an_unfinished_one_does(
    copied, options, tmp_path, capsys
):
    """Its table is shown where the recorded directory has moved since."""
    path, gone = copied / "grid.json", tmp_path / "gone"
    grid = json.loads(path.read_text("utf-8"))
    grid["machine"]["data_dir"] = str(gone)
    for variant in grid["variants"].values():
        variant["data"] = "fashion-mnist"
    path.write_text(json.dumps(grid), "utf-8")
    arguments = ["reproduce", *options, "--data", "fashion-mnist"]
    arguments += ["--directory", str(copied)]
    assert cli.main(arguments) == 0
    assert "balanced" in capsys.readouterr().out
    assert read_grid(copied).machine.data_dir == gone
    # One that is typed is looked for.
    other = tmp_path / "elsewhere"
    assert cli.main([*arguments, "--data-dir", str(other)]) == 2
    assert str(other) in capsys.readouterr().err
    (copied / "sgd/seed-0/metrics.jsonl").unlink()
    assert cli.main(arguments) == 2
    assert str(gone) in capsys.readouterr().err


def test_what_failed_is_told_though_there_is_no_report(
    copied, options, trained, monkeypatch, capsys
):
    _, actions = trained
    (copied / "sgd/seed-0/measurements.json").unlink()
    actions["sgd", 0] = lambda *_: operator.truediv(1, 0)

    def fail(*_):
        raise RunDirectoryError("no report")

    monkeypatch.setattr(reproduce, "show_report", fail)
    assert cli.main(["reproduce", *options, "--directory", str(copied)]) == 1
    output, error = capsys.readouterr()
    assert "ZeroDivisionError" in error and "no report" in error
    assert "To go on: " in output


def test_a_run_that_diverges_has_its_place_in_the_report(tmp_path, options, capsys):
    directory = tmp_path / "wild"
    arguments = [*options[:-1], "--learning-rate", "1e30", "--num-seeds", "1"]
    for _ in range(2):  # the second time there is nothing left to do
        assert cli.main(["reproduce", *arguments, "--directory", str(directory)]) == 0
        assert "0/1" in capsys.readouterr().out
    rows = rows_of(directory)
    assert [row["status"] for row in rows] == ["diverged"]


def test_measuring_that_was_stopped_is_done_again(copied, finished, options):
    path = copied / "sgd" / "seed-1" / "measurements.json"
    path.write_text("half of it", encoding="utf-8")
    steps = (path.with_name("metrics.jsonl")).read_bytes()
    assert cli.main(["reproduce", *options, "--directory", str(copied)]) == 0
    assert rows_of(copied) == rows_of(finished)
    assert path.with_name("metrics.jsonl").read_bytes() == steps


def test_missing_data_are_told_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    (tmp_path / "empty").mkdir()
    assert cli.main(["reproduce", "svhn", "--data-dir", "empty"]) == 2
    assert "images of SVHN could not be loaded" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--num-seeds", "0"],
            "The --num-seeds option must be an integer of at least 1.",
        ),
        (["--seed", "4294967295"], "--seed option must be an integer from 0 to"),
        (["--gpus-per-job", "-1"], "The --gpus-per-job option must be an integer"),
        (["--jobs-at-once", "0"], "The --jobs-at-once option must be an integer"),
        (["--cpus-per-job", "0"], "The --cpus-per-job option must be an integer"),
        (
            ["--partition", "gpu", "--jobs-at-once", "8"],
            "--jobs-at-once, --partition: only with --launcher submitit.",
        ),
        (["--job-minutes", "0"], "The --job-minutes option must be an integer"),
        (["--cluster", "pbs"], "slurm"),
        (
            ["corrupted-digts"],
            "Did you mean corrupted-digits or corrupted-digits-short?",
        ),
        (["--preset", "shvn"], "Did you mean svhn?"),
        (["--methods", "sgd", "balancd"], "Did you mean balanced?"),
        (["--direktory", "x"], "--directory"),
    ],
)
def test_bad_options_are_refused_before_any_work(arguments, message, tmp_path, capsys):
    assert cli.main(["reproduce", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert list(tmp_path.iterdir()) == []


def test_help_names_presets_methods_and_settings(tiny, capsys):
    assert cli.main(["reproduce", "--help"]) == 0
    output = capsys.readouterr().out
    own = ("preset", "num_seeds", "directory", "launcher", "cluster", "jobs_at_once")
    for name in (
        *(set(flat(tiny)) - {"method"}),
        "methods",
        *own,
        "data_dir",
        "partition",
    ):
        assert re.search(rf"--{name.replace('_', '-')}[ ,]", output)
    for each in (*METHODS.values(), *PRESETS.values()):
        assert f"{each.name} " in output
        assert each.summary in " ".join(output.split())
