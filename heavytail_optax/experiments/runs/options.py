"""Where and how runs are carried out: nothing here changes their numbers."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from jax.sharding import Mesh


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where and how runs are carried out. None of this changes their numbers but for rounding.

    It is kept with the runs, so that those that go on have what they were started with.
    """

    data_dir: pathlib.Path | None = None
    """Directory with the files of the data set, looked into first."""
    devices: int | Literal["all"] | None = None
    """Spread each batch over that many devices, or over all. By default over one, with
    --distributed over all."""
    tensorboard: bool = False
    """Also write the metrics for TensorBoard, beside metrics.jsonl."""

    def record(self) -> dict[str, Any]:
        """The same for JSON; the data directory is absolute, to be found from elsewhere."""
        data_dir = self.data_dir and str(self.data_dir.expanduser().absolute())
        return {**dataclasses.asdict(self), "data_dir": data_dir}

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> "Machine":
        """What `record` made a record of; a ValueError that names the entry if it is none."""
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
        return cls(data_dir and pathlib.Path(data_dir), devices, tensorboard)


THIS_MACHINE = Machine()


class RunOptions(NamedTuple):
    """A `Machine` whose devices are found."""

    mesh: "Mesh | None" = (
        None  # of the devices that a batch is spread over, None for one
    )
    tensorboard: bool = False
    writes: bool = True  # whether this process is the one that writes files


ON_ONE_DEVICE = RunOptions()


def find_devices(machine: Machine) -> RunOptions:
    """The options of a run, on the devices that there are."""
    import jax

    from heavytail_optax.experiments.devices.parallel import data_mesh
    from heavytail_optax.experiments.storage.tensorboard_log import check_tensorboard

    if machine.tensorboard:
        check_tensorboard()
    default = 1 if jax.process_count() == 1 else "all"
    mesh = data_mesh(default if machine.devices is None else machine.devices)
    return RunOptions(mesh, machine.tensorboard, jax.process_index() == 0)
