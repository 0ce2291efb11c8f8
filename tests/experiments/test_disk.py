import errno
import os
import shutil
import subprocess
import sys

import jax.numpy as jnp
import pytest
from small_file_systems import make_read_only, mounted_tmpfs

from heavytail_optax.experiments.settings import replaced
from heavytail_optax.experiments.storage.checkpoints import Checkpoints
from heavytail_optax.experiments.storage.disk import (
    bytes_of_run,
    check_room,
    disk_errors,
)
from heavytail_optax.experiments.storage.metrics_log import append_metrics, read_metrics
from heavytail_optax.experiments.storage.run_directory import (
    RunDirectoryError,
    claim,
    probe_path,
)
from heavytail_optax.experiments.training.random_streams import random_streams
from heavytail_optax.experiments.training.trainer import Metrics, build_trainer

MIB = 2**20


def size_on_disk(directory):
    return sum(512 * path.lstat().st_blocks for path in directory.rglob("*"))


@pytest.mark.parametrize("method", ["sgd", "truncated-heavy-tailed-sgd"])
def test_a_run_needs_no_more_than_is_asked_for(tiny, method, tmp_path):
    state = build_trainer(replaced(tiny, method=method), (16, 16, 1), 10).init(
        random_streams(0)
    )
    largest = 0
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(3):
            checkpoints.save(step, state)
            largest = max(largest, size_on_disk(tmp_path / str(step)))
    two_and_one_in_work = size_on_disk(tmp_path) + largest
    assert two_and_one_in_work < bytes_of_run(state) < two_and_one_in_work + 4 * MIB


def test_large_states_are_counted_three_times():
    state = {"weight": jnp.zeros((1000, 1000))}
    assert 12 * 10**6 < bytes_of_run(state) < 16 * 10**6
    assert 20 * 10**6 < bytes_of_run(state, methods=2) < 25 * 10**6


def test_room_is_enough_and_nothing_is_left(tmp_path):
    check_room(tmp_path, 1000)
    assert list(tmp_path.iterdir()) == []
    # Killed in the middle of it, a process leaves a file that is in nobody's way.
    probe_path(tmp_path).touch()
    claim(tmp_path)
    check_room(tmp_path, 1000)
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_told_with_numbers(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    message = r"needs [\d,]+\.\d MiB of disk space, and only [\d,]+\.\d MiB are free"
    with pytest.raises(RunDirectoryError, match=message):
        check_room(tmp_path, 2 * free)


def test_what_is_there_counts_as_part_of_what_is_needed(tmp_path):
    with mounted_tmpfs(tmp_path / "small", "size=8m") as directory:
        check_room(directory, 7 * MIB)
        (directory / "checkpoint").write_bytes(b"1" * 5 * MIB)
        check_room(directory, 7 * MIB)
        with pytest.raises(RunDirectoryError, match=r"needs 4.0 MiB .* 3.0 MiB are"):
            check_room(directory, 9 * MIB)


def test_a_full_disk_is_told(tmp_path):
    with mounted_tmpfs(tmp_path / "full", "size=1m") as directory:
        (directory / "data").write_bytes(b"1" * (MIB - 65536))
        with pytest.raises(RunDirectoryError, match=r"disk is full \(0.1 MiB free\)"):
            check_room(directory, 1000)
        assert [path.name for path in directory.iterdir()] == ["data"]


def test_a_disk_that_is_out_of_names_is_told(tmp_path):
    with (
        mounted_tmpfs(tmp_path / "few", "size=16m,nr_inodes=20") as directory,
        pytest.raises(RunDirectoryError, match="more files than the 19 that"),
    ):
        check_room(directory, 1000)


def test_a_read_only_disk_is_told(tmp_path):
    with mounted_tmpfs(tmp_path / "fixed", "size=1m") as directory:
        make_read_only(directory)
        with pytest.raises(RunDirectoryError, match="the file system is read-only"):
            check_room(directory, 1000)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EACCES, "permission is denied"),
    ],
)
def test_what_the_system_says_is_told(tmp_path, monkeypatch, code, reason):
    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunDirectoryError, match=f"cannot be written to: {reason}"):
        check_room(tmp_path, 1000)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="a part of the path is a file"):
        check_room(tmp_path / "file" / "run", 1000)
    with pytest.raises(RunDirectoryError, match="it is not there"):
        check_room(tmp_path / "none", 1000)


def test_a_limit_on_the_size_of_files_is_told(tmp_path):
    program = (
        "import pathlib, resource, sys; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2); "
        "from heavytail_optax.experiments.storage.disk import check_room; "
        "check_room(pathlib.Path(sys.argv[1]), 4 * 2**20, 3 * 2**20)"
    )
    for limit, message in (
        (1000, "larger than the limit of this process"),
        (2 * MIB, "files of 3.0 MiB, and this process may write no file over 2.0 MiB"),
        (3 * MIB, ""),
    ):
        result = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), str(limit)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ("RunDirectoryError" in result.stderr) == bool(message)
        assert message in result.stderr
        assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_keeps_the_run_to_go_on_with(tmp_path):
    states = [{"a": jnp.arange(50_000) * 77_777 + step} for step in range(30)]
    with mounted_tmpfs(tmp_path / "small", "size=1m") as directory:
        with (
            pytest.raises(RunDirectoryError, match="disk is full .* go on by --resume"),
            disk_errors(directory),
            Checkpoints(directory / "checkpoints") as checkpoints,
        ):
            for step, state in enumerate(states):
                (directory / f"ballast-{step}").write_bytes(b"1" * 65536)
                checkpoints.save(step, state)
        assert step > 1
        (directory / "ballast-0").unlink()
        with Checkpoints(directory / "checkpoints") as checkpoints:
            restored = checkpoints.restore_latest(states[0])
        assert restored["a"].tolist() == states[step - 1]["a"].tolist()


def test_metrics_on_a_disk_that_fills_up_keep_whole_lines(tmp_path):
    with mounted_tmpfs(tmp_path / "small", "size=16k") as directory:
        log = directory / "metrics.jsonl"
        with (
            pytest.raises(RunDirectoryError, match="the disk is full"),
            disk_errors(directory),
        ):
            for step in range(1000):
                append_metrics(log, Metrics(step, *(0.1,) * 9))
        assert [row.step for row in read_metrics(log)] == list(range(step))


def test_errors_in_threads_and_behind_others_are_seen(tmp_path):
    full = OSError(errno.ENOSPC, "full", str(tmp_path / "a"))
    wrapped = RuntimeError("saving failed")
    wrapped.__cause__ = full
    for error in (full, wrapped, ExceptionGroup("both", [KeyError("a"), wrapped])):
        with (
            pytest.raises(RunDirectoryError, match="the disk is full"),
            disk_errors(tmp_path),
        ):
            raise error


def test_other_errors_pass_as_they_are(tmp_path):
    elsewhere = OSError(errno.EACCES, "denied", "/data/images.gz")
    for error in (
        ValueError("shapes"),
        KeyError("a"),
        elsewhere,
        FileNotFoundError(errno.ENOENT, "none", str(tmp_path / "a")),
        RunDirectoryError("in use"),
    ):
        with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
            raise error
        assert caught.value is error
