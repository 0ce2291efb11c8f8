"""The picture of `heavytail exit-times`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heavytail_optax.dynamics import ExitRates
from heavytail_optax.laboratory.exit_points import ExitPoint

_COLOURS = ("#D55E00", "#0072B2", "#E69F00", "#009E73")


def draw_exit_times(
    rates: ExitRates, points: Sequence[ExitPoint], title: str
) -> Figure:
    """Mean exit time against eta, and its ratio to the theory."""
    figure = Figure(figsize=(10, 4.4), dpi=150, layout="constrained")
    time_axes, ratio_axes = figure.subplots(1, 2)
    every_rate = [point.learning_rate for point in points]
    grid = np.geomspace(min(every_rate), max(every_rate), 50)
    for place, field in enumerate(sorted({point.field for point in points})):
        colour = _COLOURS[field % len(_COLOURS)]
        own = [point for point in points if point.field == field]
        jumps = int(rates.jumps[field])
        label = f"field {field}, {jumps} jump{'s' * (jumps > 1)} to leave: theory"
        theory = [float(rates.mean_exit_times(eta)[field]) for eta in grid]
        time_axes.plot(grid, theory, color=colour, linewidth=1.2, label=label)
        for is_direct, marker in ((True, "o"), (False, "s")):
            chosen = [p for p in own if (p.exits is not None) == is_direct]
            name = f"field {field}, " + ("simulated" if is_direct else "estimator")
            if chosen:
                _draw(time_axes, chosen, colour, marker, name, relative=False)
                beside = [  # else the bars of two fields hide each other
                    p._replace(learning_rate=p.learning_rate * 1.12**place)
                    for p in chosen
                ]
                _draw(ratio_axes, beside, colour, marker, name, relative=True)
    ratio_axes.axhline(1.0, color="0.4", linewidth=1.0)
    time_axes.set_yscale("log")
    time_axes.set_title("Mean exit time (steps)", loc="left", fontsize=11)
    ratio_axes.set_title("Measured / theory, 95% intervals", loc="left", fontsize=11)
    for axes in (time_axes, ratio_axes):
        axes.set_xscale("log")
        axes.set_xlabel("learning rate eta")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    time_axes.legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw(
    axes: Axes,
    points: Sequence[ExitPoint],
    colour: str,
    marker: str,
    label: str,
    *,
    relative: bool,
) -> None:
    """Points with their intervals; an arrow up where the interval has no end."""
    values = [p.ratio if relative else (p.mean, p.lower, p.upper) for p in points]
    middle, low, high = np.asarray(values, float).T
    is_seen = np.isfinite(middle)
    etas = np.asarray([point.learning_rate for point in points])
    axes.errorbar(
        *(etas[is_seen], middle[is_seen]),
        yerr=np.stack([middle - low, high - middle])[:, is_seen],
        color=colour,
        marker=marker,
        markersize=5,
        fillstyle="full" if marker == "o" else "none",
        linestyle="none",
        elinewidth=1.3,
        label=label,
    )
    axes.plot(
        *(etas[~is_seen], low[~is_seen]), color=colour, marker="^", linestyle="none"
    )
