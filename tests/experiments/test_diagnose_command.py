"""The command `heavytail diagnose`, its file, table and picture."""

import csv
import shlex
import shutil
import signal
import sys

import numpy as np
import pytest

from heavytail_optax import cli
from heavytail_optax.experiments.commands import diagnose as diagnose_command
from heavytail_optax.experiments.measures import gradient_noise
from heavytail_optax.experiments.measures.gradient_noise import (
    SIZES,
    NoiseDraws,
    read_noise,
)
from heavytail_optax.experiments.report import noise as noise_report
from heavytail_optax.experiments.storage.metrics_log import read_metrics
from heavytail_optax.experiments.storage.run_directory import RunLock
from heavytail_optax.tail_index import (
    extended_pareto,
    generalised_pareto,
    hill,
    propose_settings,
)

METHODS = ("sgd", "balanced")
LAYERS = ("all", "first")
DRAWS = 200  # of which 40 are looked at
NOISE = "gradient_noise/200-batches-of-10.npz"


@pytest.fixture(autouse=True)
def _called_as_heavytail(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["heavytail"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def drawn(monkeypatch):
    """In place of the noise, draws of a power law for SGD, and bounded ones."""
    turns, actions = [], {}

    def measure(settings, params, train, num_classes, arguments, tick):
        del params, train, num_classes
        if tick(0, 2):
            return None
        method = settings.method.method
        turns.append((method, arguments["draws"]))
        actions.get(method, lambda: None)()
        if tick(1, 2):
            return None
        uniform = np.random.default_rng(len(turns)).uniform(
            size=(len(SIZES), len(LAYERS), arguments["draws"])
        )
        sizes = uniform if method == "balanced" else uniform ** (-1 / 1.5)
        return NoiseDraws(LAYERS, (9, 4), sizes.astype(np.float32), sizes[0, 0])

    monkeypatch.setattr(diagnose_command, "measure_gradient_noise", measure)
    return turns, actions


@pytest.fixture
def few_fits(monkeypatch):
    """Without those that take a second each."""
    for size in SIZES:
        monkeypatch.setitem(gradient_noise.ALTERNATIVES, size, ("exponential",))


def diagnose(*options):
    return cli.main(["diagnose", *map(str, options)])


def rows_of(directory):
    with (directory / "diagnose.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def words(text):
    return " ".join(text.split())


def test_a_run_leaves_verdicts_table_and_picture(two_methods, drawn, capsys):
    assert diagnose(two_methods, "--draws", DRAWS) == 0
    output = words(capsys.readouterr().out)
    assert "sgd (SB), seed 0: measuring gradient noise" in output
    assert "sgd (SB), seed 0: measuring tails of the noise" in output
    assert "Verdict for balanced, seed 0: not heavy-tailed." in output
    assert "Verdict for sgd (SB), seed 0: " in output
    assert "Proposed for tail inflation, from the noise at the end of" in output
    assert f"Written: {two_methods / 'diagnose.png'}" in output
    assert (two_methods / "diagnose.png").read_bytes()[:4] == b"\x89PNG"
    rows = rows_of(two_methods)
    assert len(rows) == len(METHODS) * len(SIZES) * len(LAYERS)
    kept = read_noise(two_methods / "sgd/seed-0" / NOISE)
    for row in rows[: len(SIZES) * len(LAYERS)]:
        assert row["method"] == "sgd" and row["draws"] == "200" and row["k"] == "40"
        draws = kept.of(row["noise"], row["layer"])
        expected, fewer = hill(draws, 40), extended_pareto(draws, 16)
        for name, value in (
            ("hill", expected.estimate),
            ("standard_error", expected.standard_error),
            ("corrected", fewer.estimate),
            ("lower", fewer.lower),
            ("upper", fewer.upper),
        ):
            assert float(row[name]) == pytest.approx(float(value), rel=1e-3)
        fit = generalised_pareto(draws, 40, confidence=0.98)
        for name, value in (
            ("gamma", fit.gamma),
            ("pareto_fit_lower", fit.lower),
            ("pareto_fit_upper", fit.upper),
        ):
            assert float(row[name]) == pytest.approx(float(value), rel=1e-3)
        assert row["sentence"].endswith(".")
        assert bool(row["stable_ratio"]) == (row["noise"] != "norm")
        assert row["verdict"] != "not heavy-tailed"
    assert {row["verdict"] for row in rows if row["method"] == "balanced"} == {
        "not heavy-tailed"
    }
    expected = propose_settings(
        kept.of("norm"), kept.gradient_norms.astype(np.float32), 0.05
    )
    assert f"--max-norm {float(expected.max_norm):.3g}" in output


@pytest.mark.usefixtures("few_fits", "drawn")
def test_the_picture_has_corrected_estimates_in_their_intervals(
    two_methods, monkeypatch
):
    """Hill's own is often left out: the interval of a bounded law lies above it."""
    shown = []
    draw = noise_report.draw_noise
    figures = []

    def draw_noise(runs):
        shown.extend(runs)
        figures.append(draw(runs))
        return figures[0]

    monkeypatch.setattr(noise_report, "draw_noise", draw_noise)
    assert diagnose(two_methods, "--draws", DRAWS) == 0
    indices = [tail.assessment.index for run in shown for tail in run.tails]
    layers = figures[0].axes[3]
    ends = [
        segment[:, 1] for bars in layers.collections for segment in bars.get_segments()
    ]
    expected = [(float(i.lower), float(i.upper)) for i in indices]
    drawn = [pair for pair in expected if np.isfinite(pair).all()]
    np.testing.assert_allclose(sorted(map(tuple, ends)), sorted(drawn), rtol=1e-3)
    heights = {float(y) for line in layers.lines for y in np.ravel(line.get_ydata())}
    for index in indices:
        corrected = float(index.corrected_estimate)
        assert any(np.isclose(y, corrected, rtol=1e-4) for y in heights)
    assert any(float(i.lower) > float(i.estimate) for i in indices)


@pytest.mark.usefixtures("few_fits")
def test_what_is_measured_is_skipped_unless_asked_for_again(two_methods, drawn, capsys):
    turns, _ = drawn
    options = ["--methods", "sgd", "--draws", DRAWS]
    assert diagnose(two_methods, *options) == 0
    table = (two_methods / "diagnose.csv").read_text("utf-8")
    assert diagnose(two_methods, *options) == 0
    assert turns == [("sgd", 200)]
    assert "sgd (SB), seed 0: already measured" in capsys.readouterr().out
    assert (two_methods / "diagnose.csv").read_text("utf-8") == table
    assert diagnose(two_methods, *options, "--again") == 0
    assert turns == [("sgd", 200)] * 2
    table = (two_methods / "diagnose.csv").read_text("utf-8")
    assert diagnose(two_methods, *options, "--batch-size", 5) == 0
    assert len(turns) == 3
    assert rows_of(two_methods)[0]["batch_size"] == "5"
    # What was measured of other batches is kept.
    assert diagnose(two_methods, *options) == 0
    assert len(turns) == 3
    assert (two_methods / "diagnose.csv").read_text("utf-8") == table


@pytest.mark.usefixtures("few_fits")
def test_measuring_again_goes_on_where_it_was_stopped(two_methods, drawn, capsys):
    turns, actions = drawn
    options = ["--draws", DRAWS]
    assert diagnose(two_methods, *options) == 0
    del turns[:]
    actions["balanced"] = lambda: signal.raise_signal(signal.SIGINT)
    assert diagnose(two_methods, *options, "--again") == 128 + signal.SIGINT
    output = capsys.readouterr().out
    (line,) = [x for x in output.splitlines() if x.startswith("To go on: ")]
    _, *typed = shlex.split(line.removeprefix("To go on: "))
    del turns[:]
    actions.clear()
    assert cli.main(typed) == 0
    assert turns == [("balanced", 200)]
    assert cli.main(typed) == 0
    assert len(turns) == 1


@pytest.mark.usefixtures("few_fits")
def test_ctrl_c_keeps_whole_runs_and_says_how_to_go_on(two_methods, drawn, capsys):
    turns, actions = drawn
    actions["balanced"] = lambda: signal.raise_signal(signal.SIGINT)
    assert diagnose(two_methods, "--draws", DRAWS) == 128 + signal.SIGINT
    output = capsys.readouterr().out
    assert f"To go on: heavytail diagnose '{two_methods}' --draws 200" in output
    assert (two_methods / "sgd/seed-0" / NOISE).exists()
    assert not (two_methods / "balanced/seed-0" / NOISE).exists()
    assert not list(two_methods.rglob("*.partial"))
    actions.clear()
    assert diagnose(two_methods, "--draws", DRAWS) == 0
    assert turns == [("sgd", 200), ("balanced", 200), ("balanced", 200)]


@pytest.mark.usefixtures("few_fits")
def test_unfinished_runs_are_named_and_skipped(two_methods, drawn, capsys):
    turns, _ = drawn
    path = two_methods / "balanced/seed-0" / "metrics.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")
    assert diagnose(two_methods, "--draws", DRAWS) == 0
    assert turns == [("sgd", 200)]
    assert "balanced, seed 0: interrupted at step 4: skipped" in capsys.readouterr().out
    assert diagnose(two_methods, "--methods", "balanced") == 2
    assert f"No run in {two_methods} is finished" in capsys.readouterr().err


@pytest.mark.usefixtures("few_fits")
def test_a_run_that_cannot_be_measured_does_not_cost_the_others(
    two_methods, drawn, capsys
):
    turns, _ = drawn
    shutil.rmtree(two_methods / "balanced/seed-0" / "checkpoints")
    assert diagnose(two_methods, "--draws", DRAWS) == 1
    assert turns == [("sgd", 200)]
    assert "The checkpoint of the last step, 6, is not in" in capsys.readouterr().err
    assert {row["method"] for row in rows_of(two_methods)} == {"sgd"}


def test_a_run_that_another_process_holds_is_told(two_methods, drawn, capsys):
    turns, _ = drawn
    with RunLock(two_methods / "sgd/seed-0"), RunLock(two_methods / "balanced/seed-0"):
        assert diagnose(two_methods) == 1
    assert turns == []
    assert (
        f"{two_methods / 'sgd/seed-0'} is in use by process" in capsys.readouterr().err
    )


def test_a_batch_is_no_larger_than_the_data(two_methods, drawn, capsys):
    assert diagnose(two_methods, "--batch-size", 101) == 2
    assert "must be at most 100, the number of training images" in (
        capsys.readouterr().err
    )


def test_the_batch_of_a_new_run_is_no_larger_than_its_data(drawn, tmp_path, capsys):
    turns, _ = drawn
    assert diagnose("--batch-size", 99_999) == 2
    assert "at most 1200, the number of training images" in capsys.readouterr().err
    assert turns == [] and not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("few_fits")
def test_without_a_directory_a_run_is_made_and_goes_on(tmp_path, drawn, capsys):
    turns, actions = drawn
    actions["sgd"] = lambda: signal.raise_signal(signal.SIGINT)
    options = ["--steps", 100, "--draws", DRAWS]
    assert diagnose(*options) == 128 + signal.SIGINT
    directory = tmp_path / "runs" / "diagnose-001"
    steps = [row.step for row in read_metrics(directory / "sgd/seed-0/metrics.jsonl")]
    assert steps == [24, 48, 72, 96, 100]
    output = capsys.readouterr().out
    # Of half of the time: 2 * 1,797/(3 * 50) = 23.96
    assert "All images are evaluated every 24 steps." in output
    (line,) = [x for x in output.splitlines() if x.startswith("To go on: ")]
    _, *typed = shlex.split(line.removeprefix("To go on: "))
    assert "--steps" not in typed  # which are those of the run
    assert not (directory / "diagnose.csv").exists()
    actions.clear()
    assert cli.main(typed) == 0
    assert turns == [("sgd", DRAWS)] * 2
    assert {row["method"] for row in rows_of(directory)} == {"sgd"}
    assert not (tmp_path / "runs" / "diagnose-002").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--draws", "99"], "The --draws option must be an integer of at least 100."),
        (["--steps", "9"], "The --steps option must be an integer of at least 100."),
        (["--steps", "5000"], "--steps is of the new run"),
        (["--batch-size", "0"], "The --batch-size option must be an integer of at"),
        (["--truncated-share", "1"], "The --truncated-share option must be a number"),
        (["--methods", "balancd"], "Did you mean balanced?"),
        (["--darws", "200"], "--draws"),
    ],
)
def test_bad_options_are_refused_before_any_work(options, message, tmp_path, capsys):
    assert diagnose(tmp_path, *options) == 2
    assert message in words(capsys.readouterr().err)


def test_options_of_a_directory_need_one(tmp_path, capsys):
    assert diagnose("--methods", "sgd") == 2
    assert "choose among the runs of a directory" in words(capsys.readouterr().err)
    assert diagnose(tmp_path / "none") == 2
    assert f"There is no directory {tmp_path / 'none'}." in capsys.readouterr().err
    assert diagnose(tmp_path) == 2
    assert "grid.json is missing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_option(capsys):
    assert cli.main(["diagnose", "--help"]) == 0
    output = capsys.readouterr().out
    options = ("methods", "seeds", "draws", "batch-size", "truncated-share", "steps")
    for name in (*options, "again", "data-dir"):
        assert f"--{name}" in output
    assert "cannot tell" in output
