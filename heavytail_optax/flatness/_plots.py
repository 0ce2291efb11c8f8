"""Plots of slices, densities and escape profiles, with matplotlib."""

from typing import TYPE_CHECKING

import numpy as np

from heavytail_optax._plot_axes import plot_axes
from heavytail_optax._validation import check_count, type_error, value_error
from heavytail_optax.flatness._barrier import LinearBarrier
from heavytail_optax.flatness._density import HessianDensity
from heavytail_optax.flatness._escape_result import EscapeProfile
from heavytail_optax.flatness._landscape import LossLine, LossPlane

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _check_result(function: str, argument: str, value: object, *kinds: type) -> None:
    if not isinstance(value, kinds):
        names = " or ".join(f"`{kind.__name__}`" for kind in kinds)
        raise type_error(function, argument, f"a {names}", value)


def plot_line(line: LossLine | LinearBarrier, *, axes: "Axes | None" = None) -> "Axes":
    """Draws the loss along a line.

    Args:
      line: result of `loss_line` or `linear_barrier`.
      axes: matplotlib axes; by default those of a new figure.

    Returns:
      The axes. Save the figure with `axes.figure.savefig(path)`.

    Raises:
      TypeError: if an argument has the wrong type.
      ImportError: if matplotlib is missing.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> line = hto.flatness.loss_line(
      ...     lambda w: w**2, 0.0, 1.0, jnp.linspace(-1.0, 1.0, 11)
      ... )
      >>> hto.flatness.plot_line(line).get_ylabel()
      'loss'
    """
    _check_result("plot_line", "line", line, LossLine, LinearBarrier)
    axes = plot_axes("plot_line", axes)
    axes.plot(np.asarray(line.coefficients), np.asarray(line.losses))
    axes.set_xlabel("coefficient")
    axes.set_ylabel("loss")
    return axes


def plot_plane(
    plane: LossPlane, *, num_levels: int = 20, axes: "Axes | None" = None
) -> "Axes":
    """Draws the contours of the loss over a plane.

    Args:
      plane: result of `loss_plane`, with at least two points in each direction.
      num_levels: number of contours, equally spaced in the loss; at least one.
      axes: matplotlib axes; by default those of a new figure.

    Returns:
      The axes. Save the figure with `axes.figure.savefig(path)`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if a direction has fewer than two points, or there is no level.
      ImportError: if matplotlib is missing.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> grid, d, e = jnp.linspace(-1.0, 1.0, 11), jnp.eye(2)[0], jnp.eye(2)[1]
      >>> plane = hto.flatness.loss_plane(
      ...     lambda w: jnp.sum(w**2), jnp.zeros(2), (d, e), grid, grid
      ... )
      >>> hto.flatness.plot_plane(plane).get_xlabel()
      'first direction'
    """
    _check_result("plot_plane", "plane", plane, LossPlane)
    if min(np.shape(plane.losses)) < 2:
        accepted = "of at least two points each way"
        raise value_error("plot_plane", "plane", accepted, plane.losses)
    num_levels = check_count("plot_plane", "num_levels", num_levels)
    axes = plot_axes("plot_plane", axes)
    losses = np.ma.masked_invalid(np.asarray(plane.losses))
    contours = axes.contour(
        np.asarray(plane.first), np.asarray(plane.second), losses.T, levels=num_levels
    )
    axes.clabel(contours, fontsize=7)
    axes.set_xlabel("first direction")
    axes.set_ylabel("second direction")
    return axes


def plot_density(density: HessianDensity, *, axes: "Axes | None" = None) -> "Axes":
    """Draws the spectral density with its standard error, on a logarithmic scale.

    Args:
      density: result of `hessian_density`.
      axes: matplotlib axes; by default those of a new figure.

    Returns:
      The axes. Save the figure with `axes.figure.savefig(path)`.

    Raises:
      TypeError: if an argument has the wrong type.
      ImportError: if matplotlib is missing.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> curvature = jnp.array([1.0, 1.0, 1.0, 5.0])
      >>> density = hto.flatness.hessian_density(
      ...     lambda w, h: 0.5 * jnp.sum(h * w**2), jnp.ones(4), key=0, args=(curvature,)
      ... )
      >>> hto.flatness.plot_density(density).get_yscale()
      'log'
    """
    _check_result("plot_density", "density", density, HessianDensity)
    axes = plot_axes("plot_density", axes)
    points, values = np.asarray(density.eigenvalues), np.asarray(density.density)
    error = np.nan_to_num(np.asarray(density.standard_error))
    # Below this, the plot would show only the shape of the smoothing Gaussians.
    floor = 1e-6 * values.max()
    axes.semilogy(points, np.maximum(values, floor))
    axes.fill_between(
        points,
        np.maximum(values - error, floor),
        np.maximum(values + error, floor),
        alpha=0.3,
    )
    axes.set_xlabel("eigenvalue")
    axes.set_ylabel("density")
    return axes


def plot_escape_profile(
    profile: EscapeProfile, *, axes: "Axes | None" = None
) -> "Axes":
    """Draws the escape probability and its interval against the number of jumps.

    Args:
      profile: result of `escape_profile`.
      axes: matplotlib axes; by default those of a new figure.

    Returns:
      The axes. Save the figure with `axes.figure.savefig(path)`.

    Raises:
      TypeError: if an argument has the wrong type.
      ImportError: if matplotlib is missing.

    Example:
      >>> import heavytail_optax as hto
      >>> def two_wells(x):  # minima at -1 and 1, half a width of 1
      ...     return (x**2 - 1.0) ** 2
      >>> profile = hto.flatness.escape_profile(
      ...     two_wells, -1.0, key=0, jump_norm=0.4, learning_rate=0.01, flow_steps=1
      ... )
      >>> axes = hto.flatness.plot_escape_profile(profile)
      >>> len(axes.get_xticks()) == len(profile.jumps)
      True
    """
    _check_result("plot_escape_profile", "profile", profile, EscapeProfile)
    axes = plot_axes("plot_escape_profile", axes)
    jumps, middle = np.asarray(profile.jumps), np.asarray(profile.probability)
    below = np.maximum(middle - np.asarray(profile.lower), 0.0)
    above = np.maximum(np.asarray(profile.upper) - middle, 0.0)
    axes.errorbar(jumps, middle, yerr=np.stack([below, above]), fmt="o-", capsize=3)
    axes.set_ylim(-0.05, 1.05)
    axes.set_xticks(jumps)
    axes.set_xlabel("jumps")
    axes.set_ylabel("probability of escape")
    return axes
