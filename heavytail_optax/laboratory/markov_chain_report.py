"""The work of `heavytail markov-chain`: the jumps, their tables and their picture."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from rich.console import Console

from heavytail_optax import dynamics
from heavytail_optax.experiments.report.style import log_ticks
from heavytail_optax.experiments.report.tables import format_number
from heavytail_optax.laboratory import jump_chain, output
from heavytail_optax.laboratory.exit_times import default_rates
from heavytail_optax.laboratory.jump_chain import JumpRate, JumpShare, last_visits
from heavytail_optax.laboratory.options import MarkovChainOptions

SNAPSHOTS = 1000
_BURN_IN = 100_000


def work(command: MarkovChainOptions) -> None:
    """Counts the jumps of many chains, then shows them beside the theory."""
    console, noise, eta = Console(), command.noise, command.learning_rate
    rates = default_rates(noise)
    landscape, limit = rates.landscape, dynamics.markov_chain(rates)
    if len(limit.wide) < 2:
        raise ValueError(
            f"At b = {noise.max_norm:g} there are fewer than two wide minima to jump "
            "between: take b between 0.4497 and 0.6007."
        )
    # The limit's have those of the rates among them.
    notes = dict.fromkeys((*limit.notes, *rates.conditions(eta)))
    for note in notes:
        console.print(note, highlight=False)
    if notes:
        console.print("So look at the estimator at this eta, not at the limit.")
    console.print(f"Estimating the rates at eta = {eta:g}")
    with output.warnings_printed(console):
        estimated = jump_chain.finite_rates(
            rates, eta, seed=noise.seed, num_samples=command.samples
        )
    finite = dynamics.markov_chain(estimated)
    # Starts from the stationary law of the limit; the narrow fields fill in the burn-in.
    quantiles = (np.arange(command.chains) + 0.5) / command.chains
    own = np.searchsorted(np.cumsum(limit.stationary), quantiles)
    start = np.asarray(landscape.minima)[np.asarray(limit.wide)[own]]
    steps = 1000 * -(-command.steps // 1000)
    simulations = []
    for name, landmarks in (("wide", limit.wide), ("all", limit.fields)):
        about = f"{command.chains} chains, counting jumps of {name} minima"
        console.print(f"Running {about}")
        found = dynamics.simulate(
            landscape,
            dynamics.sgd_process(eta, noise.max_norm, rates.tail, noise.noise_scale),
            key=noise.seed + len(simulations),
            start=start,
            num_steps=steps,
            num_chains=command.chains,
            burn_in=_BURN_IN,
            landmarks=landmarks,
            snapshot_every=max(100, steps // SNAPSHOTS),
            num_paths=command.chains,
        )
        simulations.append(found)
    jumps = jump_chain.jump_rates(simulations[0], limit, finite, eta)
    shares = jump_chain.jump_shares(simulations[1], limit, finite)
    _report(console, jumps, shares)
    paths = simulations[0].paths
    labels = last_visits(landscape, limit.wide, paths)
    most = int(np.argmax(np.sum(labels[1:] != labels[:-1], axis=0)))
    visits = np.asarray(landscape.minima)[list(limit.wide)][labels[:, most]]
    title = f"eta = {eta:g}, {noise}; {command.chains} chains of {steps:,} steps"
    figure = output.new_figure(10, 6.2, title)
    panels = figure.subplot_mosaic(
        [["path", "path"], ["rates", "shares"]], width_ratios=(1.0, 1.4)
    )
    duration = (steps + _BURN_IN) * limit.time_scale(eta)
    _draw_path(panels["path"], paths[:, most], visits, duration)
    _draw_rates(panels["rates"], jumps)
    _draw_shares(panels["shares"], shares)
    output.save_figure(console, command.directory, "markov_chain.png", figure)


def _report(
    console: Console, jumps: Sequence[JumpRate], shares: Sequence[JumpShare]
) -> None:
    rows = [
        [
            f"{jump.origin} to {jump.target}",
            f"{jump.count}",
            "{} [{}, {}]".format(*map(format_number, jump.rate)),
            format_number(jump.finite),
            format_number(jump.limit),
        ]
        for jump in jumps
    ]
    theory = ["estimator,\nthis eta", "theory,\neta -> 0"]
    headings = ["between wide\nminima", "jumps", "rate, 95% interval", *theory]
    console.print()
    output.print_table(console, headings, rows)
    if not any(jump.count for jump in jumps):
        console.print(
            "No chain jumped between wide minima, so nothing was measured. Take more "
            "--steps or --chains, or a larger --learning-rate (eta).\n"
        )
    else:
        console.print(_p_values(jump_chain.poisson_p_value, jumps))
    rows = [
        [
            f"{share.origin} to {target}",
            f"{share.counts[target]}",
            f"{share.counts[target] / seen:.3f}"
            if (seen := share.counts.sum())
            else "-",
            f"{share.finite[target]:.3f}",
            f"{share.limit[target]:.3f}",
        ]
        for share, target in _pairs(shares)
    ]
    headings = ["between all\nminima", "jumps", "share from\nthat field", *theory]
    output.print_table(console, headings, rows)
    if math.isnan(jump_chain.share_p_value(shares, at_finite_rate=True)):
        console.print("No field that can be left to two others was left: no test.\n")
    else:
        console.print(_p_values(jump_chain.share_p_value, shares))


def _p_values(p_value: Callable[..., float], found: Sequence[Any]) -> str:
    return (
        f"Chi-square: p = {p_value(found, at_finite_rate=True):.3f} against the "
        f"estimator at this eta, {p_value(found, at_finite_rate=False):.3f} against the "
        "limit.\n"
    )


def _pairs(shares: Sequence[JumpShare]) -> list[tuple[JumpShare, int]]:
    """Each field with each target that is possible, or was seen."""
    return [
        (share, int(target))
        for share in shares
        for target in np.flatnonzero((share.limit > 0.0) | (share.counts > 0))
    ]


def _draw_path(
    axes: Axes, path: np.ndarray, visits: np.ndarray, duration: float
) -> None:
    time = np.linspace(0.0, duration, len(path))
    axes.plot(time, path, ".", markersize=2, color="0.55", label="SGD")
    label = "last wide minimum visited"
    axes.step(time, visits, where="post", color=output.BLUE, linewidth=1.6, label=label)
    axes.set_yticks([-1.5, -0.7, 0.5, 1.3])
    axes.set_ylim(-1.68, 1.68)
    axes.set_xlim(0.0, duration)
    axes.set_ylabel("x")
    axes.set_xlabel("time of the limit chain: steps times lambda(eta)")
    # Above the axes, where no point is.
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize=9)
    jumps = np.any(visits[1:] != visits[:-1])
    output.finish(axes, "The chain that jumps most often" if jumps else "One chain")


def _draw_rates(axes: Axes, rates: Sequence[JumpRate]) -> None:
    places = np.arange(len(rates))
    measured, low, high = np.asarray([jump.rate for jump in rates]).T
    axes.errorbar(
        places - 0.15,
        measured,
        yerr=[measured - low, high - measured],
        color=output.BLUE,
        marker="o",
        linestyle="none",
        label="simulated, 95%",
    )
    for offset, field, colour, marker, label in (
        (0.0, "finite", output.GREEN, "s", "estimator, this eta"),
        (0.15, "limit", output.ORANGE, "D", "theory, eta to 0"),
    ):
        values = [getattr(jump, field) for jump in rates]
        style = {"color": colour, "fillstyle": "none", "label": label}
        axes.plot(places + offset, values, marker, **style)
    axes.set_xticks(places, [f"{jump.origin} to {jump.target}" for jump in rates])
    axes.set_xlim(-0.5, len(rates) - 0.5)
    axes.set(yscale="log", ylabel="jumps per unit of the limit chain's time")
    # Without a jump the interval begins at zero.
    shown = np.asarray([measured, low, high, *np.transpose([j[-2:] for j in rates])])
    axes.set_ylim(0.5 * shown[shown > 0.0].min(), 2.0 * shown.max())
    log_ticks(axes.yaxis)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.08)}
    axes.legend(frameon=False, fontsize=9, ncols=2, **place)
    output.finish(axes, "Rates between wide minima", grid="y")


def _draw_shares(axes: Axes, shares: Sequence[JumpShare]) -> None:
    pairs = _pairs(shares)
    places = np.arange(len(pairs))
    totals = np.asarray([max(1, share.counts.sum()) for share, _ in pairs])
    measured = np.asarray([share.counts[target] for share, target in pairs]) / totals
    error = 1.96 * np.sqrt(measured * (1.0 - measured) / totals)
    axes.bar(
        places - 0.2, measured, 0.4, yerr=error, color=output.BLUE, label="simulated"
    )
    limit = [share.limit[target] for share, target in pairs]
    axes.bar(places + 0.2, limit, 0.4, color=output.ORANGE, label="theory, eta to 0")
    names = [f"{share.origin} to {target}" for share, target in pairs]
    axes.set_xticks(places, names, fontsize=9)
    axes.set(ylim=(0.0, 1.25), ylabel="share of the jumps from the field")
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper right")
    none = " (none was seen)" * (not measured.any())
    output.finish(axes, f"Where the jumps from each field go{none}")
