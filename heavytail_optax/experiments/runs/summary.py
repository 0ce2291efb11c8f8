"""The closing table of a job."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from heavytail_optax.experiments.runs.results import MethodResult
from heavytail_optax.experiments.settings import Settings, replaced
from heavytail_optax.experiments.training.batches import examples_per_step
from heavytail_optax.experiments.training.evaluation import accuracy_error
from heavytail_optax.experiments.training.trainer import Metrics

_COLUMNS = ("Train\n%", "Test\n%", "Loss", "Cut\n%", "Images\na step", "Seconds")


def summary_table(
    results: Sequence[MethodResult], settings: Settings, test_images: int
) -> Table:
    """One row a method.

    Args:
      results: of all methods.
      settings: of the job.
      test_images: how many there are, for the standard error of the test accuracy.

    Returns:
      A table for `rich.console.Console.print`.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="In brackets: the name in the paper's tables. Loss and accuracy on the "
        "training images, random labels included; accuracy on "
        f"{test_images:,} test images with its standard error; share of all updates "
        "that were truncated; images that a step processes; seconds without compilation.",
        caption_justify="left",
    )
    table.add_column("Method", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        cost = examples_per_step(replaced(settings, method=result.method))
        table.add_row(*_row(result, test_images, cost))
    return table


def truncated_share(history: Sequence[Metrics]) -> float:
    """Share of all steps that were truncated.

    Args:
      history: of one method, from the first step on.

    Example:
      >>> from heavytail_optax.experiments.training.trainer import Metrics
      >>> blank = Metrics(*[0] * 10)
      >>> rows = [blank._replace(step=10, truncated=0.2), blank._replace(step=40)]
      >>> truncated_share(rows)
      0.05
    """
    starts = [0, *(metrics.step for metrics in history)]
    weighted = sum(
        metrics.truncated * (metrics.step - start)
        for start, metrics in zip(starts, history, strict=False)
    )
    return weighted / history[-1].step


def _row(result: MethodResult, test_images: int, examples: float) -> list[str]:
    name, cost = result.label, f"{examples:,.0f}"
    if result.status != "finished":
        name += f"\n{result.outcome}"
    if not result.history:
        return [name, "-", "-", "-", "-", cost, "-"]
    last = result.history[-1]
    accuracies = ["-", "-", "-"]
    if result.status != "diverged":
        error = accuracy_error(last.test_accuracy, test_images)
        accuracies = [
            f"{100 * last.train_accuracy:.1f}",
            f"{100 * last.test_accuracy:.1f} ± {100 * error:.1f}",
            f"{last.train_loss:.4f}",
        ]
    return [
        name,
        *accuracies,
        f"{100 * truncated_share(result.history):.1f}",
        cost,
        f"{last.seconds:.1f}",
    ]
