"""The work of `heavytail exit-times`: the measurements, their table and their picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from heavytail_optax._plot_axes import dashes
from heavytail_optax.dynamics import ExitRates
from heavytail_optax.experiments.report.style import log_ticks
from heavytail_optax.experiments.report.tables import format_number
from heavytail_optax.laboratory import exit_times, output
from heavytail_optax.laboratory.exit_times import ExitTime
from heavytail_optax.laboratory.options import ExitTimesOptions

_COLOURS = (output.ORANGE, output.BLUE, output.YELLOW, output.GREEN)


def work(command: ExitTimesOptions) -> None:
    """Measures all mean exit times, then shows them beside the theory."""
    console, noise = Console(), command.noise
    rates, seed = exit_times.default_rates(noise), noise.seed
    for note in rates.notes:
        console.print(note)
    times = []
    for field in command.fields:
        for eta in command.learning_rates:
            console.print(f"Simulating field {field} at eta = {eta:g}")
            found = exit_times.simulated(rates, field, eta, seed, command.exits)
            times.append(found)
        for eta in command.rare_learning_rates:
            console.print(f"Estimating field {field} at eta = {eta:g}")
            with output.warnings_printed(console):
                found = exit_times.estimated(rates, field, eta, seed, command.samples)
            times.append(found)
    _report(console, rates, times)
    title = (
        f"{noise}; {command.exits} exits simulated, {command.samples:,} paths estimated"
    )
    figure = draw_exit_times(rates, times, title)
    output.save_figure(console, command.directory, "exit_times.png", figure)


def _report(console: Console, rates: ExitRates, times: Sequence[ExitTime]) -> None:
    headings = ["field", "eta", "by", "mean\nsteps", "theory"]
    headings += ["ratio,\n95% interval", "epsilon", "p-value"]
    console.print()
    output.print_table(console, headings, map(_row, times))
    console.print(
        "\nThe ratio is measured / theory. epsilon: about 0.04 or less is near the limit.\n"
        "p-value: of exponential times, by Kolmogorov-Smirnov with the mean estimated."
    )
    for field in sorted({time.field for time in times}):
        own = [time for time in times if time.field == field]
        censored = sum(time.censored for time in own)
        if censored:
            console.print(
                f"Field {field}: {censored} chains had not left by the limit."
            )
        alpha = float(rates.tail.tail_index)
        theory = -alpha - (rates.jumps[field] - 1) * (alpha - 1.0)
        for name, chosen in (
            ("simulated", [time for time in own if time.exits]),
            ("estimated", [time for time in own if time.exits is None]),
        ):
            if len({time.learning_rate for time in chosen}) > 1:
                slope, error = exit_times.measured_slope(chosen)
                console.print(
                    f"Field {field}: slope on log scales, {name}: "
                    f"{slope:.3f} ± {format_number(error, 2)}; theory {theory:.3f}."
                )


def _row(time: ExitTime) -> list[str]:
    ratio, low, high = time.ratio
    return [
        f"{time.field}",
        f"{time.learning_rate:.3g}",
        "paths" if time.exits is None else f"{time.exits} exits",
        format_number(time.mean),
        format_number(time.theory),
        f"{ratio:.2f} [{low:.2f}, {high:.2f}]",
        format_number(time.epsilon, 2),
        "" if time.p_value is None else f"{time.p_value:.3f}",
    ]


def draw_exit_times(rates: ExitRates, times: Sequence[ExitTime], title: str) -> Figure:
    """Mean exit time against eta, and its ratio to the theory."""
    figure = output.new_figure(10, 4.4, title)
    time_axes, ratio_axes = figure.subplots(1, 2)
    every_rate = [time.learning_rate for time in times]
    grid = np.geomspace(min(every_rate), max(every_rate), 50)
    for place, field in enumerate(sorted({time.field for time in times})):
        colour = _COLOURS[field]
        own = [time for time in times if time.field == field]
        jumps = int(rates.jumps[field])
        label = f"field {field}, {jumps} jump{'s' * (jumps > 1)} to leave: theory"
        theory = [float(rates.mean_exit_times(eta)[field]) for eta in grid]
        style = {"color": colour, "linewidth": 1.2, "linestyle": dashes(place)}
        time_axes.plot(grid, theory, label=label, **style)
        for name, marker in (("simulated", "o"), ("estimator", "s")):
            chosen = [t for t in own if (t.exits is None) == (name == "estimator")]
            if chosen:
                label = f"field {field}, {name}"
                style = {"color": colour, "marker": marker, "label": label}
                etas = np.asarray([time.learning_rate for time in chosen])
                means = [(time.mean, time.lower, time.upper) for time in chosen]
                _draw(time_axes, etas, means, style)
                # Side by side, or the bars of two fields hide each other.
                ratios = [time.ratio for time in chosen]
                _draw(ratio_axes, etas * 1.12**place, ratios, style)
    ratio_axes.axhline(1.0, color="0.4", linewidth=1.0)
    time_axes.set_yscale("log")
    output.finish(time_axes, "Mean exit time (steps)", 11, "both")
    output.finish(
        ratio_axes, "Measured / theory, 95% intervals, fields side by side", 11, "both"
    )
    for axes in (time_axes, ratio_axes):
        axes.set_xscale("log")
        axes.set_xlabel("learning rate eta")
        log_ticks(axes.xaxis)
    log_ticks(time_axes.yaxis)
    handles, labels = time_axes.get_legend_handles_labels()
    style = {"frameon": False, "fontsize": 9, "ncols": 3}
    figure.legend(handles, labels, loc="outside lower center", **style)
    return figure


def _draw(
    axes: Axes,
    etas: np.ndarray,
    values: Sequence[tuple[float, float, float]],
    style: dict[str, str],
) -> None:
    """Points with their intervals; an arrow up where the interval has no end."""
    middle, low, high = np.asarray(values, float).T
    is_seen = np.isfinite(middle)
    axes.errorbar(
        etas[is_seen],
        middle[is_seen],
        yerr=np.stack([middle - low, high - middle])[:, is_seen],
        markersize=5,
        fillstyle="full" if style["marker"] == "o" else "none",
        linestyle="none",
        elinewidth=1.3,
        **style,
    )
    colour = style["color"]
    axes.plot(etas[~is_seen], low[~is_seen], color=colour, marker="^", linestyle="none")
