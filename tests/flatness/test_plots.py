import itertools

import drawn_plots
import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax import flatness

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure


def loss(x):
    return jnp.sum((x**2 - 1.0) ** 2)


def saved(axes, path):
    """The bytes of the figure: it can be drawn."""
    axes.figure.savefig(path)
    return path.stat().st_size


def test_lines(tmp_path):
    line = flatness.loss_line(loss, jnp.zeros(2), jnp.ones(2), np.linspace(-1, 1, 9))
    axes = flatness.plot_line(line)
    # Into the same axes.
    barrier = flatness.linear_barrier(loss, -jnp.ones(2), jnp.ones(2))
    assert flatness.plot_line(barrier, axes=axes) is axes
    first, second, straight = axes.lines
    for drawn, given in ((first, line), (second, barrier)):
        np.testing.assert_allclose(drawn.get_ydata(), given.losses)
    ends = [barrier.losses[0], barrier.losses[-1]]
    np.testing.assert_allclose(straight.get_ydata(), ends)
    assert saved(axes, tmp_path / "line.png") > 1000


def test_plane(tmp_path):
    grid = np.linspace(-1.0, 1.0, 9)
    first, second = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    plane = flatness.loss_plane(
        lambda x: jnp.where(x[0] > 0.9, jnp.inf, loss(x)),
        *(jnp.zeros(2), (first, second), grid, grid),
    )
    assert (
        saved(flatness.plot_plane(plane, num_levels=5), tmp_path / "plane.png") > 1000
    )


def test_density(tmp_path):
    density = flatness.hessian_density(
        loss, jnp.array([1.0, 0.2]), key=0, num_samples=1
    )
    axes = flatness.plot_density(density)
    assert axes.get_yscale() == "log"
    assert saved(axes, tmp_path / "density.png") > 1000


def test_escape_profile(tmp_path):
    profile = flatness.escape_profile(
        loss,
        -jnp.ones(1),
        key=0,
        jump_norm=0.6,
        learning_rate=0.05,
        max_jumps=3,
        num_samples=4,
        descent_steps=50,
    )
    axes = flatness.plot_escape_profile(profile)
    line = axes.containers[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), profile.probability)
    assert saved(axes, tmp_path / "profile.png") > 1000


def barrier_of(height, floor):
    """Between -1 and 1, where the loss is `floor`."""
    return flatness.linear_barrier(
        lambda x: floor + height * jnp.sum((x**2 - 1.0) ** 2), -jnp.ones(1), jnp.ones(1)
    )


def test_a_small_rise_looks_small():
    """Of 0.0025 over a loss of 0.5; of negative losses no axis begins at zero."""
    axes = flatness.plot_line(barrier_of(0.0025, 0.5))
    low, high = axes.get_ylim()
    assert low <= 0.0
    assert 0.0025 / (high - low) < 0.01
    assert any("rises 0.0025 above" in name for name in drawn_plots.names(axes))
    low, high = flatness.plot_line(barrier_of(0.0025, -0.5)).get_ylim()
    assert -0.51 < low < high < -0.49


def line_of(function, places):
    return flatness.loss_line(function, jnp.zeros(2), jnp.ones(2), places)


def logarithm(x):
    return jnp.log(x[0])


def plane_of(function):
    grid, directions = np.linspace(-1.0, 1.0, 5), (jnp.eye(2)[0], jnp.eye(2)[1])
    return flatness.loss_plane(function, jnp.zeros(2), directions, grid, grid)


def density_of(num_samples):
    params = jnp.array([1.0, 0.2])
    return flatness.hessian_density(loss, params, key=0, num_samples=num_samples)


def profile_of(max_jumps):
    settings = {"jump_norm": 0.6, "learning_rate": 0.05, "descent_steps": 10}
    numbers = {"max_jumps": max_jumps, "num_samples": 2}
    return flatness.escape_profile(loss, -jnp.ones(1), key=0, **settings, **numbers)


PLOTS = {
    "line": (flatness.plot_line, lambda: line_of(loss, np.linspace(-1, 1, 9))),
    "a point": (flatness.plot_line, lambda: line_of(loss, [0.0])),
    "not finite": (flatness.plot_line, lambda: line_of(logarithm, [-1.0, 1.0])),
    "barrier": (flatness.plot_line, lambda: barrier_of(1.0, 0.0)),
    "density": (flatness.plot_density, lambda: density_of(3)),
    "density of one": (flatness.plot_density, lambda: density_of(1)),
    "profile": (flatness.plot_escape_profile, lambda: profile_of(3)),
    "one jump": (flatness.plot_escape_profile, lambda: profile_of(1)),
}


@pytest.mark.parametrize("name", PLOTS)
def test_everything_has_a_name_and_hides_nothing(name):
    plot, result = PLOTS[name]
    result = result()
    with drawn_plots.no_warnings():
        axes = plot(result)
        drawn_plots.check(axes)
        first = drawn_plots.names(axes)
        assert plot(result, label="another", axes=axes) is axes
        drawn_plots.check(axes)
    added = drawn_plots.names(axes)[len(first) :]
    assert added and all(name.startswith("another") for name in added)


@pytest.mark.parametrize("layout", [None, "tight", "constrained"])
@pytest.mark.parametrize("is_set_later", [False, True])
def test_no_layout_of_a_figure_lays_a_legend_over_other_axes(layout, is_set_later):
    figure = Figure(figsize=(9, 7), layout=None if is_set_later else layout)
    line = line_of(loss, np.linspace(-1, 1, 9))
    with drawn_plots.no_warnings():
        panels = figure.subplots(2, 2).flat
        for axes, number in itertools.product(panels, range(2)):
            flatness.plot_line(line, label=f"the line of run {number}", axes=axes)
        if is_set_later and layout == "tight":
            figure.tight_layout()
        elif is_set_later:
            figure.set_layout_engine(layout)
        for axes in figure.axes:
            drawn_plots.check(axes)
    for first, second in itertools.permutations(figure.axes, 2):
        box = first.get_legend().get_window_extent()
        assert not box.overlaps(second.get_window_extent())


PLANES = {
    "wells": loss,
    "level": lambda x: 0.0 * jnp.sum(x) + 0.7,
    "not finite": lambda x: jnp.nan * jnp.sum(x),
}


@pytest.mark.parametrize("name", PLANES)
def test_planes_say_what_the_loss_is(name):
    with drawn_plots.no_warnings():
        axes = flatness.plot_plane(plane_of(PLANES[name]))
        drawn_plots.check(axes)
    assert drawn_plots.names(axes) == ["the parameters"]
    if name == "wells":
        assert axes.figure.axes[-1].get_ylabel() == "loss"
    else:
        said = {"level": "0.7", "not finite": "not finite"}[name]
        assert said in axes.texts[0].get_text()


def test_jumps_are_whole_numbers():
    for max_jumps in (1, 3, 40):
        axes = flatness.plot_escape_profile(profile_of(max_jumps))
        ticks = axes.get_xticks()
        np.testing.assert_array_equal(ticks, np.round(ticks))
        assert 0 < len(ticks) < 20


@pytest.mark.parametrize("name", ["line", "density", "profile"])
def test_equal_curves_can_be_told_apart(name):
    plot, make = PLOTS[name]
    result, axes = make(), None
    for label in ("first", "second", "third"):
        axes = plot(result, label=label, axes=axes)
    colours = list(dict.fromkeys(line.get_color() for line in axes.lines))
    assert len(colours) == 3
    assert all(drawn_plots.pixels_of(axes, colour) > 40 for colour in colours)
    drawn_plots.check(axes)


@pytest.mark.parametrize("reach", [0.1, 1.0, 0.00013])
def test_the_labels_of_a_line_do_not_touch(reach):
    line = flatness.loss_line(
        loss, jnp.ones(2), jnp.ones(2), jnp.linspace(-reach, reach, 21)
    )
    axes = flatness.plot_line(line)
    axes.figure.draw_without_rendering()
    labels = [label for label in axes.get_xticklabels() if label.get_text()]
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda x: x.x0)
    assert len(boxes) >= 3
    for box, after in itertools.pairwise(boxes):
        assert box.x1 < after.x0
