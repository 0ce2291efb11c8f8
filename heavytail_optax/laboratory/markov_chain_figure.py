"""The picture of `heavytail markov-chain`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from heavytail_optax.dynamics import Landscape
from heavytail_optax.experiments.report.number_format import format_number
from heavytail_optax.laboratory.jump_chain import JumpRate, JumpShare, last_visits

_MEASURED, _LIMIT, _FINITE = "#0072B2", "#D55E00", "#009E73"


def draw_chain(
    landscape: Landscape,
    wide: Sequence[int],
    path: np.ndarray,
    duration: float,
    rates: Sequence[JumpRate],
    shares: Sequence[JumpShare],
    title: str,
) -> Figure:
    """A path with the wide minimum it belongs to, the rates, and where jumps go."""
    figure = Figure(figsize=(10, 6.2), dpi=150, layout="constrained")
    panels = figure.subplot_mosaic(
        [["path", "path"], ["rates", "shares"]], width_ratios=(1.0, 1.4)
    )
    _draw_path(panels["path"], landscape, wide, path, duration)
    _draw_rates(panels["rates"], rates)
    _draw_shares(panels["shares"], shares)
    for axes in panels.values():
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_path(
    axes: Axes,
    landscape: Landscape,
    wide: Sequence[int],
    path: np.ndarray,
    duration: float,
) -> None:
    time = np.linspace(0.0, duration, len(path))
    minima = np.asarray(landscape.minima)
    axes.plot(time, path, ".", markersize=2, color="0.55", label="SGD")
    visits = last_visits(landscape, tuple(wide), path[:, None])[:, 0]
    labels = minima[list(wide)][visits]
    axes.step(
        *(time, labels),
        where="post",
        color=_MEASURED,
        linewidth=1.6,
        label="last wide minimum visited",
    )
    axes.set_yticks([-1.5, -0.7, 0.5, 1.3])
    axes.set_ylim(-1.68, 1.68)
    axes.set_xlim(0.0, duration)
    axes.set_ylabel("x")
    axes.set_xlabel("time of the limit chain: steps times lambda(eta)")
    axes.set_title("The chain that jumps most often", loc="left", fontsize=10)
    axes.legend(loc="center right", frameon=True, fontsize=9)


def _draw_rates(axes: Axes, rates: Sequence[JumpRate]) -> None:
    places = np.arange(len(rates))
    measured = np.asarray([jump.rate for jump in rates])
    axes.errorbar(
        *(places - 0.15, measured[:, 0]),
        yerr=[measured[:, 0] - measured[:, 1], measured[:, 2] - measured[:, 0]],
        color=_MEASURED,
        marker="o",
        linestyle="none",
        label="simulated, 95%",
    )
    for offset, values, colour, marker, name in (
        (0.0, [jump.finite for jump in rates], _FINITE, "s", "estimator, this eta"),
        (0.15, [jump.limit for jump in rates], _LIMIT, "D", "theory, eta to 0"),
    ):
        axes.plot(
            *(places + offset, values, marker),
            color=colour,
            fillstyle="none",
            label=name,
        )
    axes.set_xticks(places, [f"{jump.origin} to {jump.target}" for jump in rates])
    axes.set_xlim(-0.5, len(rates) - 0.5)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: format_number(y, 2)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title("Rates between wide minima", loc="left", fontsize=10)
    axes.grid(axis="y", alpha=0.25, linewidth=0.6)
    axes.legend(frameon=False, fontsize=9)


def _draw_shares(axes: Axes, shares: Sequence[JumpShare]) -> None:
    pairs = [
        (share, target)
        for share in shares
        for target in np.flatnonzero((share.limit > 0.0) | (share.counts > 0))
    ]
    places = np.arange(len(pairs))
    totals = np.asarray([max(1, share.counts.sum()) for share, _ in pairs])
    measured = np.asarray([share.counts[target] for share, target in pairs]) / totals
    error = 1.96 * np.sqrt(measured * (1.0 - measured) / totals)
    axes.bar(
        places - 0.2, measured, 0.4, yerr=error, color=_MEASURED, label="simulated"
    )
    limit = [share.limit[target] for share, target in pairs]
    axes.bar(places + 0.2, limit, 0.4, color=_LIMIT, label="theory, eta to 0")
    names = [f"{share.origin} to {target}" for share, target in pairs]
    axes.set_xticks(places, names, fontsize=9)
    axes.set_ylim(0.0, 1.25)
    axes.set_title("Where the jumps from each field go", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper right")
