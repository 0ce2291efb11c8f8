"""The pictures of the benchmarks page, from the tables that are there.

    python benchmarks/laboratory_figures.py

reads `rare_events.csv` and `narrow_minima.csv` under `benchmarks/results` and writes
`rare_events.png` and `narrow_minima.png` under `docs/images`.
"""

import csv
import math
import pathlib

from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = pathlib.Path(__file__).parents[1]
RESULTS, IMAGES = ROOT / "benchmarks" / "results", ROOT / "docs" / "images"
COLOURS = ("#56B4E9", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7")


def rows_of(name: str) -> list[dict[str, str]]:
    with open(RESULTS / name, newline="") as file:
        return list(csv.DictReader(file))


def numbers(rows: list[dict[str, str]], column: str) -> list[float]:
    return [float(row[column] or "nan") for row in rows]


def finish(axes: Axes, title: str, xlabel: str) -> None:
    axes.set_xscale("log")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(xlabel)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def draw_rare_events(rows: list[dict[str, str]]) -> Figure:
    """Estimate over theory, and the processor time for 1 %, against eta."""
    figure = Figure(figsize=(10, 4.6), dpi=110, layout="constrained")
    ratio_axes, cost_axes = figure.subplots(1, 2)
    wells = [row for row in rows if row["landscape"].startswith("quadratic")]
    keys = dict.fromkeys((row["jumps"], row["alpha"], row["scale"]) for row in wells)
    families = [
        [row for row in wells if (row["jumps"], row["alpha"], row["scale"]) == key]
        for key in keys
    ]
    families = [family for family in families if len(family) > 1]
    for family, colour in zip(families, COLOURS, strict=True):
        first, eta = family[0], numbers(family, "eta")
        label = (
            f"{first['jumps']} jump{'s' * (first['jumps'] != '1')}, "
            f"alpha {first['alpha']}, c {first['scale']}"
        )
        errors = [2.0 * error for error in numbers(family, "to_theory_error")]
        ratio_axes.errorbar(
            eta,
            numbers(family, "to_theory"),
            errors,
            marker="o",
            markersize=4,
            linewidth=1.2,
            color=colour,
            label=label,
        )
        style = {"color": colour, "linewidth": 1.2, "markersize": 4}
        cost_axes.plot(
            eta, numbers(family, "cpu_s_for_1_percent"), "o-", label=label, **style
        )
        cost_axes.plot(eta, numbers(family, "direct_cpu_s"), ":", **style)
    ratio_axes.axhline(1.0, color="0.4", linewidth=1.0)
    ratio_axes.legend(frameon=False, fontsize=9)
    cost_axes.set_yscale("log")
    cost_axes.text(
        0.4,
        0.94,
        "dotted: direct simulation, extrapolated",
        transform=cost_axes.transAxes,
        fontsize=9,
    )
    title = "Estimated / limiting mean exit time, ± 2 s.e."
    finish(ratio_axes, title, "learning rate eta")
    finish(cost_axes, "Processor seconds for 1 %", "learning rate eta")
    return figure


def draw_narrow_minima(rows: list[dict[str, str]]) -> Figure:
    """Share of time in the narrow fields against h."""
    figure = Figure(figsize=(6.4, 4.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    noisy = [row for row in rows if row["h"]]
    for is_truncated, name, colour in (
        (True, "truncated", "#D55E00"),
        (False, "not truncated", "#0072B2"),
    ):
        own = [
            r for r in noisy if math.isfinite(float(r["truncated_at"])) == is_truncated
        ]
        h, share = numbers(own, "h"), numbers(own, "narrow_share")
        errors = [2.0 * error for error in numbers(own, "standard_error")]
        axes.errorbar(h, share, errors, fmt="o", markersize=5, color=colour, label=name)
        theory = numbers(own, "theory")
        axes.plot(h, theory, "-", color=colour, linewidth=1.2, label="theory, h to 0")
        if is_truncated:
            estimates = numbers(own, "estimator")
            axes.plot(h, estimates, "x", color="0.2", label="estimator at this h")
    still = next(row for row in rows if not row["h"])
    axes.axhline(
        float(still["narrow_share"]), color="0.5", linestyle="--", linewidth=1.2
    )
    axes.text(min(numbers(noisy, "h")), 0.54, "gradient descent", fontsize=9)
    axes.set_yscale("log")
    axes.set_ylim(2e-3, 1.0)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    finish(axes, "Share of time in the narrow fields, ± 2 s.e.", "h = H(1/eta)/eta")
    return figure


def main() -> None:
    for name, draw in (
        ("rare_events", draw_rare_events),
        ("narrow_minima", draw_narrow_minima),
    ):
        path = IMAGES / f"{name}.png"
        draw(rows_of(f"{name}.csv")).savefig(path)
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
