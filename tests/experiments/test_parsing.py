"""What every command says of its options, and of those that it does not have."""

import itertools

import pytest

from heavytail_optax import cli
from heavytail_optax.cli import SUBCOMMANDS


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
        ("train --lr 0.1", "--lr: did you mean --learning-rate?"),
        ("train --epochs=5", "--epochs: did you mean --steps? A step is one batch."),
        ("train --wd 0.1", "--wd: there is no weight decay."),
        ("train --grid-dir x", "--grid-dir: did you mean --directory?"),
        ("train --seeds 3", "--seeds: did you mean --seed?"),
        ("train --num_steps 3", "--num-steps: did you mean --steps?"),
        ("reproduce --seeds 3", "--seeds: did you mean --num-seeds or --seed?"),
        ("reproduce --run-dir x", "--run-dir: did you mean --directory?"),
        ("report --grid-dir x", "--grid-dir: give the directory alone, without"),
        ("flatness --directory x", "--directory: give the directory alone, without"),
        ("diagnose x --num-seeds 3", "--num-seeds: did you mean --seeds?"),
        ("simulate --lr 1e-3", "--lr: did you mean --learning-rate?"),
        ("simulate --scale 1", "--scale: did you mean --noise-scale?"),
        ("exit-times --lrs 1e-3", "--lrs: did you mean --learning-rates?"),
        ("markov-chain --out x", "--out: did you mean --directory?"),
        ("train --methods balancd", "'balancd': did you mean 'balanced'?"),
    ],
)
def test_usual_names_get_a_hint(typed, hint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(typed.split()) == 2
    assert hint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_usual_name_gets_no_hint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--learning-rate", "0"]) == 2
    assert "did you mean" not in capsys.readouterr().err
