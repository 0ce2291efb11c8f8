"""The closing table of a job."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from heavytail_optax.experiments.evaluation import accuracy_error
from heavytail_optax.experiments.job import MethodResult
from heavytail_optax.experiments.training import Metrics


def summary_table(results: Sequence[MethodResult], test_images: int) -> Table:
    """One row a method.

    Args:
      results: of all methods.
      test_images: how many there are, for the standard error of the test accuracy.

    Returns:
      A table for `rich.console.Console.print`.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="Loss and accuracy on the training images, random labels included; accuracy "
        f"on {test_images:,} test images with its standard error. Seconds without "
        "compilation.",
        caption_justify="left",
    )
    table.add_column("Method", no_wrap=True)
    for name in ("Train %", "Test %", "Loss", "Truncated %", "Seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        table.add_row(*_row(result, test_images))
    return table


def truncated_share(history: Sequence[Metrics]) -> float:
    """Share of all steps that were truncated.

    Args:
      history: of one method, from the first step on.

    Example:
      >>> from heavytail_optax.experiments.training import Metrics
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


def _row(result: MethodResult, test_images: int) -> list[str]:
    name = result.method
    if result.status != "finished":
        name += f"\n({result.status})"
    if not result.history:
        return [name, *["-"] * 5]
    last = result.history[-1]
    accuracy = last.test_accuracy
    error = accuracy_error(accuracy, test_images)
    return [
        name,
        f"{100 * last.train_accuracy:.1f}",
        f"{100 * accuracy:.1f} ± {100 * error:.1f}",
        f"{last.train_loss:.4f}",
        f"{100 * truncated_share(result.history):.1f}",
        f"{last.seconds:.1f}",
    ]
