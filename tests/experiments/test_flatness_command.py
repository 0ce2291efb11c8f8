import csv
import json
import math
import pathlib
import shlex
import shutil
import signal
import sys

import pytest

from heavytail_optax import cli, flatness
from heavytail_optax.experiments.commands import finished_runs
from heavytail_optax.experiments.measures.flatness import (
    MEASURE_NAMES,
    MEASURES,
    SCALARS,
)
from heavytail_optax.experiments.measures.measure import Measurement, read_record
from heavytail_optax.experiments.runs import measuring
from heavytail_optax.experiments.runs.grid import read_grid, record_grid
from heavytail_optax.experiments.runs.measuring import trained_network
from heavytail_optax.experiments.runs.result import read_result
from heavytail_optax.experiments.runs.run import cached_loader, final_params
from heavytail_optax.experiments.storage.metrics_log import read_metrics
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError, RunLock

METHODS = ("sgd", "balanced")
CURVES = {
    "density": ("density",),
    "line": ("line_eigenvector", "line_random"),
    "escape": ("escape_noise", "escape_eigenvector", "escape_isotropic"),
}
COLUMNS = {
    "density": ("eigenvalue", "density", "standard_error"),
    "line": ("coefficient", "loss"),
    "escape": ("jumps", "probability", "lower", "upper"),
}


@pytest.fixture(autouse=True)
def _called_as_heavytail(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["heavytail"])
    monkeypatch.chdir(tmp_path)
    # So that no line of the table is broken.
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def measured(monkeypatch):
    """What is measured, by quick stand-ins, each with what it then does."""
    turns, actions = [], {}

    def stand_in(name):
        def compute(network, arguments, tick):
            if tick(0, 2):
                return None
            turns.append((network.settings.method.method, name))
            actions.get(turns[-1], lambda: None)()
            if tick(1, 2):
                return None
            number = float(len(turns))
            columns = {column: [1.0, number] for column in COLUMNS.get(name, ())}
            return Measurement(
                {scalar: (number, 0.5) for scalar in SCALARS[name]},
                {curve: columns for curve in CURVES.get(name, ())},
                f"remark {number:g}" if name == "trace" else "",
            )

        return MEASURES[name]._replace(compute=compute)

    stand_ins = {name: stand_in(name) for name in MEASURE_NAMES}
    monkeypatch.setattr(measuring, "MEASURES", stand_ins)
    return turns, actions


def flat(directory, *options):
    return cli.main(["flatness", str(directory), *map(str, options)])


def rows_of(directory):
    with (directory / "flatness.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_of(directory, method):
    return directory / method / "seed-0"


def words(text):
    return " ".join(text.split())


def test_a_run_leaves_table_figure_and_numbers(two_methods, measured, capsys):
    turns, _ = measured
    assert flat(two_methods) == 0
    assert turns == [(method, name) for method in METHODS for name in MEASURE_NAMES]
    output = words(capsys.readouterr().out)
    assert f"sgd (SB), seed 0: measuring trace (5 of {len(MEASURE_NAMES)})" in output
    assert "* sgd (SB), seed 0, trace: remark 5." in output
    assert "5.0 ± 0.5 *" in output
    assert f"Written: {two_methods / 'flatness.png'}" in output
    assert (two_methods / "flatness.png").read_bytes()[:4] == b"\x89PNG"
    for method, row in zip(METHODS, rows_of(two_methods), strict=True):
        last = read_metrics(run_of(two_methods, method) / "metrics.jsonl")[-1]
        assert row["method"] == method and row["seed"] == "0"
        # What fails to train may look flat, so the accuracies stand beside.
        assert float(row["train_accuracy"]) == last.train_accuracy
        assert float(row["test_accuracy"]) == last.test_accuracy
        record = read_record(run_of(two_methods, method) / "measurements.json")
        assert list(record) == list(MEASURE_NAMES)
        scalars = {}
        for name in MEASURE_NAMES:
            scalars |= record[name].outcome.scalars
        assert list(scalars) == [x for name in MEASURE_NAMES for x in SCALARS[name]]
        for scalar, (value, error) in scalars.items():
            assert float(row[scalar]) == value
            assert float(row[f"{scalar}_standard_error"]) == error


def test_what_is_measured_is_skipped_unless_asked_for_again(
    two_methods, measured, capsys
):
    turns, _ = measured
    options = ["--measures", "trace", "density"]
    assert flat(two_methods, *options, "--methods", "sgd") == 0
    assert flat(two_methods, *options) == 0
    assert turns == [(method, name) for method in METHODS for name in options[1:]]
    assert "sgd (SB), seed 0: already measured" in capsys.readouterr().out
    assert [row["hessian_trace"] for row in rows_of(two_methods)] == ["1.0", "3.0"]
    assert flat(two_methods, *options, "--methods", "sgd", "--again") == 0
    assert turns[4:] == [("sgd", "trace"), ("sgd", "density")]
    assert rows_of(two_methods)[0]["hessian_trace"] == "5.0"


def test_what_is_measured_is_read_as_often_as_it_must_be(
    two_methods, measured, monkeypatch
):
    assert flat(two_methods) == 0
    read, real = [], pathlib.Path.open

    def counted(path, mode="r", *rest, **more):
        if "r" in mode and path.name in ("measurements.json", "metrics.jsonl"):
            read.append(path)
        return real(path, mode, *rest, **more)

    monkeypatch.setattr(pathlib.Path, "open", counted)
    files = {
        two_methods / method / "seed-0" / name
        for method in METHODS
        for name in ("measurements.json", "metrics.jsonl")
    }
    # flatness looks for what is left, and reads again under the lock what it writes.
    for command, times in (("flatness", 2), ("report", 1)):
        del read[:]
        assert cli.main([command, str(two_methods)]) == 0
        assert sorted(read) == sorted([*files] * times)


def test_what_another_process_measured_meanwhile_is_not_measured_again(
    two_methods, measured, capsys
):
    turns, actions = measured
    options = ["--measures", "trace"]
    # While SGD has its turn, another process measures the other run.
    actions["sgd", "trace"] = lambda: flat(
        two_methods, *options, "--methods", METHODS[1]
    )
    assert flat(two_methods, *options) == 0
    assert turns == [("sgd", "trace"), ("balanced", "trace")]
    assert "balanced, seed 0: already measured" in capsys.readouterr().out
    assert [row["hessian_trace"] for row in rows_of(two_methods)] == ["2.0", "2.0"]


def test_after_ctrl_c_nothing_more_is_said_of_the_other_runs(
    two_methods, measured, capsys
):
    _, actions = measured
    options = ["--measures", "trace"]
    assert flat(two_methods, *options, "--methods", "balanced") == 0
    capsys.readouterr()
    actions["sgd", "trace"] = lambda: signal.raise_signal(signal.SIGINT)
    assert flat(two_methods, *options) == 128 + signal.SIGINT
    assert "already measured" not in capsys.readouterr().out


def test_what_went_wrong_is_told_though_there_is_no_table(
    two_methods, measured, monkeypatch, capsys
):
    shutil.rmtree(run_of(two_methods, "sgd") / "checkpoints")

    def fail(*_):
        raise RunDirectoryError("no table")

    monkeypatch.setattr(finished_runs, "_show", fail)
    assert flat(two_methods, "--measures", "trace") == 1
    error = capsys.readouterr().err
    assert "The checkpoint of the last step" in error and "no table" in error


def test_what_was_measured_otherwise_stays_unless_asked_for_again(
    two_methods, measured, capsys
):
    turns, _ = measured
    names = ("expected", "maximal", "trace")
    assert flat(two_methods, "--measures", *names) == 0
    del turns[:]
    options = ["--measures", *names, "density", "--target", "0.2", "--methods", "sgd"]
    assert flat(two_methods, *options, "--samples", "20") == 0
    # A worse value does not take the place of a better one; what is new is measured.
    assert turns == [("sgd", "density")]
    record = read_record(two_methods / "sgd/seed-0/measurements.json")
    assert record["expected"].arguments["num_samples"] == 100
    output = words(capsys.readouterr().out)
    assert (
        "sgd (SB), seed 0: expected was measured with num_samples 100, not with "
        "num_samples 20. It stays; --again measures anew." in output
    )
    assert "maximal was measured with target 0.1, not with target 0.2." in output
    del turns[:]
    assert flat(two_methods, *options, "--samples", "20", "--again") == 0
    assert turns == [("sgd", name) for name in (*names, "density")]
    record = read_record(two_methods / "sgd/seed-0/measurements.json")
    assert record["expected"].arguments["num_samples"] == 20
    assert "was measured with" not in capsys.readouterr().out
    # All runs are in the next table, which are not comparable now.
    assert flat(two_methods, "--measures", "expected") == 0
    assert (
        "maximal: the runs were not measured alike, and should not be compared: "
        in (output := words(capsys.readouterr().out))
    )
    assert "target 0.1 or 0.2" in output


def test_the_table_says_which_measures_are_of_a_part_of_the_images(
    two_methods, measured, capsys
):
    assert flat(two_methods, "--measures", "expected", "maximal") == 0
    assert "of the training images:" not in words(capsys.readouterr().out)
    assert flat(two_methods, "--measures", "trace", "line", "--images", 60) == 0
    output = words(capsys.readouterr().out)
    assert "On 60 of the training images: trace, line." in output


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(two_methods, measured, capsys):
    turns, actions = measured
    actions["sgd", "maximal"] = lambda: signal.raise_signal(signal.SIGINT)
    options = ["--measures", "expected", "maximal", "trace"]
    assert flat(two_methods, *options) == 128 + signal.SIGINT
    assert turns == [("sgd", "expected"), ("sgd", "maximal")]
    go_on = f"To go on: heavytail flatness '{two_methods}' {' '.join(options)}"
    output = capsys.readouterr().out
    assert go_on in output and "Stopping after this measure." in output
    assert set(read_record(two_methods / "sgd/seed-0" / "measurements.json")) == {
        "expected"
    }
    actions.clear()
    del turns[:]
    assert flat(two_methods, *options) == 0
    assert turns[:2] == [("sgd", "maximal"), ("sgd", "trace")]
    assert turns[2:] == [("balanced", name) for name in options[1:]]


def test_measuring_again_goes_on_where_it_was_stopped(two_methods, measured, capsys):
    turns, actions = measured
    options = ["--measures", "expected", "trace"]
    assert flat(two_methods, *options) == 0
    del turns[:]
    actions["sgd", "trace"] = lambda: signal.raise_signal(signal.SIGINT)
    assert flat(two_methods, *options, "--again") == 128 + signal.SIGINT
    output = capsys.readouterr().out
    (line,) = [x for x in output.splitlines() if x.startswith("To go on: ")]
    _, *typed = shlex.split(line.removeprefix("To go on: "))
    # What waits to be measured again is not there.
    assert "hessian_trace" not in rows_of(two_methods)[0]
    del turns[:]
    actions.clear()
    assert cli.main(typed) == 0
    assert turns == [("sgd", "trace"), ("balanced", "expected"), ("balanced", "trace")]
    assert cli.main(typed) == 0
    assert len(turns) == 3


def test_what_cannot_be_measured_again_is_not_dropped(two_methods, measured, capsys):
    turns, _ = measured
    options = ["--measures", "trace"]
    assert flat(two_methods, *options) == 0
    kept = [run_of(two_methods, name) / "measurements.json" for name in METHODS]
    before = [path.read_bytes() for path in kept]
    shutil.rmtree(run_of(two_methods, "balanced") / "checkpoints")
    assert flat(two_methods, *options, "--again") == 1
    assert str(run_of(two_methods, "balanced")) in capsys.readouterr().err
    assert [path.read_bytes() for path in kept] == before
    assert len(turns) == 2


def test_an_unexpected_error_does_not_cost_the_others_their_table(
    two_methods, measured, capsys
):
    _, actions = measured

    def fail():
        raise MemoryError("no memory")

    actions["sgd", "trace"] = fail
    assert flat(two_methods, "--measures", "trace") == 1
    assert "MemoryError: no memory" in capsys.readouterr().err
    rows = {row["method"]: row for row in rows_of(two_methods)}
    assert rows["balanced"]["hessian_trace"]


def drop_last_evaluation(directory, method):
    path = run_of(directory, method) / "metrics.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")


def test_unfinished_runs_are_named_and_skipped(two_methods, measured, capsys):
    turns, _ = measured
    drop_last_evaluation(two_methods, "sgd")
    assert flat(two_methods, "--measures", "trace") == 0
    assert turns == [("balanced", "trace")]
    assert "sgd (SB), seed 0: interrupted at step 4: skipped" in capsys.readouterr().out
    shutil.rmtree(two_methods / "balanced/seed-0")
    assert flat(two_methods) == 2
    error = capsys.readouterr().err
    assert (
        f"No run in {two_methods} is finished: sgd (SB), seed 0: interrupted" in error
    )
    assert "balanced, seed 0: missing" in error


def test_a_diverged_run_is_named_and_skipped(two_methods, measured, capsys):
    path = two_methods / "sgd/seed-0" / "metrics.jsonl"
    lines = path.read_text("utf-8").splitlines()
    last = json.loads(lines[-1])
    last["train_loss"] = math.nan
    path.write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n", "utf-8")
    assert flat(two_methods, "--measures", "trace") == 0
    assert "sgd (SB), seed 0: diverged at step 6: skipped" in capsys.readouterr().out


def test_a_run_that_cannot_be_measured_does_not_cost_the_others(
    two_methods, measured, capsys
):
    turns, _ = measured
    shutil.rmtree(two_methods / "sgd/seed-0" / "checkpoints")
    assert flat(two_methods, "--measures", "trace") == 1
    assert turns == [("balanced", "trace")]
    error = capsys.readouterr().err
    assert "sgd (SB), seed 0: The checkpoint of the last step, 6, is not in" in error


def test_a_run_that_another_process_holds_is_told(two_methods, measured, capsys):
    turns, _ = measured
    with RunLock(two_methods / "sgd/seed-0"), RunLock(two_methods / "balanced/seed-0"):
        assert flat(two_methods, "--measures", "trace") == 1
    assert turns == []
    assert (
        f"{two_methods / 'sgd/seed-0'} is in use by process" in capsys.readouterr().err
    )


def test_a_grid_has_a_row_a_run_and_its_report_the_columns(
    two_methods, tmp_path, tiny_options, measured, capsys
):
    turns, _ = measured
    directory = tmp_path / "grid"
    shutil.copytree(two_methods, directory)
    # What train made is gone on with as a grid of three seeds, of which two are there.
    trained = read_grid(directory)
    record_grid(trained._replace(seeds=(1, 2), is_measured=True))
    options = [*tiny_options, "--methods", *METHODS, "--seed", "1"]
    assert cli.main(["train", *options, "--directory", str(tmp_path / "more")]) == 0
    for method in METHODS:
        (tmp_path / "more" / method / "seed-1").rename(directory / method / "seed-1")
    runs = [run for run in read_grid(directory).runs() if run.settings.seed < 2]
    assert flat(directory, "--measures", "trace", "line", "--seeds", 0, 1, 2) == 0
    assert len(turns) == 8
    output = words(capsys.readouterr().out)
    assert "sgd (SB), seed 2: missing: skipped" in output
    assert "The picture has the first seed of each method." in output
    rows = rows_of(directory)
    assert [(row["method"], row["seed"]) for row in rows] == [
        (run.method, str(run.settings.seed)) for run in runs
    ]
    results = [read_result(run) for run in runs]
    assert [result.sharpness["hessian_trace"][0] for result in results] == [
        float(row["hessian_trace"]) for row in rows
    ]
    # What was asked for by reproduce is still to be measured there.
    assert not any(result.is_done for result in results)
    assert cli.main(["report", str(directory)]) == 0
    assert "Hessian" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--measures", "trce"], "Got 'trce' instead. Did you mean trace?"),
        (["--measures", "trace", "trace"], "must be without repetition"),
        (["--samples", "1"], "The --samples option must be an integer of at least 2."),
        (["--target", "1"], "The --target option must be a number above 0 and below 1"),
        (["--paths", "0"], "The --paths option must be an integer of at least 1."),
        (["--jumps", "0"], "The --jumps option must be an integer of at least 1."),
        (["--methods", "balancd"], "Did you mean balanced?"),
        (["--tagret", "0.1"], "--target"),
    ],
)
def test_bad_options_are_refused_before_any_work(options, message, tmp_path, capsys):
    assert flat(tmp_path, *options) == 2
    error = capsys.readouterr().err
    assert message in words(error)


def test_a_directory_without_runs_is_told(trained, tmp_path, capsys):
    assert flat(tmp_path / "none") == 2
    assert f"There is no directory {tmp_path / 'none'}." in capsys.readouterr().err
    assert flat(tmp_path) == 2
    assert "grid.json is missing" in (capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
    # The folder around the grid, and that of one of its runs.
    for near in (trained.parent, trained / "sgd" / "seed-0"):
        assert flat(near) == 2
        assert f"Give {trained}." in capsys.readouterr().err
    assert flat(trained, "--seeds", 3) == 2
    assert "No such run in" in capsys.readouterr().err


def test_missing_extra_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_is_installed", lambda module: module != "tyro")
    assert flat(tmp_path) == 2
    assert 'needs tyro. Install with: pip install "heavytail-optax[exp' in (
        capsys.readouterr().err
    )


def test_help_names_every_measure_and_option(capsys):
    assert cli.main(["flatness", "--help"]) == 0
    output = capsys.readouterr().out
    options = ("measures", "methods", "seeds", "samples", "target", "paths", "jumps")
    for name in (*options, "again", "data-dir"):
        assert f"--{name}" in output
    for name in MEASURE_NAMES:
        assert f"  {name} " in output


@pytest.mark.slow  # Half a minute or more of compilation.
def test_numbers_are_those_of_the_library(two_methods):
    options = ["--methods", "sgd", "--samples", "4", "--paths", "2", "--jumps", "1"]
    assert flat(two_methods, *options) == 0
    record = read_record(two_methods / "sgd/seed-0" / "measurements.json")
    assert set(record) == set(MEASURE_NAMES)
    run = next(run for run in read_grid(two_methods).runs() if run.method == "sgd")
    dataset = cached_loader(None)(run.settings)
    params = final_params(run, dataset, print)
    network = trained_network(run.settings, params, dataset.train, dataset.num_classes)
    whole = {"params": params, "key": network.key, "args": (network.train,)}

    def scalar(name):
        return record[name].outcome.scalars[SCALARS[name][0]]

    found = flatness.pac_bayes_sharpness(network.error, **whole, num_samples=4)
    assert scalar("pac-bayes")[0] == pytest.approx(float(found.sharpness), rel=1e-5)
    found = flatness.maximal_sharpness(
        network.loss, **whole, deviation_fn=network.error
    )
    assert scalar("maximal")[0] == pytest.approx(float(found.sharpness), rel=1e-5)
    found = flatness.hessian_eigenvalues(network.loss, **whole)
    assert scalar("eigenvalues")[0] == pytest.approx(float(found.values[0]), rel=1e-3)
    found = flatness.hessian_trace(network.loss, **whole, num_samples=4)
    assert scalar("trace")[0] == pytest.approx(float(found.mean), rel=1e-4)
    found = flatness.hessian_density(network.loss, **whole, num_samples=3)
    density = record["density"].outcome.curves["density"]
    assert density["eigenvalue"][-1] == pytest.approx(
        float(found.eigenvalues[-1]), rel=1e-2
    )
    settings = run.settings
    found = flatness.escape_profile(
        network.loss,
        **whole,
        jump_norm=settings.method.max_norm,
        learning_rate=settings.training.learning_rate,
        max_jumps=1,
        num_samples=2,
        descent_steps=100,
        num_points=11,
    )
    escape = record["escape"].outcome.curves["escape_isotropic"]
    assert escape["median_distance"] == pytest.approx(
        [float(found.paths.distances.mean())], rel=1e-3
    )
