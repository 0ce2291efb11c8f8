"""Two processes on this machine that save and restore one replicated state."""

import pathlib
import socket
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).with_name("two_processes.py")
SECONDS = 120


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def run_both(task, directory):
    """Runs a task of `two_processes.py` in two processes; returns what each printed."""
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), port, str(i), task, str(directory)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [output.splitlines()[-1] for output, _ in outputs]


def test_two_processes_save_and_restore_and_pass_over_damage(tmp_path):
    assert run_both("save", tmp_path) == ["restored 3"] * 2
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"2.npz", "3.npz"}
    # What a kill and a bad disk may leave.
    (tmp_path / "4.npz.partial").touch()
    (tmp_path / "3.npz").write_bytes(b"")
    # The first process tells it.
    expected = ["restored 2, notes 1", "restored 2, notes 0"]
    assert run_both("restore", tmp_path) == expected
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"2.npz", "3.npz", "3.damaged"}


def test_what_one_process_cannot_read_or_write_ends_both(tmp_path):
    run_both("save", tmp_path)
    assert run_both("refuse", tmp_path) == ["refused"] * 2


@pytest.mark.slow
def test_one_process_goes_on_where_two_were(tmp_path):
    run_both("save", tmp_path)
    command = [sys.executable, str(PROGRAM), "0", "0", "alone", str(tmp_path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "restored 3, notes 0"
