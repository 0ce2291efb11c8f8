"""What moved during training: loss, accuracy and sharpness over the steps, with train's table."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from rich.console import Group
from rich.text import Text

from heavytail_optax._plot_axes import dashes

from ..methods import METHODS
from ..runs.result import RunResult
from ..settings import Settings
from ..training.following import Sharpness
from .style import few_points, legend_below, log_ticks, panel_grid, styled
from .summary import cannot_show, runs_table
from .tables import (
    Column,
    accuracy_error,
    format_number,
    format_percent,
    text_column,
    text_tables,
)

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


_PANEL = (5.0, 4.2)  # inches
_NOTE = (
    "In brackets: the name in the paper's tables. Loss and accuracy on the training "
    "images, random labels included; accuracy on {:,} test images with its standard "
    "error; share of all updates that were truncated, and the last bound of their norm; images that a step processes; "
    "seconds without compilation."
)


def training_table(
    results: Sequence[RunResult],
    settings: Settings,
    test_images: int,
    width: int = 100,
) -> Group:
    """One row a run."""
    runs = runs_table(results)
    shown = ["train_accuracy", "test_accuracy", "train_loss"]
    runs[shown] = runs[shown].mask(runs["status"] == "diverged")
    runs["error"] = accuracy_error(runs["test_accuracy"], test_images)
    is_alone = runs["seed"].nunique() == 1
    names = [
        (result.label if is_alone else f"{result.label}, seed {result.seed}")
        + (f"\n{result.how_it_ended}" if result.status != "finished" else "")
        for result in results
    ]
    columns = [
        Column("Method", names),
        text_column("Train\n%", runs, format_percent, "train_accuracy"),
        text_column("Test\n%", runs, format_percent, "test_accuracy", "error"),
        text_column("Loss", runs, "{:.4f}".format, "train_loss"),
        text_column("Cut\n%", runs, format_percent, "truncated"),
        text_column("Bound", runs, format_number, "max_norm"),
        text_column("Images\na step", runs, "{:,.0f}".format, "examples_per_step"),
        text_column("Seconds", runs, "{:.1f}".format, "seconds"),
    ]
    lines = [Text(line) for line in (*cannot_show(runs), *_never_cut(runs, settings))]
    note = Text(_NOTE.format(test_images), style="dim")
    return Group(*text_tables(columns, [], [], width), *lines, note)


def _never_cut(runs: pd.DataFrame, settings: Settings) -> list[str]:
    """Why nothing was truncated, where a share of the updates was to be."""
    share = settings.method.truncated_share
    truncates = runs["method"].map(lambda name: METHODS[name].truncates)
    never = runs[truncates & (runs["truncated"] == 0)]
    if share is None or never.empty:
        return []
    line = (
        f"No update was truncated ({', '.join(never['method'].unique())}), though "
        f"--truncated-share is {share:g}: the bound sets itself in the first tenth of the "
        "steps, at least 100. Use more --steps."
    )
    return [line]


@styled
def draw_training(
    results: Sequence[RunResult], settings: Settings, test_images: int
) -> Figure:
    """One line a run, in a panel for each quantity; the sharpness where it was followed."""
    followed = sharpness_table(results)
    measures = columns_of(followed)
    across = 2 if len(measures) in (0, 2) else 3
    figure, panels = panel_grid(2 + len(measures), across, _PANEL, 0.0)
    loss_axes, accuracy_axes, *sharpness_axes = panels
    handles = []
    with_history = [result for result in results if result.history]
    for number, result in enumerate(with_history):
        finite = result.finite_history
        steps = [metrics.step for metrics in finite]
        losses = [metrics.train_loss for metrics in finite]
        accuracies = [100 * metrics.test_accuracy for metrics in finite]
        colour = METHODS[result.method].colour
        style = {"color": colour, "linestyle": dashes(number)}
        style |= few_points(len(steps))
        if result.status == "diverged":
            style |= {"marker": "X", "markevery": [-1] if steps else None}
        label = _label(result, test_images)
        handles += loss_axes.plot(steps, losses, label=label, **style)
        accuracy_axes.plot(steps, accuracies, **style)
    loss_axes.set_yscale("log")
    _keep_room_for_finished(loss_axes, results)
    log_ticks(loss_axes.yaxis)
    loss_axes.set_title("Loss on all training images (logarithmic)")
    accuracy_axes.set_title(f"Accuracy on {test_images:,} test images (%)")
    for axes, column in zip(sharpness_axes, measures, strict=True):
        draw_sharpness(axes, column, followed)
    for axes in panels:
        axes.set_xlabel("step")
        axes.set_xlim(0, settings.training.steps)
        axes.xaxis.set_major_locator(
            MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True)
        )
        if any(METHODS[result.method].is_noisy for result in results):
            _shade_cooldown(axes, settings)
    legend_below(figure, handles, columns=2)
    data = settings.data
    figure.suptitle(
        f"{data.training_examples:,} training images ({data.data}), "
        f"{data.corrupted_examples:,} of them with random labels; "
        f"{settings.model.model}, seed {settings.seed}"
    )
    return figure


def _label(result: RunResult, test_images: int) -> str:
    if result.status == "diverged":
        return f"{result.label}: {result.how_it_ended}"
    last = result.history[-1]
    error = accuracy_error(last.test_accuracy, test_images)
    accuracy = format_percent(last.test_accuracy, error)
    return f"{result.label}: {accuracy}% at step {last.step:,}"


def _keep_room_for_finished(axes: Axes, results: Sequence[RunResult]) -> None:
    """Lets a loss that goes to infinity leave the panel."""
    losses = [
        metrics.train_loss
        for result in results
        if result.status != "diverged"
        for metrics in result.finite_history
    ]
    if losses and axes.get_ylim()[1] > 10 * max(losses):
        axes.set_ylim(top=10 * max(losses))


def _shade_cooldown(axes: Axes, settings: Settings) -> None:
    end = settings.training.steps
    start = settings.method.noisy_steps(end)
    if 0 < start < end:
        axes.axvspan(start, end, color="0.5", alpha=0.12, linewidth=0)
        # Above the axes, where no curve is.
        style = {"ha": "right", "va": "bottom", "fontsize": 8, "color": "0.35"}
        axes.text(1.0, 1.01, "shaded: noise off", transform=axes.transAxes, **style)
