"""The work of `heavytail simulate`: the regimes, their table and their picture."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from rich.console import Console

from heavytail_optax import dynamics
from heavytail_optax.experiments.report.tables import format_number, format_percent
from heavytail_optax.laboratory import output
from heavytail_optax.laboratory.exit_times import default_rates
from heavytail_optax.laboratory.options import SimulateOptions
from heavytail_optax.laboratory.regimes import RegimeResult, narrow_fields, run_regimes


def work(command: SimulateOptions) -> None:
    """Runs all regimes, then shows them beside the theory."""
    console, noise, eta = Console(), command.noise, command.learning_rate
    rates = default_rates(noise)
    landscape, chain = rates.landscape, dynamics.markov_chain(rates)
    results = list(run_regimes(command, console.print))
    console.print()
    narrow = narrow_fields(landscape)
    headings = [
        f"{minimum:.2f}\n{'narrow' if narrow[field] else 'wide'}"
        for field, minimum in enumerate(landscape.minima)
    ]
    output.print_table(
        console,
        ["% of time\naround", *headings, "both\nnarrow", "moves in\n1e6 steps"],
        map(_row, results),
    )
    if not any(result.moves for result in results):
        console.print(
            f"No chain left its minimum while time was counted, in the last two thirds of "
            f"{results[0].steps:,} steps, so the table says nothing of the noise. Take more "
            "--steps, or a larger --learning-rate (eta)."
        )
    small = noise.noise_scale**noise.alpha * eta ** (noise.alpha - 1.0)
    console.print(f"\nh = H(1/eta)/eta = {small:.3g} for the heavy tails.")
    if chain.narrow:
        theory = chain.occupation(eta)
        first = sum(theory[chain.fields.index(field)] for field in chain.narrow)
        console.print(
            "Theory for heavy tails, truncated: both narrow "
            f"{format_percent(float(first))}% to first order, 0 as h -> 0."
        )
    title = f"eta = {eta:g}, {noise}; {command.chains} chains; narrow fields shaded"
    figure = draw_regimes(landscape, results, title)
    output.save_figure(console, command.directory, "simulate.png", figure)


def _row(result: RegimeResult) -> list[str]:
    share, error = result.narrow
    return [
        result.name,
        *(format_percent(share) for share in result.fields),
        # Chains that never move tell nothing about an error.
        format_percent(share, error if result.moves else math.nan),
        format_number(result.moves),
    ]


def draw_regimes(
    landscape: dynamics.Landscape, results: Sequence[RegimeResult], title: str
) -> Figure:
    """One row a regime: the path of one chain, and where all chains are."""
    figure = output.new_figure(10, 1.2 + 1.75 * len(results), title)
    shared = {"sharex": "col", "sharey": True, "squeeze": False}
    panels = figure.subplots(len(results), 2, width_ratios=(2.6, 1.0), **shared)
    for (path_axes, bar_axes), result in zip(panels, results, strict=True):
        steps = np.linspace(0.0, result.steps, len(result.path))
        for axes in (path_axes, bar_axes):
            _shade(axes, landscape)
        path_axes.plot(steps, result.path, ".", color=output.BLUE, markersize=2)
        share = result.snapshots / max(1, result.snapshots.sum())
        bar_axes.stairs(
            share, result.edges, orientation="horizontal", fill=True, color="#56B4E9"
        )
        bar_axes.set_xscale("log")
        bar_axes.set_xlim(1e-5, 1.0)
        narrow, error = (100 * value for value in result.narrow)
        error_text = f" ± {error:.1f}" if result.moves else ""
        output.finish(path_axes, result.name)
        output.finish(bar_axes, f"narrow: {narrow:.1f}{error_text}% of time")
        path_axes.set_ylabel("x")
        path_axes.set_yticks([-1.5, -0.7, 0.5, 1.3])
        path_axes.set_ylim(-1.68, 1.68)
        path_axes.set_xlim(0.0, result.steps)
        path_axes.xaxis.set_major_formatter(EngFormatter())
    panels[-1, 0].set_xlabel("steps of one chain that starts in the narrowest field")
    panels[-1, 1].set_xlabel("share of time of all chains (log scale)")
    return figure


def _shade(axes: Axes, landscape: dynamics.Landscape) -> None:
    low, high = landscape.projection or (-np.inf, np.inf)
    ends = np.clip(landscape.ends, low, high)
    for field in np.flatnonzero(narrow_fields(landscape)):
        axes.axhspan(
            ends[field], ends[field + 1], color=output.ORANGE, alpha=0.14, linewidth=0
        )
    for minimum in landscape.minima:
        axes.axhline(minimum, color="0.6", linewidth=0.6, linestyle=":")
