"""`--launcher submitit`: workers on one grid, as SLURM jobs or processes of this host."""

import contextlib
import os
import pathlib
import signal
import socket
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from rich.console import Console

from ..errors import USAGE, JobError
from ..programs import program_cache
from ..terminal import Progress
from .grid import Grid, Run
from .options import ClusterName, JobOptions
from .result import RunResult, read_result
from .run import cached_loader, check_machine
from .worker import work

try:
    import submitit
except ImportError:  # of an extra of its own
    submitit = None

_SECONDS_BETWEEN_LOOKS = 2.0


def find_cluster(asked: ClusterName | None) -> ClusterName:
    """The cluster that jobs go to."""
    if submitit is None:
        raise JobError(
            "The `launcher` option needs submitit. Install with: "
            'pip install "heavytail-optax[cluster]"',
            exit_status=USAGE,
        )
    has_slurm = submitit.SlurmExecutor.affinity() > 0
    if asked == "slurm" and not has_slurm:
        raise JobError(
            "The `cluster` option is slurm, but SLURM's commands (srun, sbatch, sacct) "
            "are not found on this host. Go to a host that has them, or say "
            "--cluster local.",
            exit_status=USAGE,
        )
    return asked or ("slurm" if has_slurm else "local")


class Worker(NamedTuple):
    """Plain values, so that it can be pickled, and a call that does the work."""

    grid: Grid  # in an absolute directory
    command: str
    cluster: ClusterName
    has_cache: bool = True  # of compiled programs and of decoded images

    def __call__(self) -> dict[str, str]:
        """Takes run after run; the label of each that failed, with the reason."""
        grid, machine = self.grid, self.grid.machine
        # submitit sends it ahead of a time limit or a preemption.
        requeue = signal.Signals[f"SIG{submitit.JobEnvironment.USR_SIG}"]
        # On SLURM, SIGTERM also announces a preemption, and submitit ignores it.
        on_cancel = (signal.SIGTERM,) if self.cluster == "local" else ()
        signals = (*on_cancel, requeue)
        with (
            program_cache(self.has_cache),
            Progress(Console(), signals=signals) as progress,
        ):
            try:
                check_machine(machine, grid.runs()[0].settings.data)
            except JobError as error:
                return {f"worker on {socket.gethostname()}": str(error)}
            load = cached_loader(machine.data_dir, progress.reading, self.has_cache)
            done = work(grid, self.command, progress, load)
        if progress.stop.signal == requeue and not done.is_done:
            # All is saved: now submitit may put the job back into the queue.
            signal.raise_signal(requeue)
        return {run.label: problem for run, problem in done.failed.items()}

    def checkpoint(self) -> Any:
        """What submitit puts back into the queue: the same, as all is on the disk."""
        return submitit.helpers.DelayedSubmission(self)


def launch(
    worker: Worker,
    known: Mapping[Run, RunResult],
    progress: Progress,
    options: JobOptions,
) -> dict[str, str]:
    """Submits workers and waits for them, or for a signal; what failed, and why."""
    left = [run for run, result in known.items() if not result.is_done]
    number, cluster = min(options.jobs_at_once, len(left)), worker.cluster
    folder = worker.grid.directory / "submitit"
    try:
        jobs = _submit(worker, number, folder, options)
    except RuntimeError as error:  # of submitit, with what sbatch said
        raise JobError(f"SLURM does not take the jobs: {error}") from error
    progress.note(f"{number} jobs by submitit ({cluster}). Logs: {folder}")
    work_of = {run.label: 1.0 for run in known}
    progress.plan(work_of, work_of.keys() - {run.label for run in left})
    while not all(job.done() for job in jobs) and not progress.stop.is_set():
        done = [run for run in left if read_result(run).is_done]
        progress.done(*(run.label for run in done))
        left = [run for run in left if run not in done]
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if not all(job.done() for job in jobs):
        progress.note(_leave(jobs, cluster))
    problems: dict[str, str] = {}
    for job in jobs:
        problems |= _problems_of(job) if job.done() else {}
    for label, problem in problems.items():
        progress.note(f"{label}: {problem}")
    return problems


def _submit(
    worker: Worker, number: int, folder: pathlib.Path, options: JobOptions
) -> list[Any]:
    minutes, gpus = options.job_minutes, options.gpus_per_job
    if worker.cluster == "slurm":
        executor = submitit.AutoExecutor(folder, "slurm")
        executor.update_parameters(
            name="heavytail",
            timeout_min=minutes,
            nodes=1,
            tasks_per_node=1,
            cpus_per_task=options.cpus_per_job,
            gpus_per_node=gpus or None,
            slurm_partition=options.partition,
        )
        with executor.batch():  # one array
            return [executor.submit(worker) for _ in range(number)]
    executor = submitit.LocalExecutor(folder)
    jobs = []
    # Ctrl-C in the terminal reaches this process alone, not those it starts here.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        for slot in range(number):
            own = tuple(range(slot * gpus, (slot + 1) * gpus))
            executor.update_parameters(
                timeout_min=minutes, gpus_per_node=gpus, visible_gpus=own
            )
            jobs.append(executor.submit(worker))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
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
    problem, errors = "It was killed, or could not start", submitit.core.utils
    # On a shared file system the result may be seen late, so submitit waits for it.
    try:
        if job.paths.result_pickle.exists() or job.paths.submission_file.exists():
            return job.result()
    except errors.FailedJobError as error:
        is_too_long = "timed-out too many times" in str(error)
        problem = "It came to its time limit too often" if is_too_long else "It failed"
    except errors.UncompletedJobError:
        pass
    return {f"job {job.job_id}": f"{problem}. Log: {job.paths.stderr}"}
