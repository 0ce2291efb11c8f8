"""The metrics of a run for TensorBoard: `tensorboard --logdir runs`."""

import contextlib
import importlib.util
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence

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
    now = time.time()
    path = directory / f"events.out.tfevents.{time.time_ns()}"
    with contextlib.closing(RecordWriter(str(path))) as writer:

        def add(event: Event) -> None:
            writer.write(event.SerializeToString())
            writer.flush()

        def write(metrics: Metrics, wall_time: float | None = None) -> None:
            points = [
                Summary.Value(tag=tag, simple_value=getattr(metrics, name))
                for name, tag in _TAGS.items()
            ]
            summary = Summary(value=points)
            at = wall_time or time.time()
            add(Event(wall_time=at, step=metrics.step, summary=summary))

        add(Event(wall_time=now, file_version="brain.Event:2"))
        # TensorBoard then drops all points of earlier files: the history has them.
        start = SessionLog(status=SessionLog.START)
        add(Event(wall_time=now, session_log=start))
        for metrics in history:
            write(metrics, now - (history[-1].seconds - metrics.seconds))
        yield write


def check_tensorboard() -> None:
    """Refuses if event files cannot be written."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise JobError(
            "Event files for TensorBoard need tensorboardX. Install with: "
            'pip install "heavytail-optax[tensorboard]"'
        )
