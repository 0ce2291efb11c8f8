"""What the jobs of `heavytail reproduce --launcher submitit` ask for."""

import dataclasses
import importlib.util
from typing import Annotated, Literal

from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.setting_rules import at_least, check_fields

ClusterName = Literal["slurm", "local"]


@dataclasses.dataclass(frozen=True)
class JobOptions:
    """For --launcher submitit: each run is a job, with its logs in DIRECTORY/submitit.

    Attributes:
      cluster: slurm, or local for processes of this host. By default slurm where it is
        found. The grid's directory must be one that all hosts see.
      jobs_at_once: Number of jobs at the same time.
      job_minutes: Time limit of a job. Ahead of it the job saves and goes back into the
        queue, three times at most.
      partition: Partition of SLURM.
      gpus_per_job: Number of GPUs of a job. With 0 it uses the CPU.
      cpus_per_job: Number of CPU cores of a job, on SLURM.
    """

    cluster: ClusterName | None = None
    jobs_at_once: Annotated[int, at_least(1)] = 4
    job_minutes: Annotated[int, at_least(1)] = 240
    partition: str | None = None
    gpus_per_job: Annotated[int, at_least(0)] = 0
    cpus_per_job: Annotated[int, at_least(1)] = 2

    def __post_init__(self) -> None:
        check_fields(self, "option")


DEFAULT_JOBS = JobOptions()


class LauncherError(JobError):
    """The jobs cannot be submitted; the message says what to do."""


def find_cluster(asked: ClusterName | None) -> ClusterName:
    """The cluster that jobs go to.

    Args:
      asked: on the command line.

    Raises:
      LauncherError: if submitit is not installed, or SLURM is asked for and not there.
    """
    if importlib.util.find_spec("submitit") is None:
        raise LauncherError(
            "The `launcher` option needs submitit. Install with: "
            'pip install "heavytail-optax[cluster]"'
        )
    import submitit

    has_slurm = submitit.SlurmExecutor.affinity() > 0
    if asked == "slurm" and not has_slurm:
        raise LauncherError(
            "The `cluster` option is slurm, but SLURM's commands (srun, sbatch, sacct) "
            "are not found on this host. Go to a host that has them, or say "
            "--cluster local."
        )
    return asked or ("slurm" if has_slurm else "local")
