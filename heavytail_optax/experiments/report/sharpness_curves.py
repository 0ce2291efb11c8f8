"""How the sharpness moved during training, beside the edge of stability at 2/eta."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from heavytail_optax._plot_axes import dashes

from ..methods import METHODS
from ..runs.result import RunResult
from ..training.following import Sharpness
from .style import few_points, legend_below, log_ticks, panel_grid, styled

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "critical_sharpness": "Critical sharpness along the gradient",
        "top_eigenvalue": "Largest eigenvalue of the Hessian",
        "expected_sharpness": "Expected sharpness",
    }
)
_CURVATURES = {"critical_sharpness", "top_eigenvalue"}
_PANEL = (4.8, 3.8)  # inches


def sharpness_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """A row a measurement, with the method, the seed and the learning rate."""
    rows = [
        {"method": result.method, "seed": result.seed, **row._asdict()}
        for result in results
        for row in result.followed
    ]
    return pd.DataFrame(rows, columns=["method", "seed", *Sharpness._fields])


def columns_of(table: pd.DataFrame) -> list[str]:
    """The measures that a table has any value of."""
    return [name for name in TITLES if table[name].notna().any()]


def draw_sharpness(axes: Axes, column: str, table: pd.DataFrame) -> list[Line2D]:
    """One line a method, the mean over its seeds with its standard error."""
    handles = []
    for number, (method, own) in enumerate(table.groupby("method", sort=False)):
        of_step = own.groupby("step")[column]
        mean, error = of_step.mean().dropna(), of_step.sem()
        style = {"color": METHODS[str(method)].colour, "linestyle": dashes(number)}
        style |= few_points(len(mean))
        handles += axes.plot(
            mean.index, mean, label=METHODS[str(method)].label, **style
        )
        error = error.reindex(mean.index).fillna(0.0)
        if (error > 0.0).any():
            axes.fill_between(
                mean.index,
                mean - error,
                mean + error,
                color=style["color"],
                alpha=0.2,
                linewidth=0,
            )
    if column in _CURVATURES:
        _draw_edge(axes, table)
    axes.set_yscale("log")
    log_ticks(axes.yaxis)
    axes.set_title(TITLES[column])
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    return handles


def _draw_edge(axes: Axes, table: pd.DataFrame) -> None:
    """The line 2/eta, which moves with the learning rate."""
    rate = table.groupby("step")["learning_rate"].first()
    # At the end of a schedule it is 0. A line to infinity would hide the others.
    edge = 2.0 / rate[rate > 0.01 * rate.max()]
    axes.plot(edge.index, edge, color="black", linewidth=1, linestyle=(0, (1, 1.5)))
    # Beside the axes, where no curve is.
    at = edge.index[-1], edge.iloc[-1]
    style = {"va": "center", "fontsize": 9, "annotation_clip": False}
    axes.annotate(r"$2/\eta$", at, (3, 0), textcoords="offset points", **style)


@styled
def draw_followed(results: Sequence[RunResult]) -> Figure | None:
    """A panel for each measure that was followed; None without any."""
    table = sharpness_table(results)
    columns = columns_of(table)
    if not columns:
        return None
    number = table["method"].nunique()
    figure, grid = panel_grid(
        len(columns), min(3, len(columns)), _PANEL, 0.3 + 0.25 * number / 2
    )
    handles = []
    for axes, column in zip(grid, columns, strict=True):
        handles = draw_sharpness(axes, column, table)
        axes.set_xlim(0, table["step"].max())
    legend_below(figure, handles, columns=2)
    seeds = table["seed"].nunique()
    over = f"mean of {seeds} seeds ± standard error" if seeds > 1 else "one seed"
    figure.suptitle(f"Sharpness during training: {over}")
    return figure
