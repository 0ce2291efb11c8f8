"""What every command says of its options, and of those that it does not have."""

import itertools
import pathlib
import subprocess
import sys

import pytest

from heavytail_optax import cli
from heavytail_optax.cli import SUBCOMMANDS
from heavytail_optax.experiments.presets import PRESETS


def help_of(command, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.main([command, "--help"]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_help_fits_the_terminal(command, monkeypatch, capsys):
    for width in (80, 120):
        lines = help_of(command, width, monkeypatch, capsys)
        assert max(map(len, lines)) <= width


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_no_line_of_help_ends_early(command, monkeypatch, capsys):
    """The first word of the next line would not have had room on it."""
    lines = help_of(command, 80, monkeypatch, capsys)
    lines = [line.strip("│").rstrip() for line in lines]
    compared = 0
    for line, after in itertools.pairwise(lines):
        # Beside an option, or below it.
        is_help = "  " in line.strip() or line.startswith(" " * 6)
        if is_help and after.startswith(" " * 6):
            compared += 1
            assert len(line) + 1 + len(after.split()[0]) > 77, line
    assert compared > 2 or command == "report"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (
            "train --lr 0.1",
            "--lr: train has no such option. Did you mean --learning-rate?",
        ),
        (
            "train --LR 0.1",
            "--LR: train has no such option. Did you mean --learning-rate?",
        ),
        ("train --Steps 3", "--Steps: train has no such option. Did you mean --steps?"),
        (
            "train --epochs=5",
            "--epochs: train has no such option. Did you mean --steps? A step is one batch.",
        ),
        ("train --wd 0.1", "--wd: train has no weight decay."),
        (
            "train --grid-dir x",
            "--grid-dir: train has no such option. Did you mean --directory?",
        ),
        ("train --seeds 3", "--seeds: train has no such option. Did you mean --seed?"),
        (
            "train --num_steps 3",
            "--num_steps: train has no such option. Did you mean --steps?",
        ),
        (
            "reproduce --seeds 3",
            "--seeds: reproduce has no such option. Did you mean --num-seeds or --seed?",
        ),
        (
            "reproduce --run-dir x",
            "--run-dir: reproduce has no such option. Did you mean --directory?",
        ),
        (
            "report --grid-dir x",
            "--grid-dir: report has no such option. Give the directory alone, without",
        ),
        (
            "flatness --directory x",
            "--directory: flatness has no such option. Give the directory alone, without",
        ),
        (
            "diagnose x --num-seeds 3",
            "--num-seeds: diagnose has no such option. Did you mean --seeds?",
        ),
        (
            "simulate --lr 1e-3",
            "--lr: simulate has no such option. Did you mean --learning-rate?",
        ),
        (
            "simulate --scale 1",
            "--scale: simulate has no such option. Did you mean --noise-scale?",
        ),
        (
            "exit-times --lrs 1e-3",
            "--lrs: exit-times has no such option. Did you mean --learning-rates?",
        ),
        (
            "markov-chain --out x",
            "--out: markov-chain has no such option. Did you mean --directory?",
        ),
        ("train --methods balancd", "Did you mean balanced?"),
        ("train --methods sdg", "Did you mean sgd?"),
        ("simulate --setps 100", "Did you mean --steps?\n"),
        ("report", "heavytail report DIRECTORY"),
        (
            "reproduce --num-seed 3",
            "--num-seed: reproduce has no such option. Did you mean --num-seeds?",
        ),
        (
            "train --batch 3",
            "--batch: train has no such option. Did you mean --batch-size?",
        ),
        ("train --stepz 3", "--stepz: train has no such option. Did you mean --steps?"),
        ("train --directory", "The --directory option needs a value: a path."),
        ("train --coordinator", "The --coordinator option needs a value."),
        ("train --model-width 2", "train has no such option. Did you mean --width?"),
        (
            "train --resume x --run-dir y",
            "--run-dir: train has no such option. Did you mean --directory?",
        ),
        ("train --steps 20 --steps 30", "The --steps option is given more than once."),
        ("flatness x --again --again", "The --again option is given more than once."),
        (
            "train --tensorboard --no-tensorboard",
            "The --tensorboard option is given more than once.",
        ),
        ("train svhn --preset svhn", "The --preset option is given more than once."),
        ("simulate --seed=1 --seed 2", "The --seed option is given more than once."),
        (
            "reproduce --measures maximal --sharpness-samples 5",
            "--sharpness-samples: only with --measures expected or pac-bayes.",
        ),
        (
            "train --methods sgd --truncated-share 0.03",
            "sgd-truncated, independent, shared, balanced or truncated-heavy-tailed-sgd.",
        ),
        (
            "exit-times --chains 4",
            "--chains: exit-times has no such option. Did you mean --exits?",
        ),
        (
            "reproduce --measures maximal pac-bayes --sharpness-stddev 0.1",
            "--sharpness-stddev: only with --measures expected.",
        ),
    ],
)
def test_usual_names_get_a_hint(typed, hint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(typed.split()) == 2
    error = capsys.readouterr().err
    assert hint in error
    # A line, and where the options are; not the whole help.
    assert len(error.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_usual_name_gets_no_hint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--learning-rate", "0"]) == 2
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed",
    [
        "report",
        "report a b",
        "train --nothing-like-it",
        "train --nothing-like-it=3 word",
        "train corrupted-digits word",
        "train -q 5",
        "train --steps",
        "train --steps=",
        "train --steps many",
        "train --alpha -x",
        "train --model mlp",
        "train --methods",
        "train --devices al",
        "train --tensorboard=yes",
        "train --tensorboard yes",
        "train --test-examples None",
        "exit-times --fields 1 x",
        "flatness x --measures dens",
        # What is of a kind but not allowed, in every group of options.
        "train --alpha -1",
        "train --seed -1",
        "train --steps 0",
        "train --width -1",
        "train --image-size 3",
        "train --sharpness-samples 1",
        "diagnose --draws 3",
        "flatness x --jumps 0",
        "simulate --alpha 3",
        "exit-times --fields 7",
        # What has an effect only with another option.
        "train --join-seconds 3",
        "train --process-id 1",
        "train --measures expected",
        "train --sharpness-samples 5",
        "train --sharpness-stddev 0.1",
        "train --methods sgd --truncated-share 0.1",
        "train --methods sgd --sam-radius 0.2",
        "train --methods sgd --averaged-share 0.5",
        "train --methods sam --gradient-average 0.5",
        "train --methods sgd f-sam --momentum 0.5",
        "train --methods sgd --cooldown 0.5",
        "train --methods sgd sam --inflation-law normal",
        "train --methods balanced --noise-scale 0.1",
        "train --methods balanced --large-batch-size 10",
        "reproduce --large-batch-size 10 --methods sgd balanced",
        "reproduce --direction isotropic",
        "reproduce --partition x",
        "reproduce --launcher submitit --cluster local --partition x",
        "flatness x --measures trace --paths 9",
        "flatness x --measures escape --target 0.2",
        "flatness x --measures line --samples 9",
        "exit-times --learning-rates --exits 50",
        "exit-times --rare-learning-rates --samples 50",
        "diagnose x --steps 200",
        "diagnose --seeds 1",
        # What does not fit the data, the machine or the other options.
        "train --data-dir x",
        "train --data cifar10 --data-dir nowhere --image-size 32",
        "train --data cifar10 --image-size 16",
        "train --swap-train-and-test",
        "train --clean-examples 1797",
        "train --test-examples 2000",
        "train --model vgg11",
        "train --data folder --data-dir nowhere --image-size 20 --model vgg11",
        "train --preset folder --data digits",
        "reproduce folder --data cifar10",
        "train --devices 99",
        "train --distributed",
        "reproduce --data-dir x",
        "reproduce --devices 99",
        "markov-chain --max-norm 0.44",
    ],
)
def test_a_mistake_has_its_line_and_exit_status(typed, tmp_path, monkeypatch, capsys):
    """The line has what was typed, and no name of ours."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(typed.split()) == 2
    error = capsys.readouterr().err
    assert 1 <= len(error.splitlines()) <= 4
    for ours in ("settings.", "SETTINGS", "Options:", "Error parsing", "`", "invalid"):
        assert ours not in error
    words = [word.partition("=")[0] for word in typed.split()]
    named = [word for word in words[1:] if word.lstrip("-") in error]
    assert named or typed == "report"
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "laboratory"])


@pytest.mark.parametrize(
    "typed",
    [
        # These have an effect, so all that is wrong is the directory.
        "flatness nowhere --measures trace --samples 9",
        "flatness nowhere --measures maximal --target 0.2",
        "flatness nowhere --jumps 2",
        "flatness nowhere",
        "diagnose nowhere",
        "report nowhere",
        "train --resume nowhere",
        "report empty",
        "train --resume empty",
        "train --directory full",
        "train --directory file",
        "reproduce --directory full",
        "reproduce --directory file",
        "simulate --directory file",
        "train --data svhn --data-dir empty --image-size 32",
        "train --data folder --data-dir nowhere",
        "train --data folder --data-dir file",
        "train --data folder --data-dir empty",
    ],
)
def test_what_names_something_that_is_not_there_has_status_2(
    typed, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "full/of"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "file").touch()
    assert cli.main(typed.split()) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert any(name in error for name in ("nowhere", "empty", "full", "file"))


@pytest.mark.parametrize(
    "typed", ["train --directory shut/run", "simulate --directory shut/run"]
)
def test_what_a_disk_refuses_has_status_1(typed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "shut/run")

    monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
    assert cli.main(typed.split()) == 1
    error = capsys.readouterr().err
    assert "shut/run" in error and "Permission denied" in error


def test_a_misspelt_preset_gets_the_nearest_and_the_list(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", "corrupted-digit"]) == 2
    error = capsys.readouterr().err
    assert all(preset in error for preset in PRESETS)
    nearest = error.partition("Did you mean ")[2]
    assert nearest.index("corrupted-digits") < nearest.index("corrupted-digits-short")
    assert "svhn" not in nearest


@pytest.mark.parametrize("command", ["train", "exit-times"])
def test_a_full_disk_behind_the_output_is_told_in_a_line(command):
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = subprocess.run(
            [sys.executable, "-m", "heavytail_optax", command, "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 1
    assert len(process.stderr.splitlines()) == 1
