"""Where the jobs of submitit go: processes of this host, or the queue of SLURM."""

import contextlib
import json
import os
import pathlib
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import submitit

from heavytail_optax.experiments.runs.cell_job import CellJob, JobStatus
from heavytail_optax.experiments.runs.job_options import JobOptions, LauncherError
from heavytail_optax.experiments.storage.durable_files import replace_file

Job = submitit.Job[Any]

_SECONDS_TO_STOP = 30.0

# Of a job that is waiting or at work, in the words of sacct.
_UNDER_WAY = (
    "PENDING",
    "RUNNING",
    "REQUEUED",
    "COMPLETING",
    "CONFIGURING",
    "SUSPENDED",
)


class JobQueue(Protocol):
    """Takes jobs."""

    def room(self, submitted: int) -> int | None:
        """How many more jobs it takes when so many are submitted; None for any number."""

    def submit(self, jobs: Sequence[CellJob]) -> list[Job]:
        """Submits jobs."""

    def earlier(self, jobs: Sequence[CellJob]) -> dict[int, Job]:
        """Those that are submitted already and still under way, by their place."""

    def is_at_work(self, job: Job) -> bool:
        """Whether a job that is not done has left the queue."""

    def stop(self, jobs: Sequence[Job]) -> str:
        """Called when the user no longer waits; returns what happens to the jobs."""


class LocalQueue:
    """Processes of this host.

    Args:
      folder: for submitit's files.
      options: of the jobs.
    """

    def __init__(self, folder: pathlib.Path, options: JobOptions) -> None:
        self._options = options
        self._executor = submitit.LocalExecutor(folder)
        self._executor.update_parameters(
            timeout_min=options.job_minutes, gpus_per_node=options.gpus_per_job
        )
        self._slots: dict[int, Job] = {}

    def room(self, submitted: int) -> int:
        """See `JobQueue`."""
        return self._options.jobs_at_once - submitted

    def submit(self, jobs: Sequence[CellJob]) -> list[Job]:
        """See `JobQueue`. Jobs at the same time have GPUs of their own."""
        return [self._submit(job) for job in jobs]

    def _submit(self, job: CellJob) -> Job:
        busy = {slot for slot, other in self._slots.items() if not other.done()}
        slot = min(set(range(self._options.jobs_at_once)) - busy)
        gpus = self._options.gpus_per_job
        self._executor.update_parameters(
            visible_gpus=tuple(range(slot * gpus, (slot + 1) * gpus))
        )
        with _interrupts_held():
            self._slots[slot] = self._executor.submit(job)
        return self._slots[slot]

    def earlier(self, jobs: Sequence[CellJob]) -> dict[int, Job]:
        """See `JobQueue`. The lock of a cell shows if a job of earlier is at work."""
        del jobs
        return {}

    def is_at_work(self, job: Job) -> bool:
        """See `JobQueue`."""
        del job
        return True

    def stop(self, jobs: Sequence[Job]) -> str:
        """See `JobQueue`. They save what is done, and end."""
        # A process that has only just started may miss it, hence again and again.
        while left := [job for job in jobs if not job.done()]:
            for job in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(job.job_id), signal.SIGTERM)
            give_up_at = time.monotonic() + _SECONDS_TO_STOP
            while time.monotonic() < give_up_at and not all(j.done() for j in left):
                time.sleep(0.1)
        return "The jobs have stopped; what they did is kept."


class SlurmQueue:
    """The queue of SLURM; all jobs together are one array of it.

    Args:
      folder: for submitit's files, which all hosts see.
      options: of the jobs.
    """

    def __init__(self, folder: pathlib.Path, options: JobOptions) -> None:
        self._folder = folder
        self._executor = submitit.SlurmExecutor(folder)
        asked = {
            "job_name": "heavytail",
            "time": options.job_minutes,
            "nodes": 1,
            "ntasks_per_node": 1,
            "cpus_per_task": options.cpus_per_job,
            "array_parallelism": options.jobs_at_once,
            "partition": options.partition,
            "gpus_per_node": options.gpus_per_job or None,
        }
        self._executor.update_parameters(
            **{name: value for name, value in asked.items() if value is not None}
        )

    def room(self, submitted: int) -> None:
        """See `JobQueue`. SLURM itself keeps to the number at the same time."""
        del submitted

    def submit(self, jobs: Sequence[CellJob]) -> list[Job]:
        """See `JobQueue`.

        Raises:
          LauncherError: if SLURM refuses them.
        """
        submitted = []
        try:
            with self._executor.batch():
                submitted = [self._executor.submit(job) for job in jobs]
        except RuntimeError as error:  # of submitit, with what sbatch said
            raise LauncherError(f"SLURM does not take the jobs: {error}") from error
        ids = {_name(job): new.job_id for job, new in zip(jobs, submitted, strict=True)}
        text = json.dumps({**self._ids(), **ids}, indent=2)
        replace_file(self._ids_path, text + "\n")
        return submitted

    def earlier(self, jobs: Sequence[CellJob]) -> dict[int, Job]:
        """See `JobQueue`."""
        ids = self._ids()
        known = {
            place: submitit.SlurmJob[Any](self._folder, ids[_name(job)])
            for place, job in enumerate(jobs)
            if _name(job) in ids
        }
        return {
            place: job
            for place, job in known.items()
            if not job.paths.result_pickle.exists()
            and _state(job, "force") in _UNDER_WAY
        }

    def is_at_work(self, job: Job) -> bool:
        """See `JobQueue`."""
        return _state(job, "cache") not in ("PENDING", "REQUEUED", "UNKNOWN")

    def stop(self, jobs: Sequence[Job]) -> str:
        """See `JobQueue`. They go on."""
        arrays = dict.fromkeys(job.job_id.partition("_")[0] for job in jobs)
        return f"The jobs go on. To cancel them: scancel {' '.join(arrays)}"

    @property
    def _ids_path(self) -> pathlib.Path:
        return self._folder / "jobs.json"

    def _ids(self) -> Mapping[str, str]:
        """Cell -> the job last submitted for it."""
        try:
            ids = json.loads(self._ids_path.read_text(encoding="utf-8"))
            return {str(name): str(number) for name, number in ids.items()}
        except (OSError, ValueError, AttributeError):
            return {}


def result_of(job: Job) -> tuple[JobStatus, str]:
    """What a job that is done came to, and what went wrong in words."""
    # On a shared file system the result may be seen late, so submitit waits for it.
    if job.paths.result_pickle.exists() or not isinstance(job, submitit.LocalJob):
        try:
            return job.result()
        except RuntimeError as error:  # of submitit
            if "timed-out too many times" in str(error):
                return "failed", "It came to its time limit too often."
    return "failed", "It was killed, or could not start."


def _name(job: CellJob) -> str:
    return "/".join(job.directory.parts[-2:])


def _state(job: Job, mode: str) -> str:
    words = job.watcher.get_state(job.job_id, mode=mode).split()
    return words[0] if words else "UNKNOWN"


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C in the terminal reaches this process alone, not those it starts here."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
