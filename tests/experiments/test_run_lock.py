import errno
import os
import signal
import socket
import subprocess
import sys

import filelock
import pytest

from heavytail_optax.experiments.storage.run_directory import (
    HOLDER,
    LOCK,
    RunDirectoryError,
    RunLock,
    claim,
)

HOLD = (
    "import pathlib, sys, time; "
    "from heavytail_optax.experiments.storage.run_directory import RunLock; "
    "lock = RunLock(pathlib.Path(sys.argv[1])); lock.__enter__(); "
    "print('held', flush=True); time.sleep(600)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process, which holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_holds_it_until_that_is_killed(holder, tmp_path):
    message = f"{tmp_path} is in use by process {holder.pid} on {socket.gethostname()} "
    for _ in range(2):
        with pytest.raises(RunDirectoryError, match=message + r"since \d{4}-\d\d-\d\d"):
            RunLock(tmp_path).__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with RunLock(tmp_path):
        assert str(os.getpid()) in (tmp_path / HOLDER).read_text("utf-8")


def test_a_process_that_the_holder_starts_does_not_keep_it(tmp_path):
    program = (
        "import os, pathlib, subprocess, sys; "
        "from heavytail_optax.experiments.storage.run_directory import RunLock; "
        "lock = RunLock(pathlib.Path(sys.argv[1])); lock.__enter__(); "
        "child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL); "
        "print(child.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert result.returncode == -signal.SIGKILL
    try:
        with RunLock(tmp_path):
            pass
    finally:
        os.kill(int(result.stdout), signal.SIGKILL)


def test_a_second_lock_of_the_same_process_is_refused(tmp_path):
    with RunLock(tmp_path):
        with pytest.raises(RunDirectoryError, match=f"process {os.getpid()} on"):
            RunLock(tmp_path).__enter__()
        # Also by another name of the directory, and the refusal has broken nothing.
        (tmp_path / "link").symlink_to(tmp_path)
        with pytest.raises(RunDirectoryError, match=f"process {os.getpid()} on"):
            RunLock(tmp_path / "link").__enter__()
    with RunLock(tmp_path):
        pass


def test_it_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), RunLock(tmp_path):
        raise ZeroDivisionError
    with RunLock(tmp_path):
        pass


def test_what_a_lock_leaves_does_not_occupy_a_directory(tmp_path):
    with RunLock(tmp_path):
        claim(tmp_path)
    claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["run.lock"])


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", '{"pid": 1', "\udcff"])
def test_a_holder_that_has_not_said_who_it_is(tmp_path, text):
    with RunLock(tmp_path):
        (tmp_path / HOLDER).write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(RunDirectoryError, match="in use by another process"):
            RunLock(tmp_path).__enter__()


def test_a_directory_that_is_not_there_is_told_and_not_made(tmp_path):
    with pytest.raises(RunDirectoryError, match=f"no run directory {tmp_path}/none"):
        RunLock(tmp_path / "none").__enter__()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, code):
    fcntl = pytest.importorskip("fcntl")

    def fail(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(RunDirectoryError, match="has no file locks"):
        RunLock(tmp_path).__enter__()


def test_a_lock_that_would_outlive_its_process_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(filelock, "FileLock", filelock.SoftFileLock)
    with pytest.raises(RunDirectoryError, match="has no file locks"):
        RunLock(tmp_path).__enter__()
    assert not (tmp_path / LOCK).exists()


def test_a_lock_file_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(RunDirectoryError, match="cannot be locked: "):
        RunLock(tmp_path).__enter__()
