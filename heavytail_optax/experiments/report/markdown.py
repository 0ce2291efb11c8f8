"""A report as Markdown, with a table as GitHub understands it."""

from collections.abc import Sequence

from heavytail_optax.experiments.report.columns import (
    Column,
    accuracy_columns,
    method_column,
    sharpness_columns,
)
from heavytail_optax.experiments.report.notes import report_notes
from heavytail_optax.experiments.report.rows import Report


def markdown_table(columns: Sequence[Column]) -> str:
    """A table whose first column is to the left, all others to the right.

    Example:
      >>> print(markdown_table([Column(("Method",), ("sgd",)), Column(("Test", "%"), ("70",))]))
      | Method | Test % |
      | :--- | ---: |
      | sgd | 70 |
    """
    rows = [
        [" ".join(column.heading) for column in columns],
        [":---", *["---:"] * (len(columns) - 1)],
        *zip(*(column.texts for column in columns), strict=True),
    ]
    return "\n".join(f"| {' | '.join(map(_escape, row))} |" for row in rows)


def markdown_report(report: Report, picture: str | None, tables: Sequence[str]) -> str:
    """A page with the table, the notes, and the picture if there is one."""
    columns = [method_column(report), *accuracy_columns(report, with_interval=True)]
    for measure in report.measures:
        columns += sharpness_columns(report, measure)
    parts = [f"# {report.preset}", markdown_table(columns), *report_notes(report)]
    if picture is not None:
        parts.append(f"![Test accuracy against sharpness]({picture})")
    links = " and ".join(f"[{name}]({name})" for name in tables)
    parts.append(f"The same as CSV: {links}.")
    return "\n\n".join(parts) + "\n"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
