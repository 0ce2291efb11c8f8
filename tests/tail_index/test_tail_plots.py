import warnings

import drawn_plots
import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

import heavytail_optax as hto

pytest.importorskip("matplotlib")
TI = hto.tail_index
DRAWS = hto.tails.pareto(1.5).sample(jax.random.key(0), (500,))


def saved(axes, path):
    """The bytes of the figure: it can be drawn."""
    axes.figure.savefig(path)
    return path.stat().st_size


def test_hill_plot(tmp_path):
    axes = TI.plot_hill(DRAWS, 100)
    line, corrected = axes.lines
    k = np.arange(5, 101)
    np.testing.assert_array_equal(line.get_xdata(), k)
    expected = TI.hill_path(DRAWS, 100).estimate[4:]
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-4)
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    for k in (5, 40, 100):
        index = TI.hill(DRAWS, k)
        ends = corners[corners[:, 0] == k, 1]
        expected = [index.lower, index.upper]
        np.testing.assert_allclose([ends.min(), ends.max()], expected, rtol=1e-4)
        drawn = corrected.get_ydata()[corrected.get_xdata() == k]
        np.testing.assert_allclose(drawn, index.corrected_estimate, rtol=1e-4)
    assert TI.plot_hill(DRAWS, axes=axes) is axes
    assert saved(axes, tmp_path / "hill.png") > 1000


def test_hill_plot_of_a_light_tail(tmp_path):
    """The line leaves the band; with three draws there is nothing to draw but axes."""
    draws = np.abs(np.random.default_rng(0).normal(size=20_000))
    axes = TI.plot_hill(draws, 2000)
    (line, corrected), (band,) = axes.lines, axes.collections
    # The corrected estimates are within the band, and Hill's are not.
    assert corrected.get_ydata()[-1] > 1.2 * line.get_ydata()[-1]
    corners = np.concatenate([path.vertices for path in band.get_paths()])
    assert line.get_ydata()[-1] < corners[corners[:, 0] == 2000, 1].min()
    assert len(corners) < 500
    # Another with lower estimates on the same axes leaves them as high.
    top = axes.get_ylim()[1]
    np.testing.assert_allclose(top, 2 * line.get_ydata().max())
    assert TI.plot_hill(DRAWS, axes=axes).get_ylim() == (0.0, top)
    assert saved(TI.plot_hill(draws[:4]), tmp_path / "few.png") > 1000


def test_pareto_quantiles(tmp_path):
    axes = TI.plot_pareto_qq(DRAWS, 100)
    points, line = axes.lines
    descending = np.sort(np.asarray(DRAWS, np.float64))[::-1]
    logs = np.log(descending[:100] / descending[100])
    np.testing.assert_allclose(points.get_ydata(), logs)
    slope = line.get_ydata()[0] / line.get_xdata()[0]
    np.testing.assert_allclose(slope, TI.hill(DRAWS, 100).gamma, rtol=1e-4)
    assert saved(axes, tmp_path / "quantiles.png") > 1000


def test_mean_excess(tmp_path):
    axes = TI.plot_mean_excess(DRAWS, 100)
    points, level = axes.lines
    assert level.get_ydata()[0] == points.get_ydata()[-1]
    threshold, excess = points.get_xdata()[-1], points.get_ydata()[-1]
    draws = np.asarray(DRAWS, np.float64)
    expected = draws[draws > threshold].mean() - threshold
    np.testing.assert_allclose(excess, expected)
    assert saved(axes, tmp_path / "excess.png") > 1000


PLOTS = {
    "hill": TI.plot_hill,
    "quantiles": TI.plot_pareto_qq,
    "mean excess": TI.plot_mean_excess,
}
SAMPLES = {
    "law": DRAWS,
    "light": np.abs(np.random.default_rng(0).normal(size=500)),
    "few": DRAWS[:4],
    "equal": np.ones(60),
    "clipped": np.minimum(DRAWS, np.sort(DRAWS)[-20]),
}


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("plot", PLOTS)
def test_everything_has_a_name_and_hides_nothing(plot, sample):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = PLOTS[plot](SAMPLES[sample])
        drawn_plots.check(axes)
        first = drawn_plots.names(axes)
        # Two samples on the same axes are told apart.
        assert PLOTS[plot](DRAWS, label="another", axes=axes) is axes
        drawn_plots.check(axes)
    added = drawn_plots.names(axes)[len(first) :]
    assert added and all(name.startswith("another") for name in added)


def test_draws_without_a_logarithm_are_refused():
    draws = np.concatenate([np.zeros(100), np.asarray(DRAWS[:5])])
    with pytest.raises(ValueError, match="largest are positive"):
        TI.plot_pareto_qq(draws, 5)
    assert len(TI.plot_pareto_qq(draws, 4).lines) == 2


@pytest.mark.parametrize("plot", [TI.plot_hill, TI.plot_pareto_qq, TI.plot_mean_excess])
def test_equal_samples_can_be_told_apart(plot):
    """The same draws twice: what is on top lets what is below through."""
    axes = plot(DRAWS, 100, label="first")
    plot(DRAWS, 100, label="second", axes=axes)
    colours = list(dict.fromkeys(line.get_color() for line in axes.lines))
    assert len(colours) == 2
    assert all(drawn_plots.pixels_of(axes, colour) > 40 for colour in colours)
    drawn_plots.check(axes)


def test_the_legend_leaves_a_lone_hill_plot_its_room():
    axes = TI.plot_hill(DRAWS, 100)
    axes.figure.draw_without_rendering()
    assert axes.get_position().height > 0.75
    drawn_plots.check(axes)


@pytest.mark.parametrize("plot", [TI.plot_hill, TI.plot_pareto_qq, TI.plot_mean_excess])
@pytest.mark.parametrize("size", [(3.0, 2.4), (2.5, 2.2)])
def test_the_legend_hides_nothing_in_a_small_figure_of_ones_own(plot, size):
    """Without a layout, in which matplotlib makes no room for it."""
    figure = Figure(size)
    axes = figure.subplots()
    for _ in range(2):
        plot(DRAWS, 100, axes=axes)
        figure.draw_without_rendering()
        legend = axes.get_legend().get_window_extent()
        assert not legend.overlaps(axes.bbox)
        assert not legend.overlaps(axes.xaxis.label.get_window_extent())
        assert legend.y0 >= 0.0
        assert axes.get_position().height > 0.25
        place = axes.get_position()
        # Drawn anew on the same axes it takes no more.
        axes.clear()
    plot(DRAWS, 100, axes=axes)
    assert np.allclose(axes.get_position(), place)
