"""The points of a report's picture, and that it is written whole or not at all."""

import numpy as np
import pytest
from report_examples import (
    BALANCED,
    GRID,
    SGD,
    SHARED,
    finished,
    record_of,
    unfinished,
)

from heavytail_optax.experiments.methods import METHOD_NAMES, METHODS
from heavytail_optax.experiments.report.accuracy_figure import draw_report, points_of
from heavytail_optax.experiments.report.style import save_figure
from heavytail_optax.experiments.report.summary import build_report, runs_table

PAPER = "corrupted-fashion-mnist"
OURS = "corrupted-digits"


def points(preset, cells):
    return points_of(build_report(preset, runs_table(cells)), "expected_sharpness")


def drawn(preset, cells):
    return draw_report(build_report(preset, runs_table(cells)))


def coordinates(found, kind):
    own = found[found["kind"] == kind]
    return own[["sharpness", "accuracy", "sharpness_error", "accuracy_error"]]


def test_every_method_has_its_colour():
    colours = {method.colour for method in METHODS.values()}
    assert len(colours) == len(METHOD_NAMES)


def test_points_are_runs_mean_and_paper():
    found = points(PAPER, SGD)
    sharpness = np.array([cell.sharpness["expected_sharpness"][0] for cell in SGD])
    accuracy = 100 * np.array([cell.test_accuracy for cell in SGD])
    runs = coordinates(found, "run").to_numpy()
    np.testing.assert_allclose(runs[:, :2], np.stack([sharpness, accuracy], 1))
    assert (runs[:, 2:] == 0).all()
    (mean,) = coordinates(found, "mean").to_numpy()
    errors = sharpness.std(ddof=1) / 2, accuracy.std(ddof=1) / 2
    np.testing.assert_allclose(mean, [sharpness.mean(), accuracy.mean(), *errors])
    (paper,) = coordinates(found, "paper").to_numpy()
    np.testing.assert_allclose(paper, [0.008, 69.20, 0, 0])
    assert "paper" not in set(points(OURS, SGD)["kind"])


def test_both_means_are_over_the_same_seeds():
    lacks = SGD[3]._replace(record=record_of({"expected_sharpness": (np.nan, None)}))
    found = points(OURS, [*SGD[:3], lacks])
    (mean,) = coordinates(found, "mean").to_numpy()
    assert len(coordinates(found, "run")) == 3
    # Of the first three seeds, not 69.3 as of all four.
    np.testing.assert_allclose(mean[:2], [0.0055, 100 * (0.7 + 0.692 + 0.68) / 3])


def test_a_single_run_is_its_mean():
    found = points(OURS, SHARED)
    assert list(found["kind"]) == ["mean"]
    np.testing.assert_allclose(coordinates(found, "mean"), [[0.0004, 71.3, 0, 0]])


def test_runs_that_did_not_learn_are_marked_and_unfinished_ones_left_out():
    found = points(OURS, GRID)
    failed = coordinates(found, "failed")["accuracy"]
    np.testing.assert_allclose(sorted(failed), [10.0, 66.4])
    finished_runs = [cell for cell in GRID if cell.status == "finished"]
    finished_runs.remove(SHARED[0])  # alone
    assert (found["kind"].isin(["run", "failed"])).sum() == len(finished_runs)


@pytest.mark.parametrize("cells", [GRID, SHARED, [*SGD, *SHARED]])
@pytest.mark.parametrize("preset", [PAPER, OURS])
def test_all_points_are_within_the_axes(preset, cells):
    figure = drawn(preset, cells)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert 0 < left < right
    shown = [line.get_xydata()[0] for line in axes.lines if len(line.get_xydata())]
    assert len(shown) == len(points(preset, cells))
    for x, y in shown:
        assert left < x < right and low < y < high


def test_a_run_that_did_not_learn_does_not_stretch_the_axes():
    """It looks flat, and its method's mean has a large error."""
    cells = [*SGD, *BALANCED[:3]]
    (before,) = drawn(OURS, cells).axes
    for accuracy in (0.1, 0.61):
        failed = BALANCED[3]._replace(
            test_accuracy=accuracy,
            train_accuracy=accuracy,
            record=record_of({"expected_sharpness": (1e-7, None)}),
        )
        (axes,) = drawn(OURS, [*cells, failed]).axes
        assert np.ptp(axes.get_ylim()) < 1.1 * np.ptp(before.get_ylim())
        ratios = [right / left for left, right in (axes.get_xlim(), before.get_xlim())]
        assert ratios[0] < 1.1 * ratios[1]
        assert "triangles" in axes.get_title(loc="left")
    assert "triangles" not in before.get_title(loc="left")


def test_runs_and_means_have_other_markers():
    (axes,) = drawn(PAPER, SGD).axes
    found = points(PAPER, SGD)["kind"]
    lines = [line for line in axes.lines if len(line.get_xydata())]
    markers = {kind: line.get_marker() for kind, line in zip(found, lines, strict=True)}
    assert len({*markers.values()}) == 3  # of runs, mean and paper


def test_one_panel_a_measure():
    names = ("expected_sharpness", "top_eigenvalue", "hessian_trace", "a", "b")
    for number in range(1, len(names) + 1):
        values = dict.fromkeys(names[:number], (2.0, None))
        figure = drawn(OURS, [cell._replace(record=record_of(values)) for cell in SGD])
        assert len(figure.axes) == number


def test_the_picture_is_a_png_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "picture.png"
    assert save_figure(drawn(PAPER, GRID), path)
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "cells",
    [
        [unfinished("sgd", 0)],
        [SGD[0]._replace(record={})],
        [finished("sgd", 0, 0.7, 0.0)],
    ],
    ids=["unfinished", "not measured", "zero"],
)
def test_nothing_to_draw_leaves_no_picture(cells, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"of an earlier report")
    assert not save_figure(drawn(PAPER, cells), path)
    assert not path.exists()


def test_a_picture_that_cannot_be_finished_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    path.write_bytes(b"of an earlier report")

    def fail(self, path, **options):
        path.write_bytes(b"\x89PN")
        raise OSError(28, "No space left on device")

    figure = drawn(PAPER, GRID)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="No space left"):
        save_figure(figure, path)
    assert path.read_bytes() == b"of an earlier report"
    assert list(tmp_path.iterdir()) == [path]


def test_a_method_without_a_measurement_is_in_the_note_alone():
    measured, lacking = SGD, [each._replace(record={}) for each in SHARED]
    figure = drawn(OURS, [*measured, *lacking])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [name.partition(":")[0] for name in names] == [METHODS["sgd"].label]
    assert METHODS["shared"].label in figure.axes[0].get_title(loc="left")
