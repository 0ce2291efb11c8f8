import numpy as np
import pytest
from PIL import Image
from report_examples import BALANCED, GRID, SGD, SHARED, finished, unfinished

from heavytail_optax.experiments.methods import METHOD_COLOURS, METHOD_NAMES
from heavytail_optax.experiments.report.figure import draw_report, plot_report
from heavytail_optax.experiments.report.points import Point, points_of
from heavytail_optax.experiments.report.rows import build_report

PAPER = "corrupted-fashion-mnist"
OURS = "corrupted-digits"


def drawn(preset, cells):
    figure = draw_report(build_report(preset, cells))
    figure.draw_without_rendering()
    return figure


def legend_texts(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def marked(axes, marker):
    """Coordinates of all points with a marker."""
    return sorted(
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in axes.lines
        if line.get_marker() == marker and len(line.get_xdata()) == 1
    )


def floor_labels(axes):
    return sorted(text.get_text() for text in axes.texts)


def test_every_method_has_its_colour():
    assert set(METHOD_COLOURS) == set(METHOD_NAMES)
    assert len(set(METHOD_COLOURS.values())) == len(METHOD_NAMES)


def test_png_is_there_and_1200_pixels_wide(tmp_path):
    path = tmp_path / "picture.png"
    assert plot_report(path, build_report(PAPER, GRID))
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width == 1200
        assert 600 < picture.height < 1200
        # Not blank.
        assert np.asarray(picture.convert("L")).std() > 5
    assert list(tmp_path.iterdir()) == [path]


def test_legend_has_all_methods():
    assert legend_texts(drawn(PAPER, GRID)) == [
        "sgd (SB): 69.3 ± 0.5%",
        "inflated (SB+Noise): 38.2 ± 28.2% (2 of 3 runs)",
        "shared (Our 2): 71.3%",
        "balanced: 70.4 ± 0.5% (4 of 5 runs)",
        "truncated-heavy-tailed-sgd: no run finished",
    ]


def test_text_is_within_the_picture_and_legend_below_the_panels():
    others = [
        finished(name, 0, 0.7, 0.01)
        for name in METHOD_NAMES
        if name not in {cell.method for cell in GRID}
    ]
    figure = drawn(PAPER, [*GRID, *others])
    assert len(legend_texts(figure)) == len(METHOD_NAMES)
    width = figure.bbox.width
    panel = figure.axes[0]
    assert panel._left_title.get_window_extent().x1 <= width
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= width
    assert legend.y1 <= panel.xaxis.label.get_window_extent().y0


def test_points_are_runs_mean_and_paper():
    row = build_report(PAPER, SGD).rows[0]
    *runs, mean, paper = points_of(row, "expected_sharpness")
    assert [point.kind for point in runs] == ["run"] * 4
    assert runs[1][1:3] == (0.0059, pytest.approx(69.2))
    sharpness = np.asarray([point.sharpness for point in runs])
    accuracy = np.asarray([point.accuracy for point in runs])
    assert mean.kind == "mean"
    np.testing.assert_allclose(
        mean[1:],
        [
            sharpness.mean(),
            accuracy.mean(),
            sharpness.std(ddof=1) / 2,
            accuracy.std(ddof=1) / 2,
        ],
    )
    assert paper == Point("paper", 0.008, 69.20)


def test_a_single_run_is_its_mean():
    row = build_report(OURS, SHARED).rows[0]
    (point,) = points_of(row, "expected_sharpness")
    assert point == ("mean", 0.0004, pytest.approx(71.3), 0.0, 0.0)


def test_papers_figures_are_hollow_squares():
    axes = drawn(PAPER, [*SGD, *SHARED]).axes[0]
    assert marked(axes, "s") == [(0.002, 70.06), (0.008, 69.2)]
    hollow = [line for line in axes.lines if line.get_marker() == "s"]
    assert {line.get_fillstyle() for line in hollow} == {"none"}
    assert marked(drawn(OURS, [*SGD, *SHARED]).axes[0], "s") == []


def test_what_is_far_below_is_on_the_edge_with_its_value():
    axes = drawn(OURS, GRID).axes[0]
    assert floor_labels(axes) == ["10.0", "mean 38.2"]
    low, high = axes.get_ylim()
    assert 60 < low < 66.4
    assert 71.3 < high < 75
    assert all(low < y < 66.4 for _, y in marked(axes, "v"))
    # Did not learn, but is near enough to be shown.
    assert marked(axes, "x") == [(0.0162, pytest.approx(66.4))]


def test_values_close_together_share_a_label():
    failed = [
        finished("inflated", seed, 0.1 + seed / 100, 0.01, train_accuracy=0.1)
        for seed in range(3)
    ]
    axes = drawn(OURS, [*SGD, *failed]).axes[0]
    assert floor_labels(axes) == ["10.0 to 12.0"]


def test_key_names_what_is_drawn():
    def key(preset, cells):
        return drawn(preset, cells).axes[0].get_title(loc="left")

    assert key(OURS, SHARED) == "large dots: mean ± standard error"
    everything = key(PAPER, GRID)
    for word in ("dots: runs", "crosses", "squares", "triangles"):
        assert word in everything
        assert word not in key(OURS, SHARED)


@pytest.mark.parametrize(
    "sharpness",
    [[0.005], [0.0051, 0.0053], [13_100.0, 13_500.0], [1e-6, 0.9], [0.011, 0.03, 0.1]],
)
@pytest.mark.filterwarnings("error")
def test_sharpness_axis_is_logarithmic_with_labelled_ticks(sharpness):
    cells = [finished("sgd", seed, 0.7, value) for seed, value in enumerate(sharpness)]
    axes = drawn(OURS, cells).axes[0]
    assert axes.get_xscale() == "log"
    low, high = axes.get_xlim()
    assert low < min(sharpness) <= max(sharpness) < high
    ticks = [
        tick.label1.get_text()
        for tick in axes.xaxis.get_major_ticks()
        if low <= tick.get_loc() <= high
    ]
    assert 3 <= len(ticks) <= 12
    assert len(set(ticks)) == len(ticks)


def test_an_error_bar_never_reaches_zero_sharpness():
    cells = [finished("sgd", seed, 0.7, value) for seed, value in ((0, 1e-6), (1, 1.0))]
    low, _ = drawn(OURS, cells).axes[0].get_xlim()
    assert low > 0


def test_one_panel_a_measure():
    cells = [
        cell._replace(
            sharpness={**cell.sharpness, "maximal_sharpness": (1e4 + cell.seed, None)}
        )
        for cell in [*SGD, *BALANCED]
    ]
    figure = drawn("cifar10-augmented", cells)
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "Expected sharpness (flatter to the left)",
        "Maximal sharpness (flatter to the left)",
    ]


def test_many_measures_are_in_two_columns():
    names = ("expected_sharpness", "top_eigenvalue", "hessian_trace", "a", "b")
    cells = [cell._replace(sharpness=dict.fromkeys(names, (2.0, None))) for cell in SGD]
    figure = drawn(OURS, cells)
    assert len(figure.axes) == 5
    assert figure.get_size_inches()[0] == 16
    assert len({round(axes.get_position().x0, 2) for axes in figure.axes}) == 2


@pytest.mark.parametrize(
    "cells",
    [
        [unfinished("sgd", 0)],
        [SGD[0]._replace(sharpness={})],
        [finished("sgd", 0, 0.7, 0.0)],
    ],
    ids=["unfinished", "not measured", "zero"],
)
def test_nothing_to_draw_leaves_no_picture(cells, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"of an earlier report")
    assert not plot_report(path, build_report(PAPER, cells))
    assert not path.exists()
