import json
import math

import pytest

from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.measures.measure import (
    Measured,
    Measurement,
    write_record,
)
from heavytail_optax.experiments.runs.grid import (
    Grid,
    read_grid,
    record_grid,
    remarks,
    together,
    variants_of,
)
from heavytail_optax.experiments.runs.options import Machine
from heavytail_optax.experiments.runs.result import read_result
from heavytail_optax.experiments.storage.checkpoints import checkpoint_path
from heavytail_optax.experiments.storage.metrics_log import append_metrics
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError
from heavytail_optax.experiments.training.trainer import Metrics

PRESET = "corrupted-digits-short"


@pytest.fixture
def grid(tmp_path, tiny):
    variants = variants_of(tiny, ("sgd", "balanced"))
    return Grid(tmp_path / "grid", PRESET, variants, (3, 4), is_measured=True)


def leave(run, step, loss=0.5, test_loss=0.5):
    """Metrics of a run, as training leaves them."""
    metrics = Metrics(*[0.5] * 11)._replace(
        step=step, batch_loss=loss, train_loss=loss, test_loss=test_loss
    )
    append_metrics(run.paths.metrics, metrics)


def measure(run):
    outcome = Measurement({"expected_sharpness": (0.25, 0.0625)})
    write_record(run.paths.measurements, {"expected": Measured({}, outcome, 1.0)})


def unfinished(grid):
    return [run for run in grid.runs() if not read_result(run).is_done]


def test_runs_have_one_method_and_one_seed_each(grid):
    runs = grid.runs()
    assert [(run.method, run.settings.seed) for run in runs] == [
        *(("sgd", 3), ("balanced", 3), ("sgd", 4), ("balanced", 4))
    ]
    places = [run.directory.relative_to(grid.directory).as_posix() for run in runs]
    assert places == ["sgd/seed-3", "balanced/seed-3", "sgd/seed-4", "balanced/seed-4"]


def test_looking_changes_nothing(grid):
    assert together(grid) == grid
    assert not grid.directory.exists()


def test_what_is_recorded_comes_back_and_grows(grid, tiny, tmp_path):
    machine = Machine(tmp_path / "images", 2, True)
    record_grid(grid._replace(machine=machine))
    assert read_grid(grid.directory) == grid._replace(machine=machine)
    more = variants_of(tiny, ("shared", "sgd"))
    record_grid(grid._replace(variants=more, seeds=(8,), is_measured=False))
    both = read_grid(grid.directory)
    assert tuple(both.variants) == ("sgd", "shared", "balanced")
    assert both.seeds == (3, 4, 8) and both.is_measured
    assert len(both.runs()) == 9


def test_a_grid_may_vary_any_setting(grid, tiny):
    variants = {"slow": replaced(tiny, learning_rate=0.01), **grid.variants}
    varied = grid._replace(variants=variants)
    record_grid(varied)
    there = read_grid(grid.directory)
    assert dict(there.variants) == variants
    slow = next(run for run in there.runs() if run.name == "slow")
    assert slow.settings.training.learning_rate == 0.01
    assert "slow" in slow.label
    other = {"slow": replaced(tiny, learning_rate=0.02)}
    with pytest.raises(RunDirectoryError, match="`learning_rate` is 0.01 there"):
        record_grid(grid._replace(variants=other))


def test_a_tail_outside_of_the_theory_is_told_before_the_runs(grid, tiny):
    assert not any("alpha" in line for line in remarks(grid))
    wild = variants_of(replaced(tiny, alpha=2.5), ("sgd", "balanced"))
    (line,) = [x for x in remarks(grid._replace(variants=wild)) if "alpha" in x]
    assert "1 < alpha < 2" in line and "2.5" in line


def test_another_grid_is_refused_by_name_and_value(grid):
    record_grid(grid)
    before = (grid.directory / "grid.json").read_bytes()
    other = replaced(grid.variants["sgd"], alpha=1.7)
    with pytest.raises(RunDirectoryError, match=r"`alpha` is 1\.4 there and 1\.7 here"):
        record_grid(grid._replace(variants=variants_of(other, ("shared",))))
    with pytest.raises(RunDirectoryError, match="`preset` is 'corrupted-digits-short'"):
        together(grid._replace(preset="svhn"))
    assert (grid.directory / "grid.json").read_bytes() == before


def test_a_directory_with_something_else_is_refused(grid):
    grid.directory.mkdir()
    (grid.directory / "thesis.tex").write_text("")
    with pytest.raises(RunDirectoryError, match="is not empty, and holds no grid"):
        record_grid(grid)
    file = grid._replace(directory=grid.directory / "thesis.tex")
    with pytest.raises(RunDirectoryError, match="is a file"):
        together(file)
    with pytest.raises(FileExistsError, match="thesis.tex"):
        record_grid(file)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[1]",
        lambda text: json.dumps({**json.loads(text), "preset": ["svhn"]}),
        lambda text: json.dumps({**json.loads(text), "preset": "mnist"}),
        lambda text: json.dumps({**json.loads(text), "seeds": [-1]}),
        lambda text: json.dumps({**json.loads(text), "seeds": 3}),
        lambda text: json.dumps({**json.loads(text), "seeds": [1.5]}),
        lambda text: json.dumps({**json.loads(text), "seeds": []}),
        lambda text: json.dumps({**json.loads(text), "variants": {}}),
        lambda text: json.dumps({**json.loads(text), "variants": [1]}),
        lambda text: json.dumps({**json.loads(text), "machine": None}),
        lambda text: text.replace('"devices": null', '"devices": "3"'),
        lambda text: text.replace('"tensorboard": false', '"tensorboard": "no"'),
        lambda text: text.replace('"alpha"', '"beta"'),
        lambda text: text.replace('"method": "balanced"', '"method": "balancd"'),
    ],
)
def test_a_damaged_grid_is_told_by_name(grid, damage):
    record_grid(grid)
    path = grid.directory / "grid.json"
    path.write_text(damage(path.read_text("utf-8")), encoding="utf-8")
    for look in (read_grid, lambda _: together(grid)):
        with pytest.raises(RunDirectoryError, match=f"{path} is not understood"):
            look(grid.directory)


def test_a_run_is_done_when_it_is_trained_and_measured_or_has_diverged(grid, tiny):
    started, measured, wild, new = grid.runs()
    leave(started, 4)
    leave(measured, tiny.training.steps)
    leave(wild, 2, loss=math.inf)
    assert unfinished(grid) == [started, measured, new]
    measure(measured)
    assert unfinished(grid) == [started, new]
    assert [read_result(run).status for run in grid.runs()] == [
        *("interrupted", "finished", "diverged", "missing")
    ]
    assert read_result(measured).sharpness == {"expected_sharpness": (0.25, 0.0625)}


def test_a_run_that_is_not_measured_is_done_with_its_last_checkpoint(grid, tiny):
    grid = grid._replace(is_measured=False)
    run = grid.runs()[0]
    leave(run, tiny.training.steps)
    # Killed between the last metrics and the last checkpoint.
    assert run in unfinished(grid)
    run.paths.checkpoints.mkdir()
    checkpoint_path(run.paths.checkpoints, tiny.training.steps).touch()
    assert run not in unfinished(grid)


def test_a_test_loss_that_overflows_is_no_divergence(grid):
    # The run goes on, so that one which was cut there must, too.
    run = grid.runs()[0]
    leave(run, 2, test_loss=math.inf)
    assert read_result(run).status == "interrupted"


def test_a_damaged_configuration_does_not_cost_the_report(grid, tiny):
    run = grid.runs()[0]
    leave(run, tiny.training.steps)
    run.paths.config.write_text("{")
    assert read_result(run).status == "finished"
    assert read_result(run).test_images is None


@pytest.mark.parametrize(("steps", "is_once"), [(2, True), (3, False)])
def test_one_evaluation_is_announced(grid, steps, is_once):
    settings = replaced(grid.variants["sgd"], steps=steps, eval_every=2)
    lines = remarks(grid._replace(variants={"sgd": settings}))
    assert any("--eval-every" in line for line in lines) == is_once
