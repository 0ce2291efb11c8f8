"""Where and how runs are carried out. Nothing here changes their numbers."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
from jax.sharding import Mesh

from ..files import expanded
from ..parallel import data_mesh
from ..setting_rules import UNSET, at_least, check_fields, message

ClusterName = Literal["slurm", "local"]


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where and how runs are carried out. Their numbers change by rounding at most.

    These options are kept with the runs, and used again when the runs go on.

    Attributes:
      data_dir: Directory with the files of the data set, which are then looked for
        nowhere else. Not for digits, which need no files.
      devices: Number of devices that share each batch, or all. By default one, and all
        with --distributed.
      tensorboard: Also write the metrics for TensorBoard, beside metrics.jsonl.
    """

    data_dir: Annotated[pathlib.Path | None, UNSET] = None
    devices: Annotated[int | Literal["all"] | None, UNSET] = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "option")
        if self.devices not in (None, "all") and type(self.devices) is not int:
            accepted = "all or a number of devices"
            raise TypeError(message("devices", accepted, self.devices, "option"))

    def mesh(self) -> Mesh | None:
        """The devices that share a batch; None for one device."""
        default = 1 if jax.process_count() == 1 else "all"
        return data_mesh(default if self.devices is None else self.devices)

    def record(self) -> dict[str, Any]:
        """The same for JSON; the data directory is absolute, to be found from elsewhere."""
        data_dir = self.data_dir and str(expanded(self.data_dir).absolute())
        return {**dataclasses.asdict(self), "data_dir": data_dir}

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> "Machine":
        """What `record` recorded."""
        data_dir = values["data_dir"]
        return cls(**{**values, "data_dir": data_dir and pathlib.Path(data_dir)})


THIS_MACHINE = Machine()


@dataclasses.dataclass(frozen=True)
class JobOptions:
    """For --launcher submitit: jobs that share the runs. Their logs are in DIRECTORY/submitit.

    Attributes:
      cluster: slurm, or local for processes of this host. By default slurm where it
        is found. All hosts must see the grid's directory.
      jobs_at_once: Number of jobs. Each takes one run after another.
      job_minutes: Time limit of a job. Before it ends, the job saves its state and goes
        back into the queue, three times at most.
      partition: Partition of SLURM. By default SLURM chooses.
      gpus_per_job: Number of GPUs of a job. With 0 it uses the CPU.
      cpus_per_job: Number of CPU cores of a job, on SLURM.
    """

    cluster: Annotated[ClusterName | None, UNSET] = None
    jobs_at_once: Annotated[int, at_least(1)] = 4
    job_minutes: Annotated[int, at_least(1)] = 240
    partition: Annotated[str | None, UNSET] = None
    gpus_per_job: Annotated[int, at_least(0)] = 0
    cpus_per_job: Annotated[int, at_least(1)] = 2

    def __post_init__(self) -> None:
        check_fields(self, "option")


DEFAULT_JOBS = JobOptions()
ONLY_SLURM = ("--partition", "--cpus-per-job")
"""The options that processes of this host do not have."""
