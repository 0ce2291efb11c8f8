"""The metrics of a run for TensorBoard: `tensorboard --logdir runs`."""

import contextlib
import importlib.util
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.training.trainer import Metrics

_TAGS = {
    "batch_loss": "loss/batches",
    "train_loss": "loss/train",
    "test_loss": "loss/test",
    "train_accuracy": "accuracy/train",
    "test_accuracy": "accuracy/test",
    "update_norm": "update_norm/median",
    "largest_update_norm": "update_norm/largest",
    "truncated": "update_norm/truncated_share",
    "seconds": "time/seconds",
}


class TensorBoardMissingError(JobError):
    """The library that writes event files is not installed."""


@contextlib.contextmanager
def tensorboard_log(
    directory: pathlib.Path, history: Sequence[Metrics] = ()
) -> Iterator[Callable[[Metrics], None]]:
    """Gives a function that adds a point to every curve, after those of the history."""
    check_tensorboard()
    # No SummaryWriter: on a full disk its thread ends, and the process then hangs.
    from tensorboardX import RecordWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary

    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"events.out.tfevents.{time.time_ns()}"
    with contextlib.closing(RecordWriter(str(path))) as writer:

        def add(wall_time: float, **content: Any) -> None:
            event = Event(wall_time=wall_time, **content)
            writer.write(event.SerializeToString())
            writer.flush()

        def write(metrics: Metrics, wall_time: float | None = None) -> None:
            values = [
                Summary.Value(tag=tag, simple_value=getattr(metrics, name))
                for name, tag in _TAGS.items()
            ]
            summary = Summary(value=values)
            add(wall_time or time.time(), step=metrics.step, summary=summary)

        now = time.time()
        add(now, file_version="brain.Event:2")
        # TensorBoard then drops all points of earlier files: the history has them.
        add(now, session_log=SessionLog(status=SessionLog.START))
        for metrics in history:
            write(metrics, now - (history[-1].seconds - metrics.seconds))
        yield write


def check_tensorboard() -> None:
    """Refuses before a run starts if event files cannot be written."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise TensorBoardMissingError(
            "Event files for TensorBoard need tensorboardX. Install with: "
            'pip install "heavytail-optax[tensorboard]"'
        )
