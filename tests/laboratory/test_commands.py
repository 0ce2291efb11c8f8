"""The laboratory's commands, at small sizes."""

import subprocess
import sys

import pytest

from heavytail_optax import cli
from heavytail_optax.experiments.storage.run_directory import claim
from heavytail_optax.laboratory import (
    exit_times,
    exit_times_report,
    markov_chain_report,
    options,
    regimes,
)

SMALL = {
    "simulate": ["--steps", "600", "--chains", "8", "--noise-scale", "5"],
    "exit-times": [
        "--fields",
        "2",
        "--learning-rates",
        "4e-3",
        "2e-3",
        "--exits",
        "20",
        "--rare-learning-rates",
        "1e-4",
        "--samples",
        "256",
        "--noise-scale",
        "1",
    ],
    "markov-chain": [
        "--steps",
        "20000",
        "--chains",
        "32",
        "--samples",
        "256",
        "--noise-scale",
        "0.2",
    ],
}


@pytest.fixture(autouse=True)
def _called_as_heavytail(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["heavytail"])
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    # Each snapshot is a visit of the host, which takes a millisecond.
    monkeypatch.setattr(regimes, "SNAPSHOTS", 20)
    monkeypatch.setattr(markov_chain_report, "SNAPSHOTS", 2)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            "simulate",
            ["heavy tails, truncated", "gradient descent", "h = H(1/eta)/eta"],
        ),
        ("exit-times", ["20 exits", "paths", "theory -1.200"]),
        # 256 paths are few, which is told in a sentence, not by Python's warning.
        ("markov-chain", ["1 to 3", "2 to 1", "Chi-square", "are skewed"]),
    ],
)
def test_command_ends_with_a_table_and_a_picture(command, expected, capsys, tmp_path):
    directory = str(tmp_path / "new")
    assert cli.main([command, *SMALL[command], "--directory", directory]) == 0
    captured = capsys.readouterr()
    printed = captured.out
    assert "Warning" not in printed + captured.err
    for text in expected:
        assert text in printed
    assert "…" not in printed  # the tables fit
    (path,) = (tmp_path / "new").iterdir()
    assert str(path) in printed
    assert path.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("command", SMALL)
def test_help_names_the_options(command, capsys):
    assert cli.main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    for option in ("--alpha", "--noise-scale", "--max-norm", "--seed", "--directory"):
        assert option in printed


def test_options_load_no_plots():
    program = (
        "import sys; from heavytail_optax.laboratory import command; "
        "print({'matplotlib', 'scipy.stats', 'flax'} & set(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "set()"


@pytest.mark.parametrize(
    ("command", "typed", "named"),
    [
        ("simulate", ["--learning-rate", "0.01"], "learning-rate"),
        ("simulate", ["--chains", "2"], "chains"),
        ("simulate", ["--alpha", "2.5"], "alpha"),
        ("exit-times", ["--fields", "7"], "fields"),
        ("exit-times", ["--learning-rates", "0"], "learning-rates"),
        ("exit-times", ["--exits", "1"], "exits"),
        ("exit-times", ["--fields"], "fields"),
        ("markov-chain", ["--max-norm", "-1"], "max-norm"),
        ("markov-chain", ["--samples", "9"], "samples"),
        ("exit-times", ["--samples", "9"], "samples"),
        ("markov-chain", ["--noise-scale", "nan"], "noise-scale"),
        ("markov-chain", ["--steps", "2147483647"], "steps"),
        ("simulate", ["--seed", "-1"], "seed"),
    ],
)
def test_bad_settings_are_refused_by_name(command, typed, named, capsys):
    assert cli.main([command, *typed]) == 2
    printed = capsys.readouterr()
    assert f"--{named}" in " ".join((printed.out + printed.err).split())


def test_a_bound_without_two_wide_minima_is_refused(capsys):
    assert cli.main(["markov-chain", "--max-norm", "0.44", "--steps", "1000"]) == 2
    assert "between 0.4497 and 0.6007" in capsys.readouterr().err


@pytest.mark.parametrize("command", SMALL)
def test_a_directory_that_cannot_be_is_told_before_the_work(command, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert cli.main([command, "--directory", str(tmp_path / "file")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert str(tmp_path / "file") in printed.err
    assert "Give another --directory." in printed.err


def test_the_legend_of_exit_times_is_beside_the_lines():
    rates = exit_times.default_rates(options.NoiseOptions())
    times = [
        exit_times.ExitTime(0, eta, 1 / eta, 0.5 / eta, 2 / eta, 1 / eta, 0.1, exits)
        for eta, exits in ((1e-3, 20), (5e-4, 20), (1e-8, None))
    ]
    figure = exit_times_report.draw_exit_times(rates, times, "a title")
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 3  # theory, simulated, estimator
    assert all(axes.get_legend() is None for axes in figure.axes)


@pytest.mark.parametrize(
    ("options", "is_still"),
    [(["--steps", "60"], True), (["--steps", "600", "--noise-scale", "5"], False)],
)
def test_chains_that_never_move_are_told(options, is_still, capsys):
    assert cli.main(["simulate", "--chains", "8", *options]) == 0
    printed = capsys.readouterr().out
    assert ("No chain" in printed) == is_still
    assert ("--steps" in printed and "--learning-rate" in printed) == is_still


def test_folders_above_the_directory_are_made_and_earlier_pictures_stay(tmp_path):
    """As by `heavytail train` and `reproduce`."""
    where = tmp_path / "one" / "two"
    options = [*SMALL["simulate"], "--directory", str(where)]
    assert cli.main(["simulate", *options]) == 0
    (where / "simulate.png").write_bytes(b"of an earlier command")
    assert cli.main(["simulate", *options]) == 0
    assert (where / "simulate.png").read_bytes() == b"of an earlier command"
    assert (where / "simulate-002.png").exists()
    claim(tmp_path / "three" / "four")
    assert (tmp_path / "three" / "four").is_dir()
