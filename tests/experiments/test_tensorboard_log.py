import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from event_files import curves, read_events
from small_file_systems import mounted_tmpfs

from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.storage.metrics_log import tensorboard_log
from heavytail_optax.experiments.training.trainer import Metrics

ROWS = [Metrics(step, *(step + i / 7 for i in range(10))) for step in (2, 4, 6)]
TAGS = {
    "loss/batches": "batch_loss",
    "loss/train": "train_loss",
    "loss/test": "test_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/test": "test_accuracy",
    "update_norm/median": "update_norm",
    "update_norm/largest": "largest_update_norm",
    "update_norm/truncated_share": "truncated",
    "update_norm/bound": "max_norm",
    "time/seconds": "seconds",
}


def expected(rows):
    return {
        tag: [(row.step, np.float32(getattr(row, name))) for row in rows]
        for tag, name in TAGS.items()
    }


def test_every_metric_is_a_curve(tmp_path):
    directory = tmp_path / "new" / "tensorboard"
    with tensorboard_log(directory) as write:
        for number, row in enumerate(ROWS, start=1):
            write(row)
            # In the file at once, as a kill may come at any moment.
            assert curves(directory) == expected(ROWS[:number])
    assert set(TAGS.values()) == set(Metrics._fields) - {"step"}
    assert read_events(directory)[0].file_version == "brain.Event:2"


def test_a_run_that_goes_on_has_no_point_twice(tmp_path):
    with tensorboard_log(tmp_path) as write:
        for row in ROWS:
            write(row)
    # Step 6 was not saved, and comes again with other numbers.
    again = ROWS[2]._replace(train_loss=0.5)
    with tensorboard_log(tmp_path, ROWS[:2]) as write:
        assert curves(tmp_path) == expected(ROWS[:2])
        write(again)
    assert curves(tmp_path) == expected([*ROWS[:2], again])
    with tensorboard_log(tmp_path, ROWS):
        pass
    assert curves(tmp_path) == expected(ROWS)
    assert len(list(tmp_path.iterdir())) == 3


def test_times_are_as_if_there_had_been_no_break(tmp_path):
    with tensorboard_log(tmp_path, ROWS):
        pass
    times = [event.wall_time for event in read_events(tmp_path) if event.step]
    np.testing.assert_allclose(np.diff(times), 2, atol=1e-6)


def test_values_that_are_not_finite_are_kept(tmp_path):
    with tensorboard_log(tmp_path) as write:
        write(ROWS[0]._replace(train_loss=float("nan"), test_loss=float("inf")))
    points = curves(tmp_path)
    assert np.isnan(points["loss/train"][0][1])
    assert points["loss/test"] == [(2, float("inf"))]


def test_a_run_without_a_bound_has_no_curve_of_it(tmp_path):
    with tensorboard_log(tmp_path) as write:
        write(ROWS[0]._replace(max_norm=float("nan")))
    assert set(curves(tmp_path)) == set(TAGS) - {"update_norm/bound"}


def test_a_full_disk_is_told_by_the_call_that_finds_it(tmp_path):
    with mounted_tmpfs(tmp_path / "small", "size=16k") as directory:
        with (
            pytest.raises(OSError, match="No space"),
            tensorboard_log(directory) as log,
        ):
            for step in range(1000):
                log(ROWS[0]._replace(step=step))
        assert step < 1000 - 1


def test_a_missing_library_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JobError, match=r"heavytail-optax\[tensorboard\]"):
        tensorboard_log(tmp_path / "tensorboard").__enter__()
    assert list(tmp_path.iterdir()) == []


def test_the_library_is_loaded_when_it_is_used():
    program = (
        "import sys; import heavytail_optax.experiments.storage.metrics_log; "
        "sys.exit('tensorboardX' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
