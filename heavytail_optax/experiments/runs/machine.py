"""Options on where and how a job runs, which do not change its numbers."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from heavytail_optax.experiments.storage import run_directory
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError

if TYPE_CHECKING:
    from heavytail_optax.experiments.runs.run import RunOptions


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where and how a job runs. None of this changes its numbers but for rounding.

    It is kept with the job, so that a job which goes on has what it was started with.

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


def machine_record(machine: Machine) -> dict[str, Any]:
    """The same for JSON; the data directory is absolute, to be found from elsewhere."""
    data_dir = machine.data_dir and str(machine.data_dir.expanduser().absolute())
    return {**dataclasses.asdict(machine), "data_dir": data_dir}


def machine_from_record(values: Mapping[str, Any]) -> Machine:
    """What `machine_record` made a record of.

    Raises:
      ValueError: if it is none, naming the entry.
    """
    accepted = {
        "data_dir": lambda value: value is None or isinstance(value, str),
        "devices": lambda value: value in (None, "all") or type(value) is int,
        "tensorboard": lambda value: isinstance(value, bool),
    }
    for name, is_accepted in accepted.items():
        if name not in values or not is_accepted(values[name]):
            raise ValueError(
                f"The entry `machine.{name}` is missing or of the wrong type"
            )
    data_dir, devices, tensorboard = (values[name] for name in accepted)
    return Machine(data_dir and pathlib.Path(data_dir), devices, tensorboard)


def machine_of(directory: pathlib.Path) -> Machine:
    """Where and how an earlier job ran the last time.

    Args:
      directory: of the job.

    Raises:
      RunDirectoryError: if there is no such job, or it is not understood.
    """
    values = run_directory.read_config(directory)["machine"]
    try:
        return machine_from_record(values)
    except ValueError as error:
        path = run_directory.config_path(directory)
        raise RunDirectoryError(f"{path} is not understood: {error}.") from error


def record_machine(directory: pathlib.Path, machine: Machine) -> None:
    """Keeps what a job goes on with, in its config.json.

    Args:
      directory: of the job, locked by this process.
      machine: where and how it runs now.
    """
    if machine_of(directory) != machine_from_record(record := machine_record(machine)):
        run_directory.update_config(directory, machine=record)


def run_options(machine: Machine) -> "RunOptions":
    """The options of a run, on the devices that there are.

    Raises:
      DevicesError: if there are fewer devices than asked for.
      TensorBoardMissingError: if its files are wanted and cannot be written.
    """
    import jax

    from heavytail_optax.experiments.devices.parallel import data_mesh
    from heavytail_optax.experiments.runs.run import RunOptions
    from heavytail_optax.experiments.storage.tensorboard_log import check_tensorboard

    if machine.tensorboard:
        check_tensorboard()
    default = 1 if jax.process_count() == 1 else "all"
    mesh = data_mesh(default if machine.devices is None else machine.devices)
    return RunOptions(mesh, machine.tensorboard, jax.process_index() == 0)
