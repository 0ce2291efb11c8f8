"""Plots of a tail, with matplotlib: Hill plot, Pareto quantiles, mean excess."""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from heavytail_optax._plot_axes import (
    curves_on,
    dashes,
    legend_below,
    mark_curve,
    plot_axes,
    prefixed,
    write_in,
)
from heavytail_optax._validation import (
    check_count,
    check_positive,
    type_error,
    value_error,
)
from heavytail_optax.tail_index._arguments import check_draws, check_fewer_than
from heavytail_optax.tail_index._hill import hill, hill_path
from heavytail_optax.tail_index._ties import num_tied
from heavytail_optax.tail_index._truncated_pareto import (
    FEWEST_OF_TRUNCATED,
    truncated_pareto,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_SHOWN = 5  # with fewer draws, the interval is off every scale
_BAND_PLACES = 200


def _descending(
    function: str, samples: npt.ArrayLike, argument: str, k: int | jax.Array
) -> tuple[np.ndarray, int]:
    """All draws in descending order, in float64, and the requested k."""
    draws = _finite_draws(function, samples)
    if k is None:
        k = max(2, draws.size // 10)
    k = check_fewer_than(function, argument, k, 2, draws.size)
    return np.sort(draws)[::-1], k


def _finite_draws(function: str, samples: npt.ArrayLike) -> np.ndarray:
    """All draws in their order, in float64."""
    draws = np.asarray(check_draws(function, samples, None, least=4), np.float64)
    num_bad = np.count_nonzero(~np.isfinite(draws))
    if num_bad:
        accepted = f"of finite draws, which {num_bad} of them are not"
        raise value_error(function, "samples", accepted, samples)
    return draws


class _Band(NamedTuple):
    """Some values of k, and the interval of Hill's estimate at each; NaN without one."""

    k: np.ndarray
    corrected: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


# Compiled once for all calls; the loop would be compiled again in each call.
@jax.jit
def _interval_ends(
    descending: jax.Array, k: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    def of_one(k: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        index = hill(descending, k)
        return index.corrected_estimate, index.lower, index.upper

    return jax.lax.map(of_one, k)


def _band(descending: np.ndarray, k: np.ndarray) -> _Band:
    if k.size > _BAND_PLACES:
        places = np.geomspace(k[0], k[-1], _BAND_PLACES).round()
        k = np.unique(places.astype(k.dtype))
    found = _interval_ends(jnp.asarray(descending), jnp.asarray(k))
    # A band cannot reach infinity, so there is a gap.
    is_finite = np.isfinite(found[1]) & np.isfinite(found[2])
    return _Band(k, *(np.where(is_finite, values, np.nan) for values in found))


def plot_hill(
    samples: npt.ArrayLike,
    max_k: int | None = None,
    *,
    label: str | None = None,
    axes: "Axes | None" = None,
) -> "Axes":
    """Draws Hill's estimate against k, and the one corrected for bias with its interval.

    A power law has a level stretch, but so do other laws. Without a level stretch,
    there is no index to read off. With one, `assess_tail` says whether it means
    anything. The band has the 95 % intervals, which allow for bias and lie around the
    dashed line of the corrected estimates. Where Hill's own leaves the band, it is
    biased. Where there is no band, the largest draws were cut off, or no index fits.

    Args:
      samples: floating array, treated as one sample: norms, or absolute values.
      max_k: the largest k. Default: a tenth of the draws.
      label: name of the sample in the legend, to tell several apart.
      axes: matplotlib axes; by default those of a new figure.

    Returns:
      The axes. Save the figure with `axes.figure.savefig(path)`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if `max_k` is out of range, there are fewer than four draws, or one of
        them is not finite.
      ImportError: if matplotlib is missing.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = hto.tails.pareto(1.5).sample(jax.random.key(0), (1000,))
      >>> hto.tail_index.plot_hill(draws).get_ylabel()
      'tail index'
    """
    descending, max_k = _descending("plot_hill", samples, "max_k", max_k)
    axes = plot_axes("plot_hill", axes, label)
    path = hill_path(descending, max_k)
    k, alpha = np.asarray(path.k), np.asarray(path.estimate)
    # The estimates among clipped draws are off every scale, too.
    few = k < max(_FEWEST_SHOWN, 2 * int(num_tied(descending)))
    is_first = not axes.has_data()
    top = 0.0 if is_first else axes.get_ylim()[1]
    k, alpha = k[~few], alpha[~few]
    is_estimate = np.isfinite(alpha)
    if is_first and not is_estimate.any():
        axes.set_xlim(0, max(max_k, _FEWEST_SHOWN))
        axes.set_ylim(0.0, 1.0)
        reason = f"no estimate: k is below {_FEWEST_SHOWN}, or the\nlargest draws are"
        write_in(axes, f"{reason} equal or not positive")
    name = "Hill's estimate" if is_estimate.any() else "no estimate"
    hidden = is_first and not is_estimate.any()  # the text says so
    number = curves_on(axes)
    (line,) = axes.plot(k, alpha, label=None if hidden else prefixed(label, name))
    mark_curve(line, number)
    band, colour = _band(descending[: max_k + 1], k), line.get_color()
    names = "corrected for bias", "its 95 % interval"
    if np.isnan(band.lower).all():
        names = None, "no interval: the largest draws are equal, or no index fits"
    corrected, interval = (name and prefixed(label, name) for name in names)
    if not is_estimate.any():
        interval = None
    style = {"color": colour, "linewidth": 1, "label": corrected}
    # The dashes of a second sample are in the gaps of the first.
    pattern = 5.0 * number, (5.0, 5.0)
    axes.plot(band.k, band.corrected, linestyle=pattern, **style)
    style = {"color": colour, "linewidth": 0, "alpha": 0.25, "label": interval}
    axes.fill_between(band.k, band.lower, band.upper, **style)
    # The intervals of the fewest draws would leave no room for the others.
    highest = 2.0 * np.max(alpha, initial=0.0, where=is_estimate)
    if max(top, highest) > 0.0:
        axes.set_ylim(0.0, max(top, highest))
    axes.set_xlabel("k, number of largest draws")
    axes.set_ylabel("tail index")
    legend_below(axes)
    return axes


def plot_pareto_qq(
    samples: npt.ArrayLike,
    k: int | None = None,
    *,
    with_end: bool = False,
    label: str | None = None,
    axes: "Axes | None" = None,
) -> "Axes":
    """Draws the logs of the k largest draws against the quantiles of a power law.

    A power law is a straight line with slope 1 / alpha. The plot shows the line with
    Hill's estimate. A light tail bends downwards at the right end, and so
    does a power law that ends.

    Args:
      samples: floating array, treated as one sample: norms, or absolute values. The k +
        1 largest must be positive.
      k: how many of the largest draws to use. Default: a tenth of the draws.
      with_end: whether to draw the power law up to an end, too, as `truncated_pareto`
        fits it; k is then at least 10.
      label: name of the sample in the legend, to tell several apart.
      axes: matplotlib axes; by default those of a new figure.

    Returns:
      The axes. Save the figure with `axes.figure.savefig(path)`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if k is out of range, there are fewer than four draws, one of them is
        not finite, or one of the k + 1 largest is not positive.
      ImportError: if matplotlib is missing.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = hto.tails.pareto(1.5).sample(jax.random.key(0), (1000,))
      >>> axes = hto.tail_index.plot_pareto_qq(draws)
      >>> len(axes.lines[0].get_xdata())  # a tenth of the draws
      100
    """
    descending, k = _descending("plot_pareto_qq", samples, "k", k)
    if type(with_end) is not bool:
        raise type_error("plot_pareto_qq", "with_end", "True or False", with_end)
    if with_end:
        check_count("plot_pareto_qq", "k", k, FEWEST_OF_TRUNCATED)
    if descending[k] <= 0.0:
        accepted = f"of draws of which the k + 1 = {k + 1} largest are positive"
        raise value_error("plot_pareto_qq", "samples", accepted, samples)
    axes = plot_axes("plot_pareto_qq", axes, label)
    logs = np.log(descending[:k] / descending[k])
    quantiles = -np.log(np.arange(1, k + 1) / (k + 1))
    name = prefixed(label, f"the {k} largest draws")
    number = curves_on(axes)
    (points,) = axes.plot(quantiles, logs, ".", markersize=4, label=name)
    mark_curve(points, number)
    gamma = logs.mean()
    name = "all are equal: no index"
    if gamma > 0.0:
        name = f"power law of Hill's index {1.0 / gamma:.2f}"
    style = {
        "color": points.get_color(),
        "linewidth": 1,
        "linestyle": dashes(number),
        "label": prefixed(label, name),
    }
    axes.plot(quantiles, gamma * quantiles, **style)
    if with_end:
        fit = truncated_pareto(descending, k)
        alpha, end = float(fit.estimate), float(fit.end)
        beyond = (end / descending[k]) ** -alpha
        within = -np.log(beyond + (1.0 - beyond) * np.exp(-quantiles)) / alpha
        name = f"power law of index {alpha:.2f} up to {end:.4g}"
        style |= {"linestyle": ":", "label": prefixed(label, name)}
        axes.plot(quantiles, within, **style)
    axes.set_xlabel("quantile of an exponential law")
    axes.set_ylabel("log(draw / threshold)")
    legend_below(axes)
    return axes


def plot_mean_excess(
    samples: npt.ArrayLike,
    max_k: int | None = None,
    *,
    label: str | None = None,
    axes: "Axes | None" = None,
) -> "Axes":
    """Draws the mean excess over a threshold against the threshold.

    For a power law of index above 1 it rises in a straight line. For an exponential
    tail it is level, like the dashed line, and for a lighter tail it falls.

    Args:
      samples: floating array, treated as one sample.
      max_k: how many of the largest draws are used as thresholds, without the five
        largest. Default: a tenth of the draws.
      label: name of the sample in the legend, to tell several apart.
      axes: matplotlib axes; by default those of a new figure.

    Returns:
      The axes. Save the figure with `axes.figure.savefig(path)`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if `max_k` is out of range, there are fewer than four draws, or one of
        them is not finite.
      ImportError: if matplotlib is missing.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = hto.tails.pareto(1.5).sample(jax.random.key(0), (1000,))
      >>> axes = hto.tail_index.plot_mean_excess(draws)
      >>> len(axes.lines[0].get_xdata())  # a tenth of the draws, less the five largest
      95
    """
    descending, max_k = _descending("plot_mean_excess", samples, "max_k", max_k)
    axes = plot_axes("plot_mean_excess", axes, label)
    count = np.arange(1, max_k + 1)
    thresholds = descending[1 : max_k + 1]
    excess = np.cumsum(descending[:max_k]) / count - thresholds
    shown = slice(min(5, max_k - 1), None)
    name = "mean excess" if label is None else label
    number = curves_on(axes)
    (points,) = axes.plot(
        thresholds[shown], excess[shown], ".", markersize=4, label=name
    )
    mark_curve(points, number)
    axes.axhline(
        excess[-1],
        color=points.get_color(),
        linestyle=(5.0 * number, (5.0, 5.0)),
        linewidth=1,
        label=prefixed(label, "exponential: heavier rise above"),
    )
    axes.set_xlabel("threshold")
    axes.set_ylabel("mean excess over it")
    legend_below(axes)
    return axes


def plot_moment(
    samples: npt.ArrayLike,
    order: float = 2.0,
    *,
    label: str | None = None,
    axes: "Axes | None" = None,
) -> "Axes":
    """Draws the mean of `|X|^p` of the first n draws against n.

    If the moment exists, the curve settles. If it is infinite, the curve goes up by jumps,
    at whatever scale you look. Draws that are sorted show nothing.

    Args:
      samples: floating array of any sign, in an order that has nothing to do with their
        size.
      order: p, positive.
      label: name of the sample in the legend, to tell several apart.
      axes: matplotlib axes; by default those of a new figure.

    Returns:
      The axes. Save the figure with `axes.figure.savefig(path)`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if the order is out of range, there are fewer than four draws, or one of
        them is not finite.
      ImportError: if matplotlib is missing.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = hto.tails.pareto(1.5).sample(jax.random.key(0), (1000,))
      >>> hto.tail_index.plot_moment(draws).get_ylabel()
      'mean of |draw|^2'
    """
    draws = _finite_draws("plot_moment", samples)
    check_positive("plot_moment", "order", order)
    axes = plot_axes("plot_moment", axes, label)
    count = np.arange(1, draws.size + 1)
    means = np.cumsum(np.abs(draws) ** order) / count
    number = curves_on(axes)
    name = f"of the first n of {draws.size} draws"
    (line,) = axes.plot(count, means, label=prefixed(label, name))
    mark_curve(line, number)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("n, the number of draws")
    axes.set_ylabel(f"mean of |draw|^{order:g}")
    legend_below(axes)
    return axes
