"""Options on where and how a job runs, which do not change its numbers."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Literal

from heavytail_optax.experiments.errors import JobError

if TYPE_CHECKING:
    from heavytail_optax.experiments.run import RunOptions


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where and how a job runs. None of this changes its numbers but for rounding.

    Attributes:
      data_dir: Directory with the files of the data set, looked into first.
      devices: Spread each batch over that many devices, or over all.
      tensorboard: Also write the metrics for TensorBoard, beside metrics.jsonl.
    """

    data_dir: pathlib.Path | None = None
    devices: int | Literal["all"] = 1
    tensorboard: bool = False


THIS_MACHINE = Machine()


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One job in several processes, on one or many hosts.

    Start the same command once for each process, with a shared --run-dir or --resume.
    On SLURM and on Cloud TPUs JAX finds all three values by itself: say only
    --distributed.

    Attributes:
      distributed: This process is one of several.
      coordinator: Host and port of the first process, as HOST:PORT.
      num_processes: Number of processes.
      process_id: Number of this process, from 0.
    """

    distributed: bool = False
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


ALONE = Cluster()


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
    mesh = data_mesh(machine.devices)
    return RunOptions(mesh, machine.tensorboard, jax.process_index() == 0)


class ClusterError(JobError):
    """The processes do not find together."""


def join_cluster(cluster: Cluster) -> None:
    """Connects this process with the others; must come before JAX is used.

    Args:
      cluster: as on the command line.

    Raises:
      ClusterError: if the options do not fit together, or a process does not answer.
    """
    given = (cluster.coordinator, cluster.num_processes, cluster.process_id)
    if not cluster.distributed:
        if any(value is not None for value in given):
            raise ClusterError(
                "The options coordinator, num-processes and process-id are for "
                "--distributed."
            )
        return
    if any(value is not None for value in given) and None in given:
        raise ClusterError(
            "The options coordinator, num-processes and process-id must be given "
            "together, or none of them where JAX finds them by itself."
        )
    import jax

    try:
        jax.distributed.initialize(*given)
    except (RuntimeError, ValueError) as error:
        raise ClusterError(
            f"The processes did not find together: {error}. Give --coordinator, "
            "--num-processes and --process-id."
        ) from error
