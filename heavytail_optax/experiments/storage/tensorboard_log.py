"""The metrics of a run for TensorBoard: `tensorboard --logdir runs`."""

import importlib.util
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any, Self

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
    """The library that writes event files is not installed; says how to install it."""


class TensorBoardLog:
    """Writes each of the metrics as a scalar; use as a context manager.

    On entering, the event files that are there are emptied, and a new one gets the
    metrics so far. So a run that goes on after a kill has no points twice, and none that no checkpoint
    holds, in whatever reads the files; a TensorBoard that is open drops the old ones.

    Args:
      directory: for the event files; made if it is not there.
      history: the metrics so far, in the order of their steps.

    Raises:
      TensorBoardMissingError: if tensorboardX is not installed.
    """

    def __init__(
        self, directory: pathlib.Path, history: Sequence[Metrics] = ()
    ) -> None:
        check_tensorboard()
        self._directory = directory
        self._history = history

    def __enter__(self) -> Self:
        # Not its SummaryWriter: that one writes in a thread, which a full disk ends
        # without a word and then, when its queue is full, the run stands still.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._directory.mkdir(parents=True, exist_ok=True)
        old = set(self._directory.glob("events.out.tfevents.*"))
        now = time.time()
        prefix = str(self._directory / "events")
        # The name holds the second only, and one that is there would be overwritten.
        self._writer: Any = EventsWriter(prefix, f".{time.time_ns()}")
        # Tells a TensorBoard that is open to drop what it has of these steps.
        start = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(wall_time=now, step=0, session_log=start))
        for metrics in self._history:
            # As if without a break, so that the relative time axis shows the training.
            self._add(metrics, now - (self._history[-1].seconds - metrics.seconds))
        self._writer.flush()
        for path in old:
            # A TensorBoard that is open would wait for ever at a file which is gone, but
            # goes on to the next one from a file with nothing more in it.
            if path.stat().st_size:
                os.truncate(path, 0)
            else:
                path.unlink()
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.close()

    def write(self, metrics: Metrics) -> None:
        """Adds a point to every curve, on the disk when this returns.

        Args:
          metrics: of a later step than those before.
        """
        self._add(metrics, time.time())
        self._writer.flush()

    def _add(self, metrics: Metrics, wall_time: float) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=_TAGS.get(name, name), simple_value=value)
            for name, value in metrics._asdict().items()
            if name != "step"
        ]
        summary = Summary(value=values)
        event = Event(wall_time=wall_time, step=metrics.step, summary=summary)
        self._writer.write_event(event)


def check_tensorboard() -> None:
    """Refuses before a run starts if event files cannot be written.

    Raises:
      TensorBoardMissingError: if tensorboardX is not installed.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise TensorBoardMissingError(
            "Event files for TensorBoard need tensorboardX. Install with: "
            'pip install "heavytail-optax[tensorboard]"'
        )
