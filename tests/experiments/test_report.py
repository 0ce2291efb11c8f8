"""The report in the terminal, as a page and as files."""

import io
import re

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from report_examples import BALANCED, GRID, INFLATED, SGD, SHARED, record_of, unfinished
from rich.console import Console

from heavytail_optax.experiments.report.report import report_table
from heavytail_optax.experiments.report.report import write_report as write
from heavytail_optax.experiments.report.summary import (
    build_report,
    cannot_show,
    runs_table,
)
from heavytail_optax.experiments.report.tables import (
    Column,
    markdown_table,
    text_column,
)

PAPER = "corrupted-fashion-mnist"
OURS = "corrupted-digits"


def with_all_measures(cells):
    """Sharpness measures in an order that is not the paper's."""
    return [
        cell._replace(
            record=record_of(
                {
                    "trace_of_hessian": (5.0, None),
                    "maximal_sharpness": (16_600.0, None),
                    "pac_bayes_sharpness": (13_100.0, 50.0),
                    **cell.sharpness,
                }
            )
        )
        for cell in cells
    ]


def terminal(preset, cells, width=100):
    file = io.StringIO()
    table = report_table(build_report(preset, runs_table(cells)), width)
    Console(file=file, width=width).print(table)
    return file.getvalue()


def write_report(directory, preset, cells):
    return write(directory, build_report(preset, runs_table(cells)))


def squeezed(text):
    """The lines with single spaces, and all text on one line."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return lines, " ".join(lines)


def markdown_cells(text):
    """The first table of a page, as GitHub reads it."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows, inside = [], False
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        inside = token.type in ("th_open", "td_open") or (
            inside and token.type == "inline"
        )
        if inside and token.type == "inline":
            rows[-1].append(token.content)
    return rows


def test_table_of_a_whole_grid():
    lines, text = squeezed(terminal(PAPER, GRID))
    # Means and errors by hand: the accuracies of SB are 69.3 +- sqrt(2.68/3)/2, the
    # differences 1.3, 1.4, 1.1, 0.7.
    assert "sgd (SB) 4/4 69.3 ± 0.5 69.20 - 100.0 100 0.0053 ± 0.0004 0.008" in lines
    assert "shared (Our 2) 1/1 71.3 70.06 +1.3 100.0 1,300 0.0004 0.002" in lines
    assert (
        "balanced 4/5 ‡ 70.4 ± 0.5 - +1.1 ± 0.2 100.0 100 0.00140 ± 0.00007 -" in lines
    )
    assert (
        "inflated (SB+Noise) † 2/3 ‡ 38.2 ± 28.2 64.43 -31.4 ± 27.8 43.0 100 "
        "0.008 ± 0.008 0.047" in lines
    )
    assert "inflated seed 0 (76.0%, far below the others)" in text
    assert "inflated seed 1 (10.0%, at chance)" in text
    for run in (
        "inflated seed 2 (diverged at step 1,204)",
        "balanced seed 4 (interrupted at step 2,000)",
        "truncated-heavy-tailed-sgd seed 0 (missing)",
    ):
        assert run in text
    # sqrt(0.713 * 0.287 / 10000), of the only method with one seed.
    assert "± 0.5 (binomial)" in text


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("preset", [PAPER, "cifar10-augmented", OURS])
@pytest.mark.parametrize("cells", [GRID, with_all_measures(GRID)], ids=["one", "four"])
def test_table_fits_and_no_number_is_cut(preset, cells, width):
    text = terminal(preset, cells, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [80, 100])
def test_sharpness_is_always_beside_accuracy(width):
    text = terminal("cifar10-augmented", with_all_measures(GRID), width)
    headings = [line for line in text.splitlines() if line.startswith("Method ")]
    assert len(headings) > 1
    assert all("%" in line for line in headings)
    # The mark of a failed run comes again with each of them.
    assert text.count("inflated (SB+Noise)\N{NO-BREAK SPACE}†") == len(headings)


def test_without_figures_of_the_paper_there_is_no_column_for_them(tmp_path):
    assert "paper" not in terminal(OURS, GRID)
    files = write_report(tmp_path, OURS, GRID)
    assert "paper" not in files.page.read_text("utf-8")


def test_without_sgd_there_is_no_difference():
    lines, text = squeezed(terminal(OURS, BALANCED))
    assert "balanced 4/4 70.4 ± 0.5 100.0 100 0.00140 ± 0.00007" in lines
    assert "Test less" not in text


def test_a_difference_over_fewer_seeds_than_the_mean_is_told():
    _, text = squeezed(terminal(OURS, [*SGD[2:], *BALANCED]))
    # The mean and half the distance of 1.1 and 0.7.
    assert "70.4 ± 0.5 +0.9 ± 0.2" in text
    assert "fewer seeds than the mean" in text
    _, whole = squeezed(terminal(OURS, [*SGD, *BALANCED]))
    assert "fewer seeds" not in whole


def test_methods_that_were_not_measured_alike_are_told():
    def with_target(cells, target):
        values = {"pac_bayes_sharpness": (1.0, None)}
        record = record_of(values, target=target)
        return [cell._replace(record=record) for cell in cells]

    cells = [*with_target(SGD, 0.1), *with_target(BALANCED, 0.2)]
    _, text = squeezed(terminal(OURS, cells))
    assert "sgd with target 0.1; balanced with target 0.2" in text
    _, alike = squeezed(terminal(OURS, with_target([*SGD, *BALANCED], 0.1)))
    assert "target" not in alike


def test_what_a_short_run_cannot_show_is_told():
    short = [cell._replace(train_accuracy=0.981) for cell in (SGD[0], BALANCED[0])]
    lines = cannot_show(runs_table(short))
    assert len(lines) == 2
    assert "too few for an interval (sgd 1, balanced 1)" in lines[0]
    assert "(sgd 1 of 1, balanced 1 of 1)" in lines[1]
    assert all(line in squeezed(terminal(OURS, short))[1] for line in lines)
    assert cannot_show(runs_table([*SGD, *BALANCED])) == []
    # A run that did not learn is told of elsewhere, and one method is not compared.
    (line,) = cannot_show(runs_table([*SGD, *INFLATED]))
    assert "(inflated 2)" in line and "too short" not in line
    assert cannot_show(runs_table(SHARED)) == []
    assert len(cannot_show(runs_table([*SGD[:2], *BALANCED[:2]]))) == 1
    # The method with the fewest seeds decides, and only those with too few are named.
    (line,) = cannot_show(runs_table([*SGD, *BALANCED[:2]]))
    assert "(balanced 2)" in line


def test_a_method_with_a_failed_run_has_one_mean():
    """The table has that of all runs; the note counts those that learned."""
    accuracies = (0.10, 0.84, 0.83)
    failing = [
        cell._replace(train_accuracy=share)
        for cell, share in zip(BALANCED, accuracies, strict=False)
    ]
    lines, text = squeezed(terminal(OURS, [*SGD[:3], *failing]))
    (row,) = [line for line in lines if line.startswith("balanced")]
    assert " 59.0 " in row  # (10 + 84 + 83)/3
    assert "balanced seed 0 (10.0%, at chance)" in text
    assert "(balanced 2 of 2)" in text
    others = {*re.findall(r"\d+\.\d%", text)} - {"10.0%"}
    assert not others


def test_one_seed_without_known_test_images():
    cells = [SHARED[0]._replace(test_images=None)]
    lines, text = squeezed(terminal(OURS, cells))
    assert "shared (Our 2) 1/1 71.3 100.0 1,300 0.0004" in lines
    assert "One seed has no standard error over seeds." in text
    assert "binomial" not in text


def test_a_measure_that_a_run_lacks_is_told():
    cells = [*SGD[:3], SGD[3]._replace(record={})]
    lines, text = squeezed(terminal(OURS, cells))
    # (0.0046 + 0.0059 + 0.0060)/3 = 0.0055, +- 0.00045.
    assert "sgd (SB) 4/4 ‡ 69.3 ± 0.5 100.0 100 0.0055 ± 0.0005" in lines
    assert "sgd seed 3 (expected sharpness: not measured)" in text


@pytest.mark.parametrize(
    ("cells", "row"),
    [
        ([unfinished("sgd", 0)], "sgd (SB) 0/1 ‡ - 69.20 - 100"),
        (INFLATED[2:], "inflated (SB+Noise) 0/1 ‡ - 64.43 - 100"),
    ],
    ids=["missing", "diverged"],
)
def test_a_grid_without_a_finished_run(cells, row, tmp_path):
    lines, text = squeezed(terminal(PAPER, cells))
    assert row in lines
    assert f"{cells[0].method} seed {cells[0].seed} ({cells[0].how_it_ended})" in text
    files = write_report(tmp_path, PAPER, cells)
    assert files.picture is None
    assert ".png" not in files.page.read_text("utf-8")


def test_markdown_is_a_github_table(tmp_path):
    files = write_report(tmp_path, PAPER, GRID)
    header, *rows = markdown_cells(files.page.read_text("utf-8"))
    assert header == [
        *("Method", "Seeds", "Test %", "paper", "Test minus SB"),
        *("95% interval", "Train %", "Images a step", "Expected sharpness", "paper"),
    ]
    assert len(rows) == 5
    assert {len(row) for row in rows} == {len(header)}
    assert rows[0][:4] == ["sgd (SB)", "4/4", "69.3 ± 0.5", "69.20"]
    # Student's t with three degrees of freedom: 1.125 +- 3.1824 * 0.15478.
    assert rows[3][4:6] == ["+1.1 ± 0.2", "+0.6 to +1.6"]
    text = files.page.read_text("utf-8")
    assert "(accuracy_against_sharpness.png)" in text
    assert "[summary.csv](summary.csv)" in text


def test_markdown_has_all_measures_in_the_papers_order(tmp_path):
    files = write_report(tmp_path, OURS, with_all_measures(GRID))
    header, *rows = markdown_cells(files.page.read_text("utf-8"))
    assert header[-4:] == [
        "Expected sharpness",
        "PAC-Bayes sharpness",
        "Maximal sharpness",
        "Trace of hessian",
    ]
    # Equal for all seeds.
    assert rows[0][-3:] == ["(1.31 ± 0.00)e4", "(1.66 ± 0.00)e4", "5.00 ± 0.00"]


def test_a_seed_that_comes_twice_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="The seed 0 of sgd comes twice"):
        write_report(tmp_path, OURS, [*SGD, SGD[0]])
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_report_is_replaced(tmp_path):
    write_report(tmp_path, PAPER, GRID)
    files = write_report(tmp_path, PAPER, [unfinished("sgd", 0)])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"report.md", "summary.csv", "runs.csv"}
    assert "balanced" not in files.page.read_text("utf-8")


def test_files_are_those_of_the_tables(tmp_path):
    files = write_report(tmp_path, PAPER, GRID)
    report = build_report(PAPER, runs_table(GRID))
    assert files.runs.read_text("utf-8") == report.runs.to_csv(index=False)
    assert files.summary.read_text("utf-8") == report.summary.to_csv()


def test_missing_values_and_bars_are_shown_in_a_markdown_table():
    table = pd.DataFrame({"mean": [70.5, None], "error": [0.5, None]})
    numbers = text_column("Test\n%", table, "{} ± {}".format, "mean", "error")
    names = Column("Method", ["a|b", "c"])
    assert markdown_cells(markdown_table([names, numbers])) == [
        ["Method", "Test %"],
        ["a|b", "70.5 ± 0.5"],
        ["c", "-"],
    ]
