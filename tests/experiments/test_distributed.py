"""`heavytail train` in two processes of this host that share a run directory."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from typed_options import options_with
from written_images import write_folder

from heavytail_optax import cli
from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.parallel import (
    Cluster,
    cluster_arguments,
    join_cluster,
)
from heavytail_optax.experiments.storage.metrics_log import read_metrics

METHOD = "truncated-heavy-tailed-sgd"
SECONDS = 900
ARGUMENTS = ("--methods", METHOD, "--batch-size", "11")
# In the process of this number, after its first checkpoint.
INTERRUPTED = """
import os, signal, sys, jax
from heavytail_optax.experiments.storage import checkpoints
save = checkpoints.save_checkpoint
def save_and_stop(directory, step, state):
    save(directory, step, state)
    if step == 2 and str(jax.process_index()) in {whom!r}:
        os.kill(os.getpid(), signal.{signal})
checkpoints.save_checkpoint = save_and_stop
from heavytail_optax.cli import main
sys.exit(main())
"""
WHOLE = "import sys; from heavytail_optax.cli import main; sys.exit(main())"


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def train_in_two(*options, program=WHOLE, devices=1, second=()):
    """Exit status and both outputs of each of two processes."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    common = ["--distributed", "--coordinator", f"localhost:{free_port()}"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, "train", *common, *options]
            + ["--num-processes", "2", "--process-id", str(number)]
            + (list(second) if number == 1 else []),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"XLA_FLAGS": flags},
        )
        for number in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return [
        (process.returncode, output)
        for process, output in zip(processes, outputs, strict=True)
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_options):
    """The metrics of the run in one process on one device."""
    directory = tmp_path_factory.mktemp("alone") / "run"
    options = options_with(tiny_options, *ARGUMENTS, "--directory", str(directory))
    assert cli.main(["train", *options]) == 0
    return metrics_of(directory)


def metrics_of(directory):
    return read_metrics(directory / METHOD / "seed-0" / "metrics.jsonl")


def assert_same_run(directory, alone):
    rows = metrics_of(directory)
    assert [row.step for row in rows] == [2, 4, 6]
    for ours, theirs in zip(rows, alone, strict=True):
        np.testing.assert_allclose(ours[:-1], theirs[:-1], rtol=1e-5, atol=2e-6)
    # A line for each evaluation: only one process writes them.
    assert (directory / METHOD / "seed-0" / "metrics.jsonl").read_text().count(
        "\n"
    ) == 3
    assert (directory / "training.png").exists()


def test_ctrl_c_in_one_process_stops_both_and_one_goes_on(
    alone, tiny_options, tmp_path
):
    directory = tmp_path / "run"
    options = options_with(tiny_options, *ARGUMENTS, "--directory", str(directory))
    program = INTERRUPTED.format(whom="1", signal="SIGINT")
    (status, output), (other_status, other) = train_in_two(*options, program=program)
    assert (status, other_status) == (130, 130), output + other
    assert "To go on: " in output and "interrupted" in output
    # The same place among the same processes.
    (go_on,) = re.findall("To go on: (.*)", output)
    assert f"--resume {directory} --distributed --coordinator localhost:" in go_on
    assert "--num-processes 2 --process-id 0" in go_on
    # Only the first one says how it goes.
    assert "test" not in other and "To go on" not in other
    assert [row.step for row in metrics_of(directory)] == [2, 4]
    assert cli.main(["train", "--resume", str(directory)]) == 0
    assert_same_run(directory, alone)


@pytest.mark.slow
def test_ctrl_c_in_both_processes_and_both_go_on(alone, tiny_options, tmp_path):
    directory = tmp_path / "run"
    options = options_with(tiny_options, *ARGUMENTS, "--directory", str(directory))
    program = INTERRUPTED.format(whom="01", signal="SIGINT")
    results = train_in_two(*options, program=program, devices=2)
    assert [status for status, _ in results] == [130, 130], results
    results = train_in_two("--resume", str(directory), devices=2)
    assert [status for status, _ in results] == [0, 0], results
    assert_same_run(directory, alone)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_two_processes_do_the_run_of_one(alone, tiny_options, tmp_path, devices):
    directory = tmp_path / "run"
    options = options_with(tiny_options, *ARGUMENTS, "--directory", str(directory))
    results = train_in_two(*options, devices=devices)
    assert [status for status, _ in results] == [0, 0], results
    assert_same_run(directory, alone)
    # Used already: the first process refuses it, and the other one does not wait.
    results = train_in_two(*options)
    assert [status for status, _ in results] == [1, 1]
    assert "is not empty" in results[0][1]
    assert "Another process cannot go on" in results[1][1]


@pytest.mark.slow
def test_when_a_process_is_killed_the_first_one_says_so(alone, tiny_options, tmp_path):
    directory = tmp_path / "run"
    options = options_with(tiny_options, *ARGUMENTS, "--directory", str(directory))
    program = INTERRUPTED.format(whom="1", signal="SIGKILL")
    (status, output), (killed, _) = train_in_two(*options, program=program)
    assert (status, killed) == (1, -signal.SIGKILL), output
    assert "Another process is gone" in output
    assert cli.main(["train", "--resume", str(directory)]) == 0
    assert_same_run(directory, alone)


@pytest.mark.slow
def test_other_settings_in_another_process_are_refused(tiny_options, tmp_path):
    directory = tmp_path / "run"
    options = options_with(tiny_options, *ARGUMENTS, "--directory", str(directory))
    results = train_in_two(*options, second=("--seed", "1"))
    assert [status for status, _ in results] == [1, 2]
    assert "are not those of the first one" in results[1][1]
    assert "Another process cannot go on" in results[0][1]


def join_alone(*fields):
    """Exit status and messages of a process that waits for two seconds."""
    program = (
        "from heavytail_optax.experiments.parallel import *\n"
        f"with join_cluster(Cluster(True, {', '.join(map(repr, fields))}, 2)):\n"
        "    print('joined')"
    )
    process = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert not process.stdout
    return process.returncode, process.stderr


def test_peers_that_do_not_come_are_told():
    status, message = join_alone(f"localhost:{free_port()}", 3, 0)
    assert status == 1
    assert "--join-seconds" in message and "not all of 3 processes" in message
    assert "Check failure" not in message


@pytest.mark.slow
def test_a_coordinator_that_is_not_there_is_told():
    address = f"localhost:{free_port()}"
    status, message = join_alone(address, 2, 1)
    assert status == 1
    assert address in message and "process 0" in message


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"coordinator": "here:1"}, "only with --distributed"),
        ({"process_id": 0}, "only with --distributed"),
        ({"join_seconds": 5}, "only with --distributed"),
        (("here:1", 2), "must be given together"),
        ((None, 2, 0), "must be given together"),
        (("here", 2, 0), "`coordinator` option must be HOST:PORT"),
        (("here:0", 2, 0), "Got 'here:0' instead"),
        (("here:x", 2, 0), "`coordinator` option must be HOST:PORT"),
        (("here:1", 0, 0), "`num_processes` option must be"),
        (("here:1", 2, 2), "an integer from 0 to 1. Got 2 instead"),
        (("here:1", 2, -1), "`process_id` option must be"),
        ({"distributed": True, "join_seconds": 0}, "`join_seconds` option must be"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        Cluster(**options) if isinstance(options, dict) else Cluster(True, *options)


def test_the_options_of_a_process_start_it_again():
    cluster = Cluster(distributed=True, process_id=None, join_seconds=60)
    assert cluster_arguments(cluster) == ["--distributed", "--join-seconds", "60"]
    assert cluster_arguments(Cluster()) == []


def test_a_run_directory_is_needed(capsys):
    assert cli.main(["train", "--distributed"]) == 2
    assert "--distributed needs --directory or --resume" in capsys.readouterr().err


def test_a_mistake_that_the_data_show_has_its_option_and_status(tmp_path):
    """As in a process that is not one of several."""
    images = write_folder(tmp_path / "images")
    arguments = ["--directory", str(tmp_path / "run"), "--methods", "sgd"]
    arguments += ["--data", "folder", "--data-dir", str(images), "--batch-size", "2"]
    arguments += ["--model", "vgg11", "--distributed"]
    arguments += ["--coordinator", f"localhost:{free_port()}"]
    process = subprocess.run(
        [sys.executable, "-c", WHOLE, "train", *arguments]
        + ["--num-processes", "1", "--process-id", "0"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert process.returncode == 2, process.stderr
    assert "The --image-size option must be at least 32 for vgg11" in process.stderr


def test_a_host_that_does_not_exist_is_told_at_once():
    cluster = Cluster(True, "no-such-host.invalid:1", 2, 1)
    with pytest.raises(JobError, match=re.escape("no-such-host.invalid")):
        join_cluster(cluster).__enter__()


def test_a_port_in_use_is_told_at_once():
    with socket.create_server(("", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        with pytest.raises(JobError, match="Address already in use"):
            join_cluster(Cluster(True, address, 2, 0)).__enter__()


def test_where_jax_finds_no_others_it_is_told():
    # Asked for too late here, which is refused by the same way.
    with pytest.raises(JobError, match="--coordinator"):
        join_cluster(Cluster(True)).__enter__()


def test_a_process_on_its_own_joins_nothing():
    with join_cluster(Cluster()):
        pass
