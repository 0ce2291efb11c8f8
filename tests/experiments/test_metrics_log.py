import json
import math

from heavytail_optax.experiments.metrics_log import (
    append_metrics,
    drop_metrics_after,
    read_metrics,
)
from heavytail_optax.experiments.training import Metrics

ROWS = [Metrics(step, *(step + i / 7 for i in range(9))) for step in (2, 4, 6)]


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
    assert drop_metrics_after(path, 10) == ROWS[:2]
    append_metrics(path, ROWS[2])
    assert path.read_text("utf-8") == text


def test_steps_that_will_come_again_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert drop_metrics_after(path, 4) == []
    write(path)
    assert drop_metrics_after(path, 5) == ROWS[:2]
    assert read_metrics(path) == ROWS[:2]
    assert drop_metrics_after(path, 0) == []
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.jsonl"]
