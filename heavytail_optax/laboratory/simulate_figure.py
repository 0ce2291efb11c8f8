"""The picture of `heavytail simulate`: a path and a histogram for each regime."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heavytail_optax.dynamics import Landscape
from heavytail_optax.laboratory.regimes import RegimeResult

_NARROW, _PATH, _BARS = "#D55E00", "#0072B2", "#56B4E9"


def draw_regimes(
    landscape: Landscape,
    narrow: np.ndarray,
    results: Sequence[RegimeResult],
    num_steps: int,
    title: str,
) -> Figure:
    """One row a regime: the path of one chain, and where all chains are."""
    figure = Figure(
        figsize=(10, 1.2 + 1.75 * len(results)), dpi=150, layout="constrained"
    )
    panels = figure.subplots(
        *(len(results), 2),
        squeeze=False,
        sharey=True,
        sharex="col",
        width_ratios=(2.6, 1.0),
    )
    for (path_axes, bar_axes), result in zip(panels, results, strict=True):
        steps = np.linspace(0.0, num_steps / 1e6, len(result.path))
        for axes in (path_axes, bar_axes):
            _shade(axes, landscape, narrow)
            axes.spines[["top", "right"]].set_visible(False)
        path_axes.plot(steps, result.path, ".", color=_PATH, markersize=2)
        _draw_histogram(bar_axes, result)
        path_axes.set_title(result.name, loc="left", fontsize=10)
        share, error = (100 * value for value in result.narrow)
        error_text = f" ± {error:.1f}" if result.moves else ""
        bar_axes.set_title(
            f"narrow: {share:.1f}{error_text}% of time", loc="left", fontsize=10
        )
        path_axes.set_ylabel("x")
        path_axes.set_yticks([-1.5, -0.7, 0.5, 1.3])
        path_axes.set_ylim(-1.68, 1.68)
        path_axes.set_xlim(0.0, num_steps / 1e6)
    panels[-1, 0].set_xlabel(
        "million steps of one chain that starts in the narrowest field"
    )
    panels[-1, 1].set_xlabel("share of time of all chains (log scale)")
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_histogram(axes: Axes, result: RegimeResult) -> None:
    share = result.snapshots / max(1, result.snapshots.sum())
    axes.stairs(
        *(share, result.edges), orientation="horizontal", fill=True, color=_BARS
    )
    axes.set_xscale("log")
    axes.set_xlim(1e-5, 1.0)


def _shade(axes: Axes, landscape: Landscape, narrow: np.ndarray) -> None:
    low, high = landscape.projection or (-np.inf, np.inf)
    ends = np.clip(landscape.ends, low, high)
    for field in np.flatnonzero(narrow):
        axes.axhspan(
            ends[field], ends[field + 1], color=_NARROW, alpha=0.14, linewidth=0
        )
    for minimum in landscape.minima:
        axes.axhline(minimum, color="0.6", linewidth=0.6, linestyle=":")
