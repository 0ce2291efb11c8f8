import json
import math
import os

import pytest

from heavytail_optax.experiments.storage.metrics_log import (
    append_metrics,
    drop_metrics_after,
    read_metrics,
)
from heavytail_optax.experiments.training.trainer import Metrics

ROWS = [Metrics(step, *(step + i / 7 for i in range(10))) for step in (2, 4, 6)]


def write(path):
    for row in ROWS:
        append_metrics(path, row)


def test_metrics_come_back_to_the_last_digit(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    write(path)
    assert read_metrics(path) == ROWS


def test_values_that_json_lacks_are_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, ROWS[0]._replace(train_loss=math.inf, batch_loss=math.nan))
    values = json.loads(path.read_text("utf-8"), parse_constant=lambda _: 1 / 0)
    assert values["train_loss"] is None and values["batch_loss"] is None
    assert math.isnan(read_metrics(path)[0].train_loss)


def test_a_line_that_was_cut_short_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path)
    text = path.read_text("utf-8")
    path.write_text(text[:-20], "utf-8")
    assert read_metrics(path) == ROWS[:2]
    assert drop_metrics_after(path, 10, print).evaluations == ROWS[:2]
    append_metrics(path, ROWS[2])
    assert path.read_text("utf-8") == text


def test_steps_that_will_come_again_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert drop_metrics_after(path, 4, print).evaluations == []
    write(path)
    assert drop_metrics_after(path, 5, print).evaluations == ROWS[:2]
    assert read_metrics(path) == ROWS[:2]
    assert drop_metrics_after(path, 0, print).evaluations == []
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_line_may_be_cut_anywhere(tmp_path, monkeypatch):
    # Thousands of times, which takes minutes on a busy disk.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    path = tmp_path / "metrics.jsonl"
    write(path)
    data = path.read_bytes()
    starts = [0, *(i + 1 for i, byte in enumerate(data) if byte == 10)]
    for length in range(len(data)):
        path.write_bytes(data[:length])
        whole = sum(start - 1 <= length for start in starts[1:])
        notes = []
        assert (
            drop_metrics_after(path, 2 * whole, notes.append).evaluations
            == ROWS[:whole]
        )
        assert notes == []
        for row in ROWS[whole:]:
            append_metrics(path, row)
        assert path.read_bytes() == data


GARBAGE = (
    b"\x00" * 100,
    b"\xff\xfe{",
    b"null",
    b"[]",
    b"3",
    b'"step"',
    b"{}",
    b'{"step": 4}',
    b"[" * 100_000,
    "\u2028".encode(),
    b'{"step": 1e400}',
)


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_between_lines_is_left_out_and_told(tmp_path, garbage):
    path = tmp_path / "metrics.jsonl"
    write(path)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], garbage, *lines[1:], garbage]))
    assert read_metrics(path) == ROWS
    notes = []
    assert drop_metrics_after(path, 6, notes.append).evaluations == ROWS
    assert notes == [f"1 damaged lines of {path} are left out."]
    assert path.read_bytes().splitlines() == lines


def test_lines_of_other_fields_or_types_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path)
    values = json.loads(path.read_text("utf-8").splitlines()[0])
    for wrong in ({"step": 2.0}, {"step": None}, {"seconds": "1"}, {"seed": 1}):
        path.write_text(json.dumps({**values, **wrong}) + "\n", "utf-8")
        assert read_metrics(path) == []


def test_of_a_step_that_came_twice_the_later_line_counts(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path)
    again = ROWS[1]._replace(train_loss=0.25)
    append_metrics(path, again)
    assert read_metrics(path) == [ROWS[0], again, ROWS[2]]
    drop_metrics_after(path, 4, print)
    assert len(path.read_text("utf-8").splitlines()) == 2


def test_a_kill_while_lines_are_dropped_leaves_the_old_or_the_new(
    tmp_path, monkeypatch
):
    path = tmp_path / "metrics.jsonl"
    write(path)

    def killed(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        drop_metrics_after(path, 2, print)
    monkeypatch.undo()
    assert read_metrics(path) == ROWS
    assert drop_metrics_after(path, 2, print).evaluations == ROWS[:1]
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.jsonl"]
