"""The picture of a grid with one seed: training loss and test accuracy over the steps."""

import pathlib
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heavytail_optax.experiments.methods import METHOD_COLOURS, METHODS
from heavytail_optax.experiments.runs.result import RunResult
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.experiments.storage.durable_files import replacing
from heavytail_optax.experiments.training.evaluation import accuracy_error


def plot_training(
    path: pathlib.Path,
    results: Sequence[RunResult],
    settings: Settings,
    test_images: int,
) -> None:
    """Writes a PNG with one line a run, in one panel for each of two quantities."""
    figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for result in results:
        if not result.history:
            continue
        finite = result.finite_history
        steps = [metrics.step for metrics in finite]
        style = {"color": METHOD_COLOURS[result.method]}
        if result.status == "diverged":
            style |= {"marker": "X", "markevery": [-1] if steps else None}
        label = _label(result, test_images)
        losses = [metrics.train_loss for metrics in finite]
        accuracies = [100 * metrics.test_accuracy for metrics in finite]
        loss_axes.plot(steps, losses, label=label, **style)
        accuracy_axes.plot(steps, accuracies, **style)
    loss_axes.set_yscale("log")
    _keep_room_for_finished(loss_axes, results)
    loss_axes.set_title("Loss on all training images", loc="left")
    accuracy_axes.set_title(f"Accuracy on {test_images:,} test images (%)", loc="left")
    for axes in (loss_axes, accuracy_axes):
        axes.set_xlabel("step")
        axes.set_xlim(0, settings.training.steps)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if any(METHODS[result.method].is_noisy for result in results):
            _shade_cooldown(axes, settings)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(_title(settings), fontsize=11)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def _label(result: RunResult, test_images: int) -> str:
    if result.status == "diverged":
        return f"{result.label}: {result.how_it_ended}"
    last = result.history[-1]
    error = 100 * accuracy_error(last.test_accuracy, test_images)
    accuracy = f"{100 * last.test_accuracy:.1f} ± {error:.1f}%"
    return f"{result.label}: {accuracy} at step {last.step:,}"


def _keep_room_for_finished(axes: Axes, results: Sequence[RunResult]) -> None:
    """Lets a loss that goes to infinity leave the panel, so that the rest is readable."""
    losses = [
        metrics.train_loss
        for result in results
        if result.status != "diverged"
        for metrics in result.finite_history
    ]
    if losses and axes.get_ylim()[1] > 10 * max(losses):
        axes.set_ylim(top=10 * max(losses))


def _shade_cooldown(axes: Axes, settings: Settings) -> None:
    if 0 < settings.noisy_steps < settings.training.steps:
        axes.axvspan(
            settings.noisy_steps,
            settings.training.steps,
            color="0.5",
            alpha=0.12,
            linewidth=0,
        )
        middle = (settings.noisy_steps + settings.training.steps) / 2
        axes.text(
            middle,
            0.98,
            "noise off",
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="top",
            fontsize=8,
            color="0.35",
        )


def _title(settings: Settings) -> str:
    return (
        f"{settings.data.training_examples:,} training images ({settings.data.data}), "
        f"{settings.data.corrupted_examples:,} of them with random labels; "
        f"{settings.model.model}, seed {settings.seed}"
    )
