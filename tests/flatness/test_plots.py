import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax import flatness

pytest.importorskip("matplotlib")


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
    for drawn, given in zip(axes.lines, (line, barrier), strict=True):
        np.testing.assert_allclose(drawn.get_ydata(), given.losses)
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
