import json
import math

import pytest
from heavytail_optax.experiments.storage.sharpness_file import write_sharpness

from heavytail_optax.experiments.runs.grid import (
    check_grid,
    new_grid,
    read_cell,
    read_cells,
    read_grid,
    record_grid,
    unfinished,
)
from heavytail_optax.experiments.settings import replaced
from heavytail_optax.experiments.storage import run_directory
from heavytail_optax.experiments.storage.metrics_log import append_metrics
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError
from heavytail_optax.experiments.training.trainer import Metrics

PRESET = "corrupted-digits-short"


@pytest.fixture
def grid(tmp_path, tiny):
    settings = replaced(tiny, seed=3)
    return new_grid(tmp_path / "grid", PRESET, settings, ("sgd", "balanced"), 2)


def leave(cell, step, loss=0.5, test_loss=0.5):
    """Metrics of a run, as training leaves them."""
    path = run_directory.metrics_path(cell.directory, cell.method)
    path.parent.mkdir(parents=True, exist_ok=True)
    metrics = Metrics(*[0.5] * 10)._replace(
        step=step, batch_loss=loss, train_loss=loss, test_loss=test_loss
    )
    append_metrics(path, metrics)


def test_cells_have_one_method_and_one_seed_each(grid):
    cells = list(grid.cells())
    assert [(cell.method, cell.settings.seed) for cell in cells] == [
        *(("sgd", 3), ("balanced", 3), ("sgd", 4), ("balanced", 4))
    ]
    assert len({cell.directory for cell in cells}) == 4
    assert {cell.settings.method.method for cell in cells} == {"sgd", "balanced"}


def test_looking_changes_nothing(grid):
    assert check_grid(grid) == grid
    assert not grid.directory.exists()


def test_what_is_recorded_comes_back_and_grows(grid, tiny):
    record_grid(grid)
    assert read_grid(grid.directory) == grid._replace(
        settings=replaced(grid.settings, seed=3)
    )
    more = replaced(tiny, seed=8)
    record_grid(new_grid(grid.directory, PRESET, more, ("shared", "sgd"), 1))
    both = read_grid(grid.directory)
    assert both.methods == ("sgd", "shared", "balanced")
    assert both.seeds == (3, 4, 8)
    assert len(read_cells(grid.directory)[1]) == 9


def test_another_grid_is_refused_by_name_and_value(grid):
    record_grid(grid)
    before = (grid.directory / "grid.json").read_bytes()
    other = replaced(grid.settings, alpha=1.7)
    with pytest.raises(RunDirectoryError, match=r"`alpha` is 1\.4 there and 1\.7 here"):
        record_grid(grid._replace(settings=other, methods=("shared",)))
    with pytest.raises(RunDirectoryError, match="`preset` is 'corrupted-digits-short'"):
        check_grid(grid._replace(preset="svhn"))
    assert (grid.directory / "grid.json").read_bytes() == before


def test_a_directory_with_something_else_is_refused(grid):
    grid.directory.mkdir()
    (grid.directory / "thesis.tex").write_text("")
    with pytest.raises(RunDirectoryError, match="is not empty, and holds no grid"):
        record_grid(grid)
    file = grid._replace(directory=grid.directory / "thesis.tex")
    with pytest.raises(RunDirectoryError, match="is a file"):
        check_grid(file)
    with pytest.raises(RunDirectoryError, match="cannot be written to"):
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
        lambda text: text.replace('"alpha"', '"beta"'),
        lambda text: text.replace('"balanced"', '"balancd"'),
    ],
)
def test_a_damaged_grid_is_told_by_name(grid, damage):
    record_grid(grid)
    path = grid.directory / "grid.json"
    path.write_text(damage(path.read_text("utf-8")), encoding="utf-8")
    for look in (read_grid, read_cells, lambda _: check_grid(grid)):
        with pytest.raises(RunDirectoryError, match=f"{path} is not understood"):
            look(grid.directory)


def test_a_run_is_done_when_it_is_trained_and_measured_or_has_diverged(grid, tiny):
    started, measured, wild, new = grid.cells()
    leave(started, 4)
    leave(measured, tiny.training.steps)
    leave(wild, 2, loss=math.inf)
    path = run_directory.sharpness_path(measured.directory, measured.method)
    assert unfinished(grid) == [started, measured, new]
    write_sharpness(path, {"expected_sharpness": (0.25, 0.0625)})
    assert unfinished(grid) == [started, new]
    assert [read_cell(cell).status for cell in grid.cells()] == [
        *("interrupted", "finished", "diverged", "missing")
    ]
    assert read_cell(measured).sharpness == {"expected_sharpness": (0.25, 0.0625)}


def test_a_test_loss_that_overflows_is_no_divergence(grid, tiny):
    # The run goes on, so that one which was cut there must, too.
    cell = next(grid.cells())
    leave(cell, 2, test_loss=math.inf)
    assert read_cell(cell).status == "interrupted"


def test_a_damaged_configuration_does_not_cost_the_report(grid, tiny):
    cell = next(grid.cells())
    leave(cell, tiny.training.steps)
    run_directory.config_path(cell.directory).write_text("{")
    assert read_cell(cell).status == "finished"
    assert read_cell(cell).test_images is None
