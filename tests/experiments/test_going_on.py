"""A run that goes on has all that it was started with, and loses nothing silently."""

import json
import os
import shlex
import shutil
import signal
import sys

import numpy as np
import pytest
from event_files import curves
from small_data_sets import write_random_files
from typed_options import options_with

from heavytail_optax import cli

STEPS = 24
SMALL = [
    *("--methods", "sgd", "--steps", str(STEPS), "--eval-every", "2"),
    *("--clean-examples", "12", "--corrupted-examples", "8", "--batch-size", "5"),
    *("--test-examples", "10"),
]
MEASURED = ["--sharpness-samples", "2", "--measures", "expected"]
FASHION = ["corrupted-fashion-mnist", *SMALL]


@pytest.fixture(autouse=True)
def _called_as_heavytail(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["heavytail"])
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def images(small_data, tmp_path):
    """A data directory, the only place where these images are."""
    write_random_files(small_data["fashion-mnist"], tmp_path / "images")
    return tmp_path / "images"


def steps_of(run):
    """Of the metrics, and of TensorBoard's events."""
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    metrics = [json.loads(line)["step"] for line in lines]
    return metrics, [step for step, _ in curves(run / "tensorboard")["loss/train"]]


def interrupted(arguments, log, capsys):
    """Runs a command with Ctrl-C at its first metrics; returns what it says to type."""
    fsync = os.fsync

    def press(file):
        fsync(file)
        if log.exists() and log.stat().st_size:
            os.fsync = fsync
            os.kill(os.getpid(), signal.SIGINT)

    # In the main thread, so that it cannot come when the command has ended already.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", press)
        assert cli.main(arguments) == 130
    output = capsys.readouterr().out
    (line,) = [x for x in output.splitlines() if x.startswith("To go on: ")]
    program, *typed = shlex.split(line.removeprefix("To go on: "))
    assert program == "heavytail"
    return typed


ALL = list(range(2, STEPS + 1, 2))


def test_the_printed_command_alone_goes_on_with_all_options(
    images, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    start = ["train", *FASHION, "--tensorboard", "--data-dir", "images"]
    start += ["--devices", "2"]
    typed = interrupted(
        [*start, "--directory", str(run)], run / "sgd/seed-0/metrics.jsonl", capsys
    )
    assert steps_of(run / "sgd/seed-0")[0] != ALL
    # From anywhere, though the data directory was given relative to the first place.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert cli.main(typed) == 0
    assert steps_of(run / "sgd/seed-0") == (ALL, ALL)
    # Nothing was lost, so nothing is set aside.
    assert not list(run.rglob("earlier*"))
    # As if the run had come from a machine with more devices than this one.
    grid = run / "grid.json"
    text = grid.read_text("utf-8").replace('"devices": 2', '"devices": 999')
    grid.write_text(text, "utf-8")
    assert cli.main(typed) == 2
    assert "--devices" in capsys.readouterr().err
    assert cli.main([*typed, "--devices", "1"]) == 0
    assert cli.main(typed) == 0


def test_an_option_given_when_going_on_counts_from_then_on(
    images, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    start = ["train", *FASHION, "--data-dir", str(images), "--directory", str(run)]
    interrupted(start, run / "sgd/seed-0/metrics.jsonl", capsys)
    images.rename(tmp_path / "moved")
    assert cli.main(["train", "--resume", str(run)]) == 2
    error = capsys.readouterr().err
    assert str(images) in error and "--data-dir" in error
    moved = ["--data-dir", str(tmp_path / "moved"), "--tensorboard"]
    assert cli.main(["train", "--resume", str(run), *moved]) == 0
    assert steps_of(run / "sgd/seed-0") == (ALL, ALL)
    # And the next time it need not be given again; all events are made anew.
    shutil.rmtree(run / "sgd/seed-0/tensorboard")
    (run / "sgd/seed-0/metrics.jsonl").unlink()
    assert cli.main(["train", "--resume", str(run)]) == 0
    assert steps_of(run / "sgd/seed-0") == ([STEPS], [STEPS])
    # The command line has the last word.
    shutil.rmtree(run / "sgd/seed-0/tensorboard")
    (run / "sgd/seed-0/metrics.jsonl").unlink()
    assert cli.main(["train", "--resume", str(run), "--no-tensorboard"]) == 0
    assert not (run / "sgd/seed-0/tensorboard").exists()


def test_a_grid_goes_on_with_the_options_of_the_last_time(images, tmp_path, capsys):
    grid = tmp_path / "grid"
    start = ["reproduce", *FASHION, *MEASURED, "--directory", str(grid)]
    start += ["--num-seeds", "1"]
    first = grid / "sgd" / "seed-0"
    options = ["--data-dir", "images", "--tensorboard"]
    typed = interrupted([*start, *options], first / "metrics.jsonl", capsys)
    assert typed == [*start, *options]
    assert cli.main(typed) == 0
    assert steps_of(first) == (ALL, ALL)
    assert cli.main([*start[:-1], "2"]) == 0
    assert steps_of(grid / "sgd" / "seed-1") == (ALL, ALL)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["flatness", "--measures", "expected"], id="flatness"),
        # Its fits take half a minute.
        pytest.param(
            ["diagnose", "--draws", "100"], id="diagnose", marks=pytest.mark.slow
        ),
    ],
)
def test_measuring_finds_the_data_that_the_run_was_trained_on(
    images, tmp_path, monkeypatch, command
):
    run = tmp_path / "run"
    options = ["--data-dir", "images", "--directory", str(run)]
    assert cli.main(["train", *options_with(FASHION, "--steps", "2", *options)]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    name, *others = command
    assert cli.main([name, str(run), *others]) == 0
    # What is given counts: here nothing is to be found.
    others += ["--again", "--data-dir", "."]
    assert cli.main([name, str(run), *others]) == 2


@pytest.fixture(scope="module")
def measured(tmp_path_factory, tiny_options):
    """A finished and measured run with TensorBoard's events."""
    run = tmp_path_factory.mktemp("runs") / "measured"
    options = [*tiny_options, "--methods", "sgd", "--tensorboard"]
    assert cli.main(["train", *options, "--directory", str(run)]) == 0
    measures = ["--measures", "expected", "--samples", "2"]
    assert cli.main(["flatness", str(run), *measures]) == 0
    return run


@pytest.mark.parametrize("value", ["3", '"some"', "[]", "null"])
def test_a_record_that_is_none_is_named(measured, tmp_path, capsys, value):
    run = shutil.copytree(measured, tmp_path / "run")
    grid = run / "grid.json"
    text = grid.read_text("utf-8")
    assert '"tensorboard": true' in text
    grid.write_text(
        text.replace('"tensorboard": true', f'"tensorboard": {value}'), "utf-8"
    )
    assert cli.main(["train", "--resume", str(run)]) == 1
    error = capsys.readouterr().err
    assert str(grid) in error and "tensorboard" in error


def without_seconds(path):
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{**row, "seconds": 0} for row in rows]


@pytest.mark.parametrize("lost", [("4", "6"), ("6",)], ids=["all", "the newest"])
def test_what_was_there_is_kept_when_checkpoints_are_gone(
    measured, tmp_path, capsys, lost
):
    grid = shutil.copytree(measured, tmp_path / "run")
    run = grid / "sgd" / "seed-0"
    for number in ("1", "2"):
        before = {
            path.relative_to(run): path.read_bytes()
            for path in run.rglob("*")
            if path.is_file() and path.name not in ("config.json", "run.lock")
            if path.parent.name != "checkpoints" and "earlier" not in str(path)
        }
        for step in lost:
            (run / "checkpoints" / f"{step}.npz").unlink()
        capsys.readouterr()
        assert cli.main(["train", "--resume", str(grid)]) == 0
        output = " ".join(capsys.readouterr().out.split())
        kept = run / f"earlier-{number}"
        assert "checkpoint" in output and str(kept) in output
        assert {
            path.relative_to(kept): path.read_bytes()
            for path in kept.rglob("*")
            if path.is_file()
        } == before
        log, steps = run / "metrics.jsonl", ([2, 4, 6], [2, 4, 6])
        assert steps_of(run) == steps
        assert without_seconds(log) == without_seconds(kept / log.name)
        # Measured are the new weights.
        assert not (run / "measurements.json").exists()
        measures = ["--measures", "expected", "--samples", "2"]
        assert cli.main(["flatness", str(grid), *measures]) == 0
        assert "already measured" not in capsys.readouterr().out


def test_a_run_that_diverged_has_nothing_to_keep(tmp_path, tiny_options):
    run = tmp_path / "run"
    options = [*tiny_options, "--methods", "sgd", "--learning-rate", "1e30"]
    assert cli.main(["train", *options, "--directory", str(run)]) == 3
    assert cli.main(["train", "--resume", str(run)]) == 3
    assert not list(run.rglob("earlier*"))


def test_metrics_that_are_gone_or_damaged_are_told(measured, tmp_path, capsys):
    grid = shutil.copytree(measured, tmp_path / "run")
    log = grid / "sgd" / "seed-0" / "metrics.jsonl"
    whole = without_seconds(log)
    first, second, _ = log.read_text("utf-8").splitlines(keepends=True)
    log.write_text(first + second[20:], "utf-8")
    assert cli.main(["train", "--resume", str(grid)]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "damaged" in output and "steps 4 are not in" in output
    # Those of the last step are in its checkpoint, but for the time taken.
    assert without_seconds(log) == [whole[0], whole[2]]
    log.unlink()
    assert cli.main(["train", "--resume", str(grid)]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "steps 2, 4 are not in" in output and str(log) in output
    assert without_seconds(log) == whole[2:]


def test_the_way_on_with_a_name_that_a_shell_would_split(
    tmp_path, tiny_options, capsys
):
    run = tmp_path / "a run"
    options = options_with(tiny_options, "--methods", "sgd", "--steps", "2")
    start = ["train", *options, "--directory", str(run)]
    assert cli.main(start) == 0
    capsys.readouterr()
    assert cli.main(start) == 2
    words = shlex.split(capsys.readouterr().err.replace("`", " "))
    place = words.index("--resume")
    assert words[place + 1].rstrip(",.") == str(run)


def test_measures_are_kept_apart_if_they_cannot_be_read(measured, tmp_path, capsys):
    run = shutil.copytree(measured, tmp_path / "run")
    path = run / "sgd" / "seed-0" / "measurements.json"
    damaged = path.read_text("utf-8")[:-9]
    path.write_text(damaged, "utf-8")
    measures = ["--measures", "expected", "--samples", "2"]
    assert cli.main(["flatness", str(run), *measures]) == 0
    kept = path.with_name("damaged-measurements.json")
    assert kept.read_text("utf-8") == damaged
    assert str(kept) in " ".join(capsys.readouterr().out.split())
    value = json.loads(path.read_text("utf-8"))["expected"]["scalars"]
    assert np.isfinite(value["expected_sharpness"]["value"])
