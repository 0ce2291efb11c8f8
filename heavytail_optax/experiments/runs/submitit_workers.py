"""`--launcher submitit`: workers on one grid, as SLURM jobs or processes of this host."""

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import signal
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.runs.grid import Grid
from heavytail_optax.experiments.runs.options import Machine, find_devices
from heavytail_optax.experiments.runs.result import read_result
from heavytail_optax.experiments.setting_rules import at_least, check_fields
from heavytail_optax.experiments.terminal.session import Session, open_session

ClusterName = Literal["slurm", "local"]

_SECONDS_BETWEEN_LOOKS = 0.5


@dataclasses.dataclass(frozen=True)
class JobOptions:
    """For --launcher submitit: jobs that share the runs, with their logs in DIRECTORY/submitit."""

    cluster: ClusterName | None = None
    """slurm, or local for processes of this host. By default slurm where it is found. The
    grid's directory must be one that all hosts see."""
    jobs_at_once: Annotated[int, at_least(1)] = 4
    """Number of jobs; each takes run after run."""
    job_minutes: Annotated[int, at_least(1)] = 240
    """Time limit of a job. Ahead of it the job saves and goes back into the queue, three
    times at most."""
    partition: str | None = None
    """Partition of SLURM."""
    gpus_per_job: Annotated[int, at_least(0)] = 0
    """Number of GPUs of a job. With 0 it uses the CPU."""
    cpus_per_job: Annotated[int, at_least(1)] = 2
    """Number of CPU cores of a job, on SLURM."""

    def __post_init__(self) -> None:
        check_fields(self, "option")


DEFAULT_JOBS = JobOptions()


class LauncherError(JobError):
    """The jobs cannot be submitted; the message says what to do."""


def find_cluster(asked: ClusterName | None) -> ClusterName:
    """The cluster that jobs go to."""
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


@dataclasses.dataclass(frozen=True)
class Worker:
    """Plain values, so that it can be pickled, and a call that does the work."""

    grid: Grid  # in an absolute directory
    command: str
    cluster: ClusterName

    def __call__(self) -> dict[str, str]:
        """Takes run after run; the label of each that failed, with the reason.

        The signal that submitit sends ahead of a time limit or a preemption stops the run
        after the steps in hand. When they are saved the signal comes again, to submitit,
        which puts the job back into the queue.
        """
        from rich.console import Console
        from submitit import JobEnvironment

        from heavytail_optax.experiments.runs.carry_out import cached_loader
        from heavytail_optax.experiments.runs.worker import work

        ahead_of_the_limit = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
        # On SLURM, SIGTERM also announces a preemption, and submitit ignores it.
        on_cancel = (signal.SIGTERM,) if self.cluster == "local" else ()
        grid = self.grid
        steps = max(each.training.steps for each in grid.variants.values())
        signals = (*on_cancel, ahead_of_the_limit)
        with open_session(Console(), steps, signals=signals) as session:
            load = cached_loader(grid.machine.data_dir)
            done = work(grid, self.command, session, load, find_devices(grid.machine))
        if session.stop.signal == ahead_of_the_limit and not done.is_done:
            signal.raise_signal(ahead_of_the_limit)
        return {run.label: problem for run, problem in done.failed.items()}

    def checkpoint(self) -> Any:
        """What submitit puts back in the queue: the same, as all else is on the disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def launch(
    grid: Grid,
    command: str,
    session: Session,
    options: JobOptions,
    cluster: ClusterName,
) -> dict[str, str]:
    """Submits workers and waits for them, or for a wish to stop; what failed, and why."""
    runs = grid.runs()
    left = sum(not read_result(run).is_done for run in runs)
    number = min(options.jobs_at_once, left)
    grid = grid._replace(
        directory=grid.directory.absolute(),
        machine=Machine.from_record(grid.machine.record()),
    )
    folder = grid.directory / "submitit"
    worker = Worker(grid, command, cluster)
    try:
        jobs = _submit(worker, number, folder, options, cluster)
    except RuntimeError as error:  # of submitit, with what sbatch said
        raise LauncherError(f"SLURM does not take the jobs: {error}") from error
    session.progress.note(f"{number} jobs by submitit ({cluster}). Logs: {folder}")
    while not all(job.done() for job in jobs) and not session.stop.is_set():
        done = sum(read_result(run).is_done for run in runs)
        session.progress.overall(done, len(runs), "")
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if not all(job.done() for job in jobs):
        session.progress.note(_leave(jobs, cluster))
    problems: dict[str, str] = {}
    for job in jobs:
        if job.done():
            problems |= _problems_of(job)
    for label, problem in problems.items():
        session.progress.note(f"{label}: {problem}")
    return problems


def _submit(
    worker: Worker,
    number: int,
    folder: pathlib.Path,
    options: JobOptions,
    cluster: ClusterName,
) -> list[Any]:
    """The jobs of submitit, so many that do the same."""
    import submitit

    minutes, gpus = options.job_minutes, options.gpus_per_job
    jobs = []
    if cluster == "local":
        executor = submitit.LocalExecutor(folder)
        executor.update_parameters(timeout_min=minutes, gpus_per_node=gpus)
        with _interrupts_held():
            for slot in range(number):
                own = tuple(range(slot * gpus, (slot + 1) * gpus))
                executor.update_parameters(visible_gpus=own)
                jobs.append(executor.submit(worker))
        return jobs
    executor = submitit.SlurmExecutor(folder)
    asked = {
        "job_name": "heavytail",
        "time": minutes,
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": options.cpus_per_job,
        "partition": options.partition,
        "gpus_per_node": gpus or None,
    }
    executor.update_parameters(
        **{name: value for name, value in asked.items() if value is not None}
    )
    with executor.batch():  # one array
        jobs = [executor.submit(worker) for _ in range(number)]
    return jobs


def _leave(jobs: list[Any], cluster: ClusterName) -> str:
    """SLURM's jobs go on; processes of this host save what is done, and end."""
    if cluster == "slurm":
        arrays = dict.fromkeys(job.job_id.partition("_")[0] for job in jobs)
        return f"The jobs go on. To cancel them: scancel {' '.join(arrays)}"
    # A process that has only just started may miss the signal, hence again and again.
    while left := [job for job in jobs if not job.done()]:
        for job in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)
        time.sleep(1.0)
    return "The jobs have stopped; what they did is kept."


def _problems_of(job: Any) -> dict[str, str]:
    """What failed in a job that is done."""
    # On a shared file system the result may be seen late, so submitit waits for it.
    try:
        if job.paths.result_pickle.exists() or job.paths.submission_file.exists():
            return job.result()
    except Exception as error:  # noqa: BLE001 - of submitit, or what the job raised
        if "timed-out too many times" in str(error):
            return {f"job {job.job_id}": "It came to its time limit too often."}
    return {
        f"job {job.job_id}": "It was killed, or could not start. Log: "
        f"{job.paths.stderr}"
    }


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C in the terminal reaches this process alone, not those it starts here."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
