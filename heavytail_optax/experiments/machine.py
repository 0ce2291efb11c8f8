"""Options on where and how a job runs, which do not change its numbers."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from heavytail_optax.experiments.run import RunOptions


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where and how a job runs. None of this changes its numbers but for rounding.

    Attributes:
      data_dir: Directory with the files of the data set, looked into first.
      devices: Spread each batch over that many devices, or over all. By default over
        one, with --distributed over all.
      tensorboard: Also write the metrics for TensorBoard, beside metrics.jsonl.
    """

    data_dir: pathlib.Path | None = None
    devices: int | Literal["all"] | None = None
    tensorboard: bool = False


THIS_MACHINE = Machine()


def run_options(machine: Machine) -> "RunOptions":
    """The options of a run, on the devices that there are.

    Raises:
      DevicesError: if there are fewer devices than asked for.
      TensorBoardMissingError: if its files are wanted and cannot be written.
    """
    import jax

    from heavytail_optax.experiments.parallel import data_mesh
    from heavytail_optax.experiments.run import RunOptions
    from heavytail_optax.experiments.tensorboard_log import check_tensorboard

    if machine.tensorboard:
        check_tensorboard()
    default = 1 if jax.process_count() == 1 else "all"
    mesh = data_mesh(default if machine.devices is None else machine.devices)
    return RunOptions(mesh, machine.tensorboard, jax.process_index() == 0)
