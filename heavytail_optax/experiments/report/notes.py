"""What has to be said below the table of a report."""

from collections.abc import Mapping

from heavytail_optax.experiments.report.rows import MethodRow, Report
from heavytail_optax.experiments.training.evaluation import accuracy_error

FAILED = "†"
LEFT_OUT = "‡"


def report_notes(report: Report) -> list[str]:
    """One paragraph each: how to read the table, then what is wrong with which run."""
    notes = [_legend(report), _single_seeds(report), _paper(report)]
    notes += [_failed(report), _left_out(report), _unpaired(report)]
    return [note for note in notes if note]


def has_left_out(row: MethodRow) -> bool:
    """Whether a mean of the row lacks one of the seeds asked for."""
    return bool(_reasons(row))


def _legend(report: Report) -> str:
    note = (
        "Seeds: finished/asked for. Test and training accuracy and sharpness: mean ± "
        "standard error over the seeds (divisor n - 1) that finished."
    )
    if report.has_reference:
        note += (
            " Test less that of SB: mean ± standard error of the differences between "
            "runs of the same seed, in percentage points; intervals are Student's t."
        )
    return note


def _single_seeds(report: Report) -> str:
    single = [row for row in report.rows if row.test_accuracy.count == 1]
    if not single:
        return ""
    note = "One seed has no standard error over seeds"
    errors = {
        cell.test_images: accuracy_error(cell.test_accuracy, cell.test_images)
        for row in single
        for cell in row.finished
        if cell.test_images and cell.test_accuracy is not None
    }
    if not errors:
        return f"{note}."
    images, error = max(errors.items(), key=lambda item: item[1])
    return (
        f"{note}; the {images:,} test images alone leave the accuracy uncertain by "
        f"± {100 * error:.1f} (binomial)."
    )


def _paper(report: Report) -> str:
    if not report.has_paper_figures:
        return ""
    return (
        "paper: the figure in the tables of Wang, Oh and Rhee (ICLR 2022), which come "
        "without errors. Their settings are only partly known; ours are reconstructed."
    )


def _failed(report: Report) -> str:
    runs = [
        f"{row.method} seed {cell.seed} ({100 * cell.train_accuracy:.1f}%, "
        f"{row.failed[cell.seed]})"
        for row in report.rows
        for cell in row.cells
        if cell.seed in row.failed and cell.train_accuracy is not None
    ]
    if not runs:
        return ""
    return (
        f"{FAILED} Did not learn the training images, though the loss is finite: "
        f"{', '.join(runs)}. Such a run may look flat. They are in the means."
    )


def _left_out(report: Report) -> str:
    runs = [
        f"{row.method} seed {seed} ({reason})"
        for row in report.rows
        for seed, reason in _reasons(row).items()
    ]
    return f"{LEFT_OUT} Not in the means: {', '.join(runs)}." if runs else ""


def _unpaired(report: Report) -> str:
    """Only where the seeds of the difference are others than those of the mean."""
    parts = [
        f"{row.method} over {_list_seeds(row.difference.seeds)}"
        for row in report.rows
        if row.difference is not None
        and len(row.difference.seeds) < row.test_accuracy.count
    ]
    if not parts:
        return ""
    return (
        f"The difference has fewer seeds than the mean where SB lacks them: "
        f"{'; '.join(parts)}."
    )


def _list_seeds(seeds: tuple[int, ...]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _reasons(row: MethodRow) -> Mapping[int, str]:
    """Seed -> why a mean of the row lacks it."""
    reasons = dict(row.test_accuracy.left_out)
    for measure, found in row.sharpness.items():
        name = measure.replace("_", " ")
        for seed, reason in found.left_out.items():
            reasons.setdefault(seed, f"{name}: {reason}")
    return dict(sorted(reasons.items()))
