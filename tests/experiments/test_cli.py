import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import heavytail_optax
from heavytail_optax import cli
from heavytail_optax.experiments.commands import train
from heavytail_optax.experiments.flat_settings import flat
from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.storage.metrics_log import read_metrics
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError, RunLock

HEAVY = "truncated-heavy-tailed-sgd"
DEFAULT = PRESETS["corrupted-digits"].methods


@pytest.fixture(autouse=True)
def _called_as_heavytail(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["heavytail"])
    monkeypatch.chdir(tmp_path)


def run_of(directory, method):
    return directory / method / "seed-0"


def outputs(directory):
    """All that a run leaves but the time it took, as plain values."""
    return {
        method: [
            row._replace(seconds=0)
            for row in read_metrics(run_of(directory, method) / "metrics.jsonl")
        ]
        for method in DEFAULT
        if run_of(directory, method).exists()
    }


def test_run_leaves_config_metrics_checkpoints_and_picture(trained, tiny):
    path = run_of(trained, HEAVY) / "config.json"
    config = json.loads(path.read_text("utf-8"))
    assert config["settings"]["batch_size"] == tiny.training.batch_size
    assert config["sources"]["batch_size"] == "user"
    assert config["sources"]["alpha"] == "theta"
    assert "--batch-size 10" in config["command"]
    rows = outputs(trained)
    for method in DEFAULT:
        assert [row.step for row in rows[method]] == [2, 4, 6]
        assert (run_of(trained, method) / "checkpoints" / "6.npz").is_file()
    assert (trained / "training.png").read_bytes()[:4] == b"\x89PNG"


def test_a_finished_run_has_nothing_left_to_do(trained, capsys):
    before = outputs(trained)
    assert cli.main(["train", "--resume", str(trained)]) == 0
    output = capsys.readouterr().out
    config = json.loads((run_of(trained, HEAVY) / "config.json").read_text("utf-8"))
    right = 20 - config["data"]["wrong_train_labels"]
    assert f"20 with a label drawn at random ({right} of these are right)" in output
    assert "Images" in output and "compiling" not in output
    assert outputs(trained) == before


def test_a_run_directory_is_not_overwritten(trained, capsys):
    assert cli.main(["train", "--directory", str(trained)]) == 2
    assert f"is not empty. Go on with it by --resume {trained}" in (
        capsys.readouterr().err
    )


def test_resuming_with_other_settings_is_refused(trained, capsys):
    assert cli.main(["train", "--resume", str(trained), "--seed", "9"]) == 2
    assert "--seed is 0 there and 9 here." in capsys.readouterr().err
    # The same value again is no change.
    assert cli.main(["train", "--resume", str(trained), "--seed", "0"]) == 0


def test_resuming_with_a_new_directory_is_refused(trained, capsys):
    arguments = ["train", "--resume", str(trained), "--directory", "elsewhere"]
    assert cli.main(arguments) == 2
    assert "--directory is given, which is for new runs" in capsys.readouterr().err
    assert not pathlib.Path("elsewhere").exists()


def test_resuming_nothing_is_told(tmp_path, capsys):
    assert cli.main(["train", "--resume", str(tmp_path / "none")]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def interrupt(directory, options):
    """Sends Ctrl-C to a run in its first chunk; returns its exit status and output."""
    # Slowed down, so as to be caught. Named like `python -m heavytail_optax`.
    program = (
        "import sys, time; import heavytail_optax.experiments.storage.metrics_log as log; "
        "append = log.append_metrics; "
        "log.append_metrics = lambda *args: (append(*args), time.sleep(1)); "
        "sys.argv[0] = '__main__.py'; "
        "from heavytail_optax.cli import main; sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "train", *options]
        + ["--methods", HEAVY, "--directory", str(directory)],
        stdout=subprocess.PIPE,
        text=True,
    )
    log = run_of(directory, HEAVY) / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def test_an_interrupted_run_goes_on_to_the_same_end(trained, tmp_path, tiny_options):
    directory = tmp_path / "cut"
    status, output = interrupt(directory, tiny_options)
    assert status == 130
    go_on = f"python -m heavytail_optax train --resume {directory}"
    assert output.rstrip().endswith(f"To go on: {go_on}")
    assert "interrupted" in output
    assert len(outputs(directory)[HEAVY]) < 3

    assert cli.main(["train", "--resume", str(directory)]) == 0
    assert outputs(directory) == {HEAVY: outputs(trained)[HEAVY]}


def test_a_killed_run_goes_on_to_the_same_end(trained, tmp_path, tiny_options):
    directory = tmp_path / "killed"
    # Dies between the metrics and the checkpoint of the second chunk.
    program = (
        "import os, sys; "
        "from heavytail_optax.experiments.storage import checkpoints; "
        "save = checkpoints.save_checkpoint; "
        "checkpoints.save_checkpoint = lambda directory, step, state: "
        "save(directory, step, state) if step < 4 else os.kill(os.getpid(), 9); "
        "from heavytail_optax.cli import main; sys.exit(main())"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, "train", *tiny_options]
        + ["--methods", HEAVY, "--directory", str(directory)],
        capture_output=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    log = run_of(directory, HEAVY) / "metrics.jsonl"
    assert [row.step for row in read_metrics(log)] == [2, 4]
    assert cli.main(["train", "--resume", str(directory)]) == 0
    assert outputs(directory) == {HEAVY: outputs(trained)[HEAVY]}


def test_a_loss_that_is_not_finite_is_told(tmp_path, tiny_options, capsys):
    arguments = ["train", *tiny_options, "--learning-rate", "1e30", "--methods", "sgd"]
    arguments += ["sgd-truncated", "--directory", str(tmp_path / "run")]
    assert cli.main(arguments) == 3
    output = capsys.readouterr().out
    assert "sgd (SB), seed 0 diverged: its loss is" in output
    assert "at step 2." in output
    assert "diverged at step 2" in [line.strip() for line in output.splitlines()]
    # The next method has its turn.
    assert "sgd-truncated (SB+Clip), seed 0: 6/6" in output
    rows = read_metrics(run_of(tmp_path / "run", "sgd") / "metrics.jsonl")
    assert [row.step for row in rows] == [2]
    assert not np.isfinite(rows[0].batch_loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", "0"], "The --batch-size option must be a positive integer."),
        (["--alpha", "-1"], "The --alpha option must be a positive number."),
        (["--batch-siz", "5"], "--batch-size"),
        (["svnh"], "Did you mean svhn?"),
        (["--methods", "balancd"], "Did you mean balanced?"),
        (["--steps", "many"], "--steps"),
        (["--methods", "balnced"], "Did you mean balanced?"),
        (["--method", "sgd"], "--methods"),
        (["--methods", "sgd", "sgd"], "must be without repetition"),
        (
            ["--large-batch-size", "1201", "--methods", "independent"],
            "must be at most the 1200 training images",
        ),
        (
            ["--batch-size", "1", "--methods", "sgd", "balanced"],
            "must be at least 2 with the method 'balanced', which splits it. Got 1",
        ),
        (["--inflate-above", "1"], "must be a number from 0 to below 1"),
        (["--preset", "mnist"], "corrupted-digits"),
        (["--resume"], "--resume"),
    ],
)
def test_bad_options_are_refused_before_any_work(options, message, tmp_path, capsys):
    assert cli.main(["train", *options]) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_does_not_cost_the_others(
    trained, tmp_path, capsys, monkeypatch
):
    directory = tmp_path / "copied"
    shutil.copytree(trained, directory)
    first, second, _ = DEFAULT
    for method in (first, second):
        (run_of(directory, method) / "metrics.jsonl").unlink()
    # One cannot be read, and one is in other hands.
    (run_of(directory, first) / "config.json").write_text("{", "utf-8")
    with RunLock(run_of(directory, second)):
        assert cli.main(["train", "--resume", str(directory)]) == 1
    output, error = capsys.readouterr()
    assert METHODS[first].label in error and "config.json" in error
    assert "Other processes work on" in output
    assert METHODS[second].label in output.rpartition("work on")[2]
    # What is in other hands is no failure.
    shutil.rmtree(run_of(directory, first))
    shutil.copytree(run_of(trained, first), run_of(directory, first))
    with RunLock(run_of(directory, second)):
        assert cli.main(["train", "--resume", str(directory)]) == 0
    # Its metrics are gone; the last ones are made again from its checkpoint.
    assert cli.main(["train", "--resume", str(directory)]) == 0
    found, expected = outputs(directory), outputs(trained)
    assert found == {**expected, second: expected[second][-1:]}


def test_a_grid_of_reproduce_goes_on_as_a_run(tmp_path, tiny_options, capsys):
    directory = tmp_path / "grid"
    options = [*tiny_options, "--methods", "sgd", "--sharpness-samples", "20"]
    reproduce = ["reproduce", *options, "--directory", str(directory)]
    assert cli.main(reproduce) == 0
    measured = run_of(directory, "sgd").with_name("seed-1") / "measurements.json"
    before = json.loads(measured.read_text("utf-8"))["expected"]["scalars"]
    measured.unlink()
    assert cli.main(["train", "--resume", str(directory)]) == 0
    assert json.loads(measured.read_text("utf-8"))["expected"]["scalars"] == before
    output = capsys.readouterr().out
    assert "sgd (SB), seed 0" in output and "sgd (SB), seed 1" in output
    assert (directory / "training.png").exists()
    assert cli.main(["report", str(directory)]) == 0


def test_too_few_images_for_a_test_are_refused_before_any_work(tmp_path, capsys):
    assert cli.main(["train", "--clean-examples", "1797"]) == 2
    error = capsys.readouterr().err
    assert "--clean-examples" in error and "1,796" in error
    assert list(tmp_path.rglob("config.json")) == []


def test_help_names_every_setting(tiny, capsys):
    assert cli.main(["train", "--help"]) == 0
    output = capsys.readouterr().out
    for name in (
        *(set(flat(tiny)) - {"method"}),
        "methods",
        "directory",
        "resume",
        "preset",
    ):
        assert re.search(rf"--{name.replace('_', '-')}[ ,]", output)
    for method in METHODS.values():
        assert f"{method.label} " in output
        assert method.summary in " ".join(output.split())
    for arguments in ([], ["--help"], ["-h"]):
        assert cli.main(arguments) == 0
        assert "train" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["simulate", "--help"]], ids=" ".join
)
def test_a_reader_that_has_gone_ends_the_command_quietly(arguments):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "heavytail_optax", *arguments],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert process.stderr == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_what_a_run_came_to_is_told_though_there_is_no_picture(
    trained, tmp_path, monkeypatch, capsys
):
    directory = pathlib.Path(shutil.copytree(trained, tmp_path / "copied"))
    first = run_of(directory, DEFAULT[0])
    (first / "metrics.jsonl").unlink()
    (first / "config.json").write_text("{", "utf-8")

    def fail(*_):
        raise RunDirectoryError("no picture")

    monkeypatch.setattr(train, "_show", fail)
    assert cli.main(["train", "--resume", str(directory)]) == 1
    output, error = capsys.readouterr()
    assert METHODS[DEFAULT[0]].label in error and "no picture" in error
    assert "To go on: " in output


def test_misspelt_subcommand_gets_a_suggestion(capsys):
    assert cli.main(["trian"]) == 2
    assert "Did you mean train?" in capsys.readouterr().err


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.split()[-1] == heavytail_optax.__version__


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_is_installed", lambda module: module != "flax")
    assert cli.main(["train"]) == 2
    error = capsys.readouterr().err
    assert 'needs flax. Install with: pip install "heavytail-optax[experiments]"' in (
        error
    )
