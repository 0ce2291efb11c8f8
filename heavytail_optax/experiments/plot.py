"""The picture of a job: training loss and test accuracy over the steps."""

import pathlib
from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heavytail_optax.experiments.evaluation import accuracy_error
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.experiments.training import Metrics

# Okabe and Ito's colours, which remain distinct for colour-blind readers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def plot_training(
    path: pathlib.Path,
    histories: Mapping[str, Sequence[Metrics]],
    settings: Settings,
    test_images: int,
) -> None:
    """Writes a PNG with one line a method, in one panel for each of two quantities.

    Args:
      path: of the picture.
      histories: the metrics of each method, in the order of the legend.
      settings: of the job, for the title and the steps without noise.
      test_images: how many there are, for the standard error of the accuracy.
    """
    figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for colour, (method, history) in zip(cycle(_COLOURS), histories.items()):
        if not history:
            continue
        steps = [metrics.step for metrics in history]
        losses = [metrics.train_loss for metrics in history]
        accuracies = [100 * metrics.test_accuracy for metrics in history]
        error = 100 * accuracy_error(history[-1].test_accuracy, test_images)
        label = f"{method}: {accuracies[-1]:.1f} ± {error:.1f}% at step {steps[-1]:,}"
        loss_axes.plot(steps, losses, color=colour, label=label)
        accuracy_axes.plot(steps, accuracies, color=colour)
    loss_axes.set_yscale("log")
    loss_axes.set_title("Loss on all training images", loc="left")
    accuracy_axes.set_title(f"Accuracy on {test_images:,} test images (%)", loc="left")
    for axes in (loss_axes, accuracy_axes):
        axes.set_xlabel("step")
        axes.set_xlim(0, settings.steps)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if "truncated-heavy-tailed-sgd" in histories:
            _shade_cooldown(axes, settings)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(_title(settings), fontsize=11)
    figure.savefig(path)


def _shade_cooldown(axes: Axes, settings: Settings) -> None:
    if 0 < settings.noisy_steps < settings.steps:
        axes.axvspan(
            settings.noisy_steps, settings.steps, color="0.5", alpha=0.12, linewidth=0
        )
        middle = (settings.noisy_steps + settings.steps) / 2
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
        f"{settings.training_examples:,} training images ({settings.data}), "
        f"{settings.corrupted_examples:,} of them with random labels; "
        f"{settings.model}, seed {settings.seed}"
    )
