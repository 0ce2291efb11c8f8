"""Workers by submitit: with stand-ins for their work, and (slow) at real work."""

import csv
import functools
import io
import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
import time

import pytest
from rich.console import Console
from typed_options import options_with

from heavytail_optax import cli
from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.runs import submitit_workers, worker
from heavytail_optax.experiments.runs.grid import Grid, variants_of
from heavytail_optax.experiments.runs.options import JobOptions, Machine
from heavytail_optax.experiments.runs.result import read_result, read_results
from heavytail_optax.experiments.runs.submitit_workers import (
    Worker,
    find_cluster,
    launch,
)
from heavytail_optax.experiments.runs.worker import Work
from heavytail_optax.experiments.storage.metrics_log import read_metrics
from heavytail_optax.experiments.storage.run_directory import HOLDER, RunLock, RunPaths
from heavytail_optax.experiments.terminal import Progress

PRESET = "corrupted-digits-short"


class StandIn:
    """Takes the place of a `Worker` here; at the other end it is lines of Python.

    What they leave in `problems` is returned.
    """

    def __init__(self, program, grid, cluster="local"):
        self.grid, self.cluster = grid, cluster
        lines = f"import os, signal, sys, time\nproblems = {{}}\n{program}"
        self.code = (
            f"(lambda found: (exec({lines!r}, found), found['problems'])[1])({{}})"
        )

    def __reduce__(self):
        return functools.partial, (eval, self.code)


@pytest.fixture
def grid(tmp_path, tiny):
    variants = variants_of(tiny, ("sgd", "balanced", "shared"))
    return Grid(tmp_path / "grid", PRESET, variants, (0,), is_measured=True)


@pytest.fixture
def launched(grid):
    """Launches stand-ins; returns their problems, and what was shown."""

    def launched(program, cluster="local", **options):
        stand_in = StandIn(program, grid, cluster)
        file = io.StringIO()
        with Progress(Console(file=file, width=200)) as progress:
            known = read_results(grid)
            problems = launch(stand_in, known, progress, JobOptions(**options))
        return problems, file.getvalue()

    return launched


def one_of(place, first, others):
    """Lines of Python, other ones in the worker that comes to them first."""
    indented = [text.replace("\n", "\n    ") for text in (first, others)]
    return (
        f"try:\n    os.mkdir({str(place)!r})\nexcept FileExistsError:\n    {indented[1]}"
        f"\nelse:\n    {indented[0]}"
    )


def test_what_workers_come_to_is_told(launched, grid, tmp_path):
    fails, dies = "problems['sgd, seed 0'] = 'No data.'", "os.kill(os.getpid(), 9)"
    problems, output = launched(one_of(tmp_path / "first", fails, dies), jobs_at_once=2)
    assert problems.pop("sgd, seed 0") == "No data."
    ((job, problem),) = problems.items()
    assert job.startswith("job ")
    log = pathlib.Path(problem.partition("Log: ")[2])
    assert log.exists() and log.parent == grid.directory / "submitit"
    assert "sgd, seed 0: No data." in output and f"{job}: {problem}" in output


def test_a_worker_that_fails_is_not_said_to_be_killed(launched, grid):
    problems, _ = launched("raise ValueError('no such thing')", jobs_at_once=1)
    (problem,) = problems.values()
    assert "killed" not in problem
    log = pathlib.Path(problem.partition("Log: ")[2])
    assert log.parent == grid.directory / "submitit"
    assert "no such thing" in log.read_text("utf-8")


def test_what_keeps_a_worker_from_its_work_is_told(grid):
    grid = grid._replace(machine=Machine(devices=999))
    (problem,) = Worker(grid, "", "local")().values()
    assert "`devices`" in problem


@pytest.mark.parametrize(("jobs_at_once", "expected"), [(2, 2), (9, 3)])
def test_there_are_no_more_workers_than_asked_for_or_than_runs(
    launched, tmp_path, jobs_at_once, expected
):
    program = f"open(os.path.join({str(tmp_path)!r}, f'at-{{os.getpid()}}'), 'w')"
    assert launched(program, jobs_at_once=jobs_at_once)[0] == {}
    assert len(list(tmp_path.glob("at-*"))) == expected


def test_what_is_done_is_not_read_again(grid, monkeypatch):
    read = []
    monkeypatch.setattr(
        submitit_workers,
        "read_result",
        lambda run: read.append(run) or read_result(run)._replace(status="diverged"),
    )
    known = read_results(grid)
    first, *others = known
    known[first] = known[first]._replace(status="diverged")
    with Progress(Console(file=io.StringIO())) as progress:
        worker = StandIn("time.sleep(1)", grid)
        assert launch(worker, known, progress, JobOptions()) == {}
    assert read == others


def test_workers_of_a_host_have_gpus_of_their_own(launched):
    program = "name = os.environ['CUDA_VISIBLE_DEVICES']; problems[name] = ''"
    assert set(launched(program, jobs_at_once=2, gpus_per_job=2)[0]) == {"0,1", "2,3"}


def test_ctrl_c_stops_local_workers(launched, tmp_path):
    # One handles the signal as a `Worker` does; the other one is where Ctrl-C comes.
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
    _, output = launched(one_of(tmp_path / "first", long, press), jobs_at_once=2)
    assert "The jobs have stopped" in output
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
export SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0
if test -z "$last"; then  # one job is no array
  SLURM_JOB_ID=7 bash {folder}/batch.sh > {folder}/output 2>&1 &
else
  export SLURM_ARRAY_JOB_ID=7
  (for i in $(seq 0 $last); do
    SLURM_JOB_ID=$((7 + i)) SLURM_ARRAY_TASK_ID=$i bash {folder}/batch.sh
  done) > {folder}/output 2>&1 &
fi
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
        "JobID|State|NodeList\n7|PENDING|\n7_0|PENDING|\n7_1|RUNNING|a\n"
    )
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_slurm_is_asked_for_what_the_options_say(launched, slurm, tmp_path):
    options = {"jobs_at_once": 2, "job_minutes": 90, "partition": "short"}
    options |= {"gpus_per_job": 2, "cpus_per_job": 5}
    fails = "problems['sgd, seed 0'] = 'No data.'"
    program = one_of(tmp_path / "first", fails, "pass")
    problems, _ = launched(program, "slurm", **options)
    assert problems == {"sgd, seed 0": "No data."}
    script = (slurm / "batch.sh").read_text("utf-8")
    for line in (
        *("--time=90", "--partition=short", "--gpus-per-node=2", "--cpus-per-task=5"),
        *("--ntasks-per-node=1", "--nodes=1", "--job-name=heavytail"),
        "--signal=USR2@90",
    ):
        assert f"#SBATCH {line}\n" in script
    assert "#SBATCH --array=0-1" in script


def test_ctrl_c_leaves_the_jobs_to_slurm(launched, slurm):
    press = f"os.kill({os.getpid()}, signal.SIGINT); time.sleep(3)"
    # One job, as a second one would press when nobody waits any more.
    _, output = launched(press, "slurm", jobs_at_once=1)
    assert "scancel 7" in output


def test_what_slurm_says_against_the_jobs_is_told(launched, slurm):
    (slurm / "refusal").touch()
    with pytest.raises(JobError, match="invalid partition"):
        launched("pass", "slurm")


def test_submitit_and_slurm_are_looked_for_first(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_cluster(None) == find_cluster("local") == "local"
    with pytest.raises(JobError, match="`cluster` option is slurm"):
        find_cluster("slurm")
    make_script(tmp_path / "srun", "")
    assert find_cluster(None) == find_cluster("slurm") == "slurm"
    monkeypatch.setattr(submitit_workers, "submitit", None)
    with pytest.raises(JobError, match=r"heavytail-optax\[cluster\]"):
        find_cluster("local")


@pytest.mark.parametrize(
    ("number", "cluster", "is_done", "expected"),
    [
        # The signal ahead of the limit goes on to submitit when all is saved.
        (signal.SIGUSR2, "local", False, [signal.SIGUSR2]),
        (signal.SIGUSR2, "slurm", False, [signal.SIGUSR2]),
        # If nothing is left to do, the job need not come again.
        (signal.SIGUSR2, "local", True, []),
        # Ctrl-C where the workers are watched.
        (signal.SIGTERM, "local", False, []),
        # On SLURM this announces a preemption, which submitit sees to.
        (signal.SIGTERM, "slurm", False, [signal.SIGTERM]),
    ],
)
def test_signals_come_to_whom_they_are_for(
    grid, monkeypatch, number, cluster, is_done, expected
):
    run = grid.runs()[0]
    reached = []

    def work(grid, command, progress, load):
        assert not progress.stop.is_set()
        signal.raise_signal(number)
        assert progress.stop.is_set() == (number not in reached)
        result = worker.read_result(run)._replace(
            status="diverged" if is_done else "missing"
        )
        return Work({run: result}, {run: "No data."}, [])

    monkeypatch.setattr(submitit_workers, "work", work)
    before = {
        each: signal.signal(each, lambda number, _: reached.append(number))
        for each in (signal.SIGUSR2, signal.SIGTERM)
    }
    try:
        job = Worker(grid, "", cluster)
        assert job() == {run.label: "No data."}
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert reached == expected
    again = job.checkpoint()
    assert again.function is job and again.args == ()


@pytest.fixture(scope="module")
def options(tiny_options):
    small = [
        "--sharpness-samples",
        "20",
        "--num-seeds",
        "1",
    ]
    return ["reproduce", *tiny_options, *small, "--methods", "sgd", "balanced"]


def rows_of(directory):
    """runs.csv but for the times."""
    with (directory / "runs.csv").open(encoding="utf-8") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def submitted(directory, *more):
    return ["--launcher", "submitit", "--cluster", "local", *more] + [
        *("--directory", str(directory))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("jobs_at_once", ["1", "2"])
def test_workers_come_to_the_same_numbers(tmp_path, options, jobs_at_once):
    assert cli.main([*options, "--directory", str(tmp_path / "here")]) == 0
    more = submitted(tmp_path / "grid", "--jobs-at-once", jobs_at_once)
    assert cli.main([*options, *more]) == 0
    assert rows_of(tmp_path / "grid") == rows_of(tmp_path / "here")


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_others_are_not_touched(tmp_path, options, capsys):
    directory = tmp_path / "grid"
    assert (
        cli.main(
            options_with(options, "--directory", str(directory), "--num-seeds", "2")
        )
        == 0
    )
    (directory / "sgd/seed-1/measurements.json").unlink()
    # The place of a new method is taken by a file.
    (directory / "shared").touch()
    more = ["--methods", "sgd", "shared"]
    assert cli.main(options_with(options, *more, *submitted(directory))) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "shared (Our 2), seed 0: The run directory" in output
    # It is of another seed than those asked for.
    assert not (directory / "sgd/seed-1/measurements.json").exists()


def long_run(tmp_path, options):
    """A command whose two runs take a while; its process, and their directories."""
    directory = tmp_path / "grid"
    long = ["--steps", "150", *submitted(directory, "--jobs-at-once", "2")]
    arguments = options_with(options, *long)
    process = subprocess.Popen(
        [sys.executable, "-m", "heavytail_optax", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    runs = [directory / method / "seed-0" for method in ("sgd", "balanced")]
    deadline = time.monotonic() + 400
    logs = [RunPaths.of(run).metrics for run in runs]
    while time.monotonic() < deadline and not all(read_metrics(log) for log in logs):
        time.sleep(0.05)
    return arguments, process, runs


@pytest.fixture(scope="module")
def finished_long(tmp_path_factory, options):
    directory = tmp_path_factory.mktemp("grids") / "long"
    arguments = options_with(options, "--steps", "150", "--directory", str(directory))
    assert cli.main(arguments) == 0
    return rows_of(directory)


def process_at(run):
    return json.loads((run / HOLDER).read_text("utf-8"))["pid"]


@pytest.mark.slow
def test_a_killed_worker_is_told_and_the_same_command_goes_on(
    finished_long, tmp_path, options
):
    arguments, process, runs = long_run(tmp_path, options)
    os.kill(process_at(runs[1]), signal.SIGKILL)
    output, _ = process.communicate(timeout=400)
    assert "It was killed, or could not start." in output
    # The other worker may have come in time to take its run.
    assert process.returncode in (0, 1)
    assert cli.main(arguments) == 0
    assert rows_of(tmp_path / "grid") == finished_long


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done(finished_long, tmp_path, options):
    arguments, process, runs = long_run(tmp_path, options)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 130
    assert "The jobs have stopped" in output and "Traceback" not in output
    for run in runs:
        with RunLock(run):
            pass
    assert cli.main(arguments) == 0
    assert rows_of(tmp_path / "grid") == finished_long


@pytest.mark.slow
def test_a_worker_at_its_time_limit_saves_and_comes_again(
    finished_long, tmp_path, options
):
    _, process, runs = long_run(tmp_path, options)
    for run in runs:
        os.kill(process_at(run), signal.SIGUSR2)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    logs = "".join(p.read_text() for p in (tmp_path / "grid/submitit").glob("*.out"))
    assert logs.count("Requeued job") == 2
    assert rows_of(tmp_path / "grid") == finished_long
