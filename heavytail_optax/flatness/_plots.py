"""Plots of slices, densities and escape profiles, with matplotlib."""

from typing import TYPE_CHECKING

import numpy as np

from heavytail_optax._plot_axes import (
    curves_on,
    legend_below,
    mark_curve,
    plot_axes,
    prefixed,
    write_in,
)
from heavytail_optax._validation import check_count, type_error, value_error
from heavytail_optax.flatness._barrier import LinearBarrier
from heavytail_optax.flatness._density import HessianDensity
from heavytail_optax.flatness._escape_result import EscapeProfile
from heavytail_optax.flatness._landscape import LossLine, LossPlane

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from matplotlib.axes import Axes


_SHIFT = 0.06  # of a jump, between the points of two profiles


def _check_result(function: str, argument: str, value: object, *kinds: type) -> None:
    if not isinstance(value, kinds):
        names = " or ".join(f"`{kind.__name__}`" for kind in kinds)
        raise type_error(function, argument, f"a {names}", value)


def plot_line(
    line: LossLine | LinearBarrier,
    *,
    label: str | None = None,
    axes: "Axes | None" = None,
) -> "Axes":
    """Draws the loss along a line.

    A barrier comes with the straight line between its ends and its height above that.
    The loss is drawn from zero on, unless it is negative somewhere: a small rise looks
    small.

    Args:
      line: result of `loss_line` or `linear_barrier`.
      label: its name in the legend, to tell several lines apart.
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
      >>> axes = hto.flatness.plot_line(line, label="a parabola")
      >>> print(axes.get_xlabel())
      distance along the direction, in units of its length
    """
    _check_result("plot_line", "line", line, LossLine, LinearBarrier)
    axes = plot_axes("plot_line", axes, label)
    places, losses = np.asarray(line.coefficients), np.asarray(line.losses)
    is_barrier = isinstance(line, LinearBarrier)
    name = "loss on the way" if label is None and is_barrier else label
    number = curves_on(axes)
    (curve,) = axes.plot(places, losses, ".-", markersize=4, label=name)
    mark_curve(curve, number)
    if is_barrier:
        ends, colour = [0, -1], curve.get_color()
        name = f"straight line; the loss rises {_short(line.height)} above"
        style = {"color": colour, "markersize": 5, "label": prefixed(label, name)}
        axes.plot(places[ends], losses[ends], "o:", **style)
        axes.set_xlabel("share of the way from the start (0) to the end (1)")
    else:
        axes.set_xlabel("distance along the direction, in units of its length")
        axes.locator_params(axis="x", nbins=6)  # -0.075 and the like side by side
    axes.set_ylabel("loss")
    if np.min(losses, initial=0.0, where=np.isfinite(losses)) >= 0.0:
        axes.update_datalim([(places[0], 0.0)])
        axes.autoscale_view()
    legend_below(axes)
    return axes


def _short(value: "ArrayLike") -> str:
    return f"{float(value):.2g}"


def plot_plane(
    plane: LossPlane, *, num_levels: int = 20, axes: "Axes | None" = None
) -> "Axes":
    """Draws the contours of the loss over a plane; a cross marks the parameters.

    Args:
      plane: result of `loss_plane`, with at least two points in each direction.
      num_levels: number of contours, at least one. Those of a quadratic bowl would be
        equally far apart, so that the neighbourhood of a minimum has some too.
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
      >>> print(hto.flatness.plot_plane(plane).get_xlabel())
      first direction, in units of its length
    """
    _check_result("plot_plane", "plane", plane, LossPlane)
    if min(np.shape(plane.losses)) < 2:
        accepted = "of at least two points each way"
        raise value_error("plot_plane", "plane", accepted, plane.losses)
    num_levels = check_count("plot_plane", "num_levels", num_levels)
    axes = plot_axes("plot_plane", axes)
    first, second = np.asarray(plane.first), np.asarray(plane.second)
    losses = np.ma.masked_invalid(np.asarray(plane.losses))
    if losses.count() and losses.min() < losses.max():
        steps = np.linspace(0.0, 1.0, num_levels + 2)[1:-1]
        levels = losses.min() + (losses.max() - losses.min()) * steps**2
        contours = axes.contour(first, second, losses.T, levels=levels)
        axes.figure.colorbar(contours, ax=axes, label="loss")
    else:
        # Without contours, a plot would not say what the loss is.
        axes.set_xlim(first.min(), first.max())
        axes.set_ylim(second.min(), second.max())
        level = (
            f"is {losses.min():.3g} everywhere" if losses.count() else "is not finite"
        )
        write_in(axes, f"the loss {level}")
    if first.min() <= 0.0 <= first.max() and second.min() <= 0.0 <= second.max():
        axes.plot(0.0, 0.0, "k+", markersize=9, label="the parameters")
    axes.set_xlabel("first direction, in units of its length")
    axes.set_ylabel("second direction, in units of its length")
    legend_below(axes)
    return axes


def plot_density(
    density: HessianDensity,
    *,
    label: str | None = None,
    axes: "Axes | None" = None,
) -> "Axes":
    """Draws the spectral density with its standard error, on a logarithmic scale.

    Nothing is drawn below a millionth of its largest value. There is only the shape of
    the smoothing Gaussians.

    Args:
      density: result of `hessian_density`.
      label: its name in the legend, to tell several densities apart.
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
    axes = plot_axes("plot_density", axes, label)
    points, values = np.asarray(density.eigenvalues), np.asarray(density.density)
    error = np.asarray(density.standard_error)
    is_shown = values >= 1e-6 * values.max()
    num_samples = density.nodes.shape[0]
    name = f"mean over {num_samples} random vectors"
    if num_samples == 1:
        name = "of one random vector: no standard error"
    number = curves_on(axes)
    shown = np.where(is_shown, values, np.nan)
    (line,) = axes.semilogy(points, shown, label=prefixed(label, name))
    mark_curve(line, number)
    if num_samples > 1:
        axes.fill_between(
            points,
            np.maximum(values - error, 1e-6 * values.max()),
            values + error,
            where=is_shown,
            color=line.get_color(),
            alpha=0.3,
            linewidth=0,
            label=prefixed(label, "one standard error on each side"),
        )
    axes.set_xlabel("eigenvalue")
    axes.set_ylabel("density per unit of eigenvalue")
    legend_below(axes)
    return axes


def plot_escape_profile(
    profile: EscapeProfile,
    *,
    label: str | None = None,
    axes: "Axes | None" = None,
) -> "Axes":
    """Draws the escape probability and its interval against the number of jumps.

    A second profile on the same axes is drawn a little to the right of the first.

    Args:
      profile: result of `escape_profile`.
      label: its name in the legend, to tell several profiles apart.
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
      >>> axes.get_xlabel()
      'number of jumps'
    """
    _check_result("plot_escape_profile", "profile", profile, EscapeProfile)
    axes = plot_axes("plot_escape_profile", axes, label)
    from matplotlib.ticker import MaxNLocator

    jumps, middle = np.asarray(profile.jumps), np.asarray(profile.probability)
    below = np.maximum(middle - np.asarray(profile.lower), 0.0)
    above = np.maximum(np.asarray(profile.upper) - middle, 0.0)
    settings = profile.settings
    name = (
        f"share of {settings.num_samples} paths, by jumps of norm "
        f"{_short(settings.jump_norm)}, and {100 * settings.confidence:g} % interval"
    )
    number = curves_on(axes)
    # Beside each other, as many profiles have the same values.
    (curve, _, _) = axes.errorbar(
        jumps + min(_SHIFT * number, 0.4),
        middle,
        yerr=np.stack([below, above]),
        fmt="o-",
        capsize=3,
        label=prefixed(label, name),
    )
    mark_curve(curve, number)
    axes.set_ylim(-0.05, 1.05)
    axes.update_datalim([(0.5, 0.0), (jumps[-1] + 0.5, 1.0)])
    axes.autoscale_view(scaley=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("number of jumps")
    axes.set_ylabel("share of paths outside after these jumps")
    legend_below(axes)
    return axes
