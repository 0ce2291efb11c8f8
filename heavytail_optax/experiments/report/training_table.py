"""The table at the end of `heavytail train`."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from heavytail_optax.experiments.runs.result import RunResult
from heavytail_optax.experiments.training.evaluation import accuracy_error

_COLUMNS = ("Train\n%", "Test\n%", "Loss", "Cut\n%", "Images\na step", "Seconds")


def training_table(results: Sequence[RunResult], test_images: int) -> Table:
    """One row a run."""
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
    has_seeds = len({result.seed for result in results}) > 1
    for result in results:
        name = f"{result.label}, seed {result.seed}" if has_seeds else result.label
        table.add_row(*_row(name, result, test_images))
    return table


def _row(name: str, result: RunResult, test_images: int) -> list[str]:
    cost = f"{result.examples_per_step:,.0f}"
    if result.status != "finished":
        name += f"\n{result.how_it_ended}"
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
        f"{100 * (result.truncated or 0.0):.1f}",
        cost,
        f"{last.seconds:.1f}",
    ]
