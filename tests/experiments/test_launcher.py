"""Jobs by submitit, with stand-ins for those that train: see test_launched_runs.py."""

import dataclasses
import functools
import io
import json
import operator
import os
import pathlib
import signal
import stat

import pytest
from heavytail_optax.experiments.runs.cell_job import CellJob
from heavytail_optax.experiments.runs.job_options import (
    JobOptions,
    LauncherError,
    find_cluster,
)
from heavytail_optax.experiments.runs.job_queues import LocalQueue, SlurmQueue
from heavytail_optax.experiments.runs.machine import THIS_MACHINE
from rich.console import Console

from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.runs import launcher
from heavytail_optax.experiments.runs.grid import new_grid
from heavytail_optax.experiments.settings import replaced
from heavytail_optax.experiments.storage.run_lock import RunBusyError
from heavytail_optax.experiments.terminal.session import open_session

PRESET = "corrupted-digits-short"


@dataclasses.dataclass(frozen=True)
class StandIn:
    """Takes the place of a `CellJob` here; at the other end it is a plain function."""

    directory: pathlib.Path
    function: functools.partial

    def __reduce__(self):
        return functools.partial, (self.function.func, *self.function.args)


def returns(*result):
    return functools.partial(operator.add, (), result)


def does(program):
    """Carries out lines of Python."""
    return functools.partial(exec, f"import os, signal, sys, time\n{program}")


@pytest.fixture
def grid(tmp_path, tiny):
    settings = replaced(tiny, sharpness_samples=20)
    return new_grid(
        tmp_path / "grid", PRESET, settings, ("sgd", "balanced", "shared"), 1
    )


@pytest.fixture
def launched(grid, monkeypatch):
    """Launches stand-ins for the cells; returns those left, and what was shown."""

    def run(functions, cluster="local", **options):
        cells = list(grid.cells())[: len(functions)]
        standins = {
            cell: StandIn(cell.directory, function)
            for cell, function in zip(cells, functions, strict=True)
        }
        monkeypatch.setattr(launcher, "_job", lambda cell, *_: standins[cell])
        file = io.StringIO()
        with open_session(Console(file=file, width=200), 6) as session:
            left = launcher.launch(
                grid, cells, "", session, THIS_MACHINE, JobOptions(**options), cluster
            )
        return left, file.getvalue()

    return run


def test_what_jobs_come_to_is_told(launched, grid):
    functions = [
        returns("failed", "No data."),
        does("os.kill(os.getpid(), 9)"),
        returns("busy", "Held."),
    ]
    left, output = launched(functions, jobs_at_once=3)
    first, second, third = grid.cells()
    found = {each.cell: each for each in left}
    log = grid.directory / "submitit"
    assert found[first].problem.startswith(f"No data. Log: {log}")
    assert found[second].problem.startswith("It was killed, or could not start. Log: ")
    assert found[third].is_busy and not found[first].is_busy
    assert f"{third.label}: another process is at work on it" in output
    assert f"{first.label} failed: No data." in output
    for each in (found[first], found[second]):
        assert pathlib.Path(each.problem.partition("Log: ")[2]).exists()


def test_no_more_jobs_at_once_than_asked_for(launched, tmp_path):
    # Each counts those at work with it.
    program = (
        f"os.chdir({str(tmp_path)!r}); mine = f'at-work-{{os.getpid()}}'; "
        "open(mine, 'w').close(); time.sleep(0.3); "
        "seen = sum(name.startswith('at-work') for name in os.listdir()); "
        "open('seen', 'a').write(f'{seen}\\n'); os.remove(mine); os._exit(0)"
    )
    for jobs_at_once in (1, 2):
        launched([does(program)] * 3, jobs_at_once=jobs_at_once)
        seen = [int(line) for line in (tmp_path / "seen").read_text().split()]
        assert len(seen) == 3 and max(seen) <= jobs_at_once
        (tmp_path / "seen").unlink()


def test_jobs_at_the_same_time_have_gpus_of_their_own(tmp_path):
    queue = LocalQueue(tmp_path, JobOptions(jobs_at_once=2, gpus_per_job=2))
    look = functools.partial(eval, "__import__('os').environ['CUDA_VISIBLE_DEVICES']")
    jobs = queue.submit([StandIn(tmp_path, look)] * 2)
    assert [job.result() for job in jobs] == ["0,1", "2,3"]


def test_ctrl_c_stops_local_jobs(launched, tmp_path):
    # One handles the signal as a `CellJob` does; the other one is where Ctrl-C comes.
    started, ended = tmp_path / "started", tmp_path / "ended"
    long = (
        "def stop(*_):\n"
        f"    open({str(ended)!r}, 'w').close(); os._exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"open({str(started)!r}, 'w').close(); time.sleep(300)"
    )
    press = (
        f"while not os.path.exists({str(started)!r}): time.sleep(0.1)\n"
        f"os.kill({os.getpid()}, signal.SIGINT); os._exit(0)"
    )
    _, output = launched([does(long), does(press)], jobs_at_once=2)
    assert "The jobs have stopped; what they did is kept." in output
    assert ended.exists()


def make_script(path, text):
    path.write_text("#!/bin/bash\n" + text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands with SLURM's names, which run the jobs of an array one by one here."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    make_script(
        folder / "sbatch",
        f"""
if test -e {folder}/refusal; then echo invalid partition >&2; exit 1; fi
cp $1 {folder}/batch.sh
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' $1)
export SLURM_ARRAY_JOB_ID=7 SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0
(for i in $(seq 0 $last); do
  SLURM_JOB_ID=$((7 + i)) SLURM_ARRAY_TASK_ID=$i bash {folder}/batch.sh
done) > {folder}/output 2>&1 &
echo Submitted batch job 7
""",
    )
    make_script(
        folder / "srun",
        """
while test "${1#--}" != "$1"; do
  case $1 in --output|--error) shift 2;; *) shift;; esac
done
exec "$@"
""",
    )
    make_script(folder / "sacct", f"cat {folder}/states")
    (folder / "states").write_text(
        "JobID|State|NodeList\n7_0|PENDING|\n7_1|RUNNING|a\n"
    )
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_slurm_is_asked_for_what_the_options_say(launched, grid, slurm):
    options = {"jobs_at_once": 3, "job_minutes": 90, "partition": "short"}
    options |= {"gpus_per_job": 2, "cpus_per_job": 5}
    left, _ = launched(
        [returns("finished", ""), returns("failed", "No data.")], "slurm", **options
    )
    (failed,) = left
    assert failed.problem.startswith("No data. Log: ")
    script = (slurm / "batch.sh").read_text("utf-8")
    for line in (
        *("--time=90", "--partition=short", "--gpus-per-node=2", "--cpus-per-task=5"),
        *("--array=0-1%2", "--ntasks-per-node=1", "--nodes=1", "--job-name=heavytail"),
        "--signal=USR2@90",
    ):
        assert f"#SBATCH {line}\n" in script
    ids = json.loads((grid.directory / "submitit" / "jobs.json").read_text("utf-8"))
    assert ids == {"sgd/seed-0": "7_0", "balanced/seed-0": "7_1"}


def test_jobs_that_slurm_still_has_are_not_submitted_again(grid, tmp_path, slurm):
    queue = SlurmQueue(tmp_path, JobOptions())
    jobs = [StandIn(cell.directory, returns("finished", "")) for cell in grid.cells()]
    assert queue.earlier(jobs) == {}
    names = ["/".join(job.directory.parts[-2:]) for job in jobs]
    ids = {names[0]: "7_0", names[1]: "7_1", names[2]: "6_0"}
    (tmp_path / "jobs.json").write_text(json.dumps(ids))
    states = slurm / "states"
    states.write_text(states.read_text() + "6_0|CANCELLED by 0|\n")
    earlier = queue.earlier(jobs)
    assert {place: job.job_id for place, job in earlier.items()} == {0: "7_0", 1: "7_1"}
    assert [queue.is_at_work(job) for job in earlier.values()] == [False, True]
    assert queue.stop(list(earlier.values())).endswith("scancel 7")
    (tmp_path / "jobs.json").write_text("{")
    assert queue.earlier(jobs) == {}


def test_what_slurm_says_against_the_jobs_is_told(launched, slurm):
    (slurm / "refusal").touch()
    with pytest.raises(
        LauncherError, match="SLURM does not take the jobs: invalid par"
    ):
        launched([returns("finished", "")], "slurm")


def test_submitit_and_slurm_are_looked_for_first(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_cluster(None) == find_cluster("local") == "local"
    with pytest.raises(LauncherError, match="The `cluster` option is slurm, but"):
        find_cluster("slurm")
    make_script(tmp_path / "srun", "")
    assert find_cluster(None) == find_cluster("slurm") == "slurm"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LauncherError, match=r"heavytail-optax\[cluster\]"):
        find_cluster("local")


@pytest.fixture
def job(tmp_path, tiny):
    values = dataclasses.asdict(replaced(tiny, method="sgd"))
    return CellJob(tmp_path / "cell", PRESET, values, "", THIS_MACHINE, "local")


def call_with(monkeypatch, job, action):
    """What a job returns, and how often the signal reached submitit."""
    reached = []
    monkeypatch.setattr(CellJob, "_run", lambda self, should_stop: action(should_stop))
    before = signal.signal(signal.SIGUSR2, lambda *_: reached.append(1))
    try:
        return job(), len(reached)
    finally:
        signal.signal(signal.SIGUSR2, before)


def stops_at(number, status):
    def action(should_stop):
        assert not should_stop()
        signal.raise_signal(number)
        assert should_stop()
        return status

    return action


def test_the_signal_ahead_of_the_limit_goes_on_to_submitit_when_all_is_saved(
    monkeypatch, job
):
    stop = stops_at(signal.SIGUSR2, "interrupted")
    assert call_with(monkeypatch, job, stop) == (("interrupted", ""), 1)
    # If nothing is left to do, the job need not come again.
    stop = stops_at(signal.SIGUSR2, "finished")
    assert call_with(monkeypatch, job, stop) == (("finished", ""), 0)
    # Ctrl-C where the grid is watched.
    stop = stops_at(signal.SIGTERM, "interrupted")
    assert call_with(monkeypatch, job, stop) == (("interrupted", ""), 0)
    again = job.checkpoint()
    assert again.function is job and again.args == ()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RunBusyError("Held."), ("busy", "Held.")),
        (JobError("No data."), ("failed", "No data.")),
        (MemoryError("all\nof it"), ("failed", "MemoryError: all")),
    ],
)
def test_a_job_returns_its_error_in_words(monkeypatch, job, error, expected, capsys):
    def fail(should_stop):
        raise error

    assert call_with(monkeypatch, job, fail) == (expected, 0)
    assert str(error) in capsys.readouterr().err
