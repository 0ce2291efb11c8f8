import csv
import io
import math

import numpy as np
import pytest
from markdown_it import MarkdownIt
from report_examples import BALANCED, GRID, INFLATED, SGD, SHARED, finished, unfinished
from rich.console import Console

from heavytail_optax.experiments.methods import METHOD_NAMES
from heavytail_optax.experiments.report.csv_text import runs_csv, summary_csv
from heavytail_optax.experiments.report.report import write_report
from heavytail_optax.experiments.report.rows import build_report
from heavytail_optax.experiments.report.table import report_table

PAPER = "corrupted-fashion-mnist"
OURS = "corrupted-digits"


def with_all_measures(cells):
    """Sharpness measures in an order that is not the paper's."""
    return [
        cell._replace(
            sharpness={
                "trace_of_hessian": (5.0, None),
                "maximal_sharpness": (16_600.0, None),
                "pac_bayes_sharpness": (13_100.0, 50.0),
                **cell.sharpness,
            }
        )
        for cell in cells
    ]


def terminal(preset, cells, width=100):
    file = io.StringIO()
    Console(file=file, width=width).print(report_table(preset, cells, width))
    return file.getvalue()


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
    assert "sgd (SB) 4/4 69.3 ± 0.5 69.20 - 100.0 100 .0053 ± .0004 .008" in lines
    assert "shared (Our 2) 1/1 71.3 70.06 +1.3 100.0 1,300 .0004 .002" in lines
    assert "balanced 4/5 ‡ 70.4 ± 0.5 - +1.1 ± 0.2 100.0 100 .00140 ± .00007 -" in lines
    assert (
        "inflated (SB+Noise) † 2/3 ‡ 38.2 ± 28.2 64.43 -31.4 ± 27.8 43.0 100 "
        ".008 ± .008 .047" in lines
    )
    assert "inflated seed 0 (76.0%, far below the others)" in text
    assert "inflated seed 1 (10.0%, at chance)" in text
    assert (
        "‡ Not in the means: inflated seed 2 (diverged at step 1,204), balanced seed 4 "
        "(interrupted at step 2,000), truncated-heavy-tailed-sgd seed 0 (missing)."
    ) in text
    # sqrt(0.713 * 0.287 / 10000), of the only method with one seed.
    assert "10,000 test images alone leave the accuracy uncertain by ± 0.5" in text


def test_rows_are_in_the_order_of_the_methods():
    report = build_report(PAPER, GRID)
    names = [row.method for row in report.rows]
    assert names == sorted(names, key=METHOD_NAMES.index)
    assert [cell.seed for cell in report.rows[-2].cells] == [0, 1, 2, 3, 4]


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
    assert "balanced 4/4 70.4 ± 0.5 100.0 100 .00140 ± .00007" in lines
    assert "Test less" not in text


def test_a_difference_over_fewer_seeds_than_the_mean_is_told():
    _, text = squeezed(terminal(OURS, [*SGD[2:], *BALANCED]))
    # The mean and half the distance of 1.1 and 0.7.
    assert "70.4 ± 0.5 +0.9 ± 0.2" in text
    assert "balanced over seeds 2, 3." in text
    _, whole = squeezed(terminal(OURS, [*SGD, *BALANCED]))
    assert "fewer seeds" not in whole


def test_one_seed_without_known_test_images():
    cells = [SHARED[0]._replace(test_images=None)]
    lines, text = squeezed(terminal(OURS, cells))
    assert "shared (Our 2) 1/1 71.3 100.0 1,300 .0004" in lines
    assert "One seed has no standard error over seeds." in text
    assert "binomial" not in text


def test_a_measure_that_a_run_lacks_is_told():
    cells = [*SGD[:3], SGD[3]._replace(sharpness={})]
    lines, text = squeezed(terminal(OURS, cells))
    # (.0046 + .0059 + .0060)/3 = .0055, +- .00045.
    assert "sgd (SB) 4/4 ‡ 69.3 ± 0.5 100.0 100 .0055 ± .0005" in lines
    assert "‡ Not in the means: sgd seed 3 (expected sharpness: not measured)." in text


def test_a_sharpness_that_is_not_finite_is_told():
    broken = SGD[3]._replace(sharpness={"expected_sharpness": (math.inf, None)})
    _, text = squeezed(terminal(OURS, [*SGD[:3], broken]))
    assert "sgd seed 3 (expected sharpness: inf)" in text


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
    assert "Not in the means" in text
    files = write_report(tmp_path, PAPER, cells)
    assert files.picture is None
    assert ".png" not in files.page.read_text("utf-8")


def test_markdown_is_a_github_table(tmp_path):
    files = write_report(tmp_path, PAPER, GRID)
    header, *rows = markdown_cells(files.page.read_text("utf-8"))
    assert header == [
        *("Method", "Seeds", "Test %", "paper", "Test less that of SB"),
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
    assert rows[0][-3:] == ["(1.31 ± .00)e4", "(1.66 ± .00)e4", "5.00 ± .00"]


def test_runs_csv_reads_back_whole(tmp_path):
    files = write_report(tmp_path, PAPER, GRID)
    rows = list(csv.DictReader(files.runs.open(encoding="utf-8", newline="")))
    assert len(rows) == len(GRID)
    cells = {(cell.method, str(cell.seed)): cell for cell in GRID}
    for row in rows:
        cell = cells[row["method"], row["seed"]]
        for name in ("status", "step", "train_accuracy", "test_accuracy", "seconds"):
            value = getattr(cell, name)
            assert row[name] == ("" if value is None else str(value))
        value = cell.sharpness.get("expected_sharpness", ("", ""))
        assert (
            row["expected_sharpness"],
            row["expected_sharpness_standard_error"],
        ) == tuple(map(str, value))
    failed = {(row["method"], row["seed"]): row["failed"] for row in rows}
    assert failed["inflated", "1"] == "at chance"
    assert failed["sgd", "1"] == ""


def test_summary_csv_agrees_with_numpy_on_the_runs():
    report = build_report(PAPER, GRID)
    runs = np.genfromtxt(
        io.StringIO(runs_csv(report)),
        delimiter=",",
        names=True,
        dtype=None,
        encoding="utf-8",
    )
    summary = list(csv.DictReader(io.StringIO(summary_csv(report))))
    assert [row["method"] for row in summary] == [row.method for row in report.rows]
    for row in summary:
        own = runs[(runs["method"] == row["method"]) & (runs["status"] == "finished")]
        assert int(row["seeds_finished"]) == own.size
        if own.size == 0:
            assert row["test_accuracy"] == ""
            continue
        for name in ("test_accuracy", "train_accuracy", "expected_sharpness"):
            np.testing.assert_allclose(float(row[name]), own[name].mean(), rtol=1e-12)
            error = row[f"{name}_standard_error"]
            if own.size == 1:
                assert error == ""
                continue
            expected = own[name].std(ddof=1) / math.sqrt(own.size)
            np.testing.assert_allclose(float(error), expected, rtol=1e-9, atol=1e-15)
    balanced = summary[-2]
    assert balanced["unfinished"] == "4 interrupted at step 2,000"
    assert float(balanced["difference_to_sgd"]) == pytest.approx(0.01125)
    assert float(balanced["difference_to_sgd_low"]) == pytest.approx(
        0.0063240, abs=1e-7
    )
    assert summary[0]["paper_test_accuracy"] == "0.692"


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


def test_a_file_that_cannot_be_finished_leaves_the_one_before(tmp_path, monkeypatch):
    files = write_report(tmp_path, PAPER, GRID)
    before = files.picture.read_bytes()

    def fail(self, path, **options):
        path.write_bytes(b"\x89PN")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="No space left"):
        write_report(tmp_path, PAPER, GRID)
    assert files.picture.read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


def test_hundreds_of_seeds_fit():
    cells = [finished("sgd", seed, 0.7 + seed * 1e-5, 0.005) for seed in range(300)]
    lines, _ = squeezed(terminal(PAPER, cells))
    # The error is 1e-5 * 86.75 / sqrt(300).
    assert any(line.startswith("sgd (SB) 300/300 70.15 ± 0.01") for line in lines)
