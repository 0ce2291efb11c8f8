import errno

import jax.numpy as jnp
import pytest
from small_file_systems import make_read_only, mounted_tmpfs

from heavytail_optax.experiments.storage.checkpoints import (
    restore_latest,
    save_checkpoint,
)
from heavytail_optax.experiments.storage.metrics_log import append_metrics, read_metrics
from heavytail_optax.experiments.storage.run_directory import (
    RunDirectoryError,
    disk_errors,
)
from heavytail_optax.experiments.training.trainer import Metrics


def test_a_disk_that_fills_up_keeps_the_run_to_go_on_with(tmp_path):
    states = [{"a": jnp.arange(50_000) * 77_777 + step} for step in range(30)]
    with mounted_tmpfs(tmp_path / "small", "size=1m") as directory:
        checkpoints = directory / "checkpoints"
        with (
            pytest.raises(RunDirectoryError, match="No space left"),
            disk_errors(directory),
        ):
            for step, state in enumerate(states):
                (directory / f"ballast-{step}").write_bytes(b"1" * 65536)
                save_checkpoint(checkpoints, step, state)
        assert step > 1
        (directory / "ballast-0").unlink()
        restored = restore_latest(checkpoints, states[0])
        assert restored["a"].tolist() == states[step - 1]["a"].tolist()


def test_metrics_on_a_disk_that_fills_up_keep_whole_lines(tmp_path):
    with mounted_tmpfs(tmp_path / "small", "size=16k") as directory:
        log = directory / "metrics.jsonl"
        with (
            pytest.raises(RunDirectoryError, match="No space left"),
            disk_errors(directory),
        ):
            for step in range(1000):
                append_metrics(log, Metrics(step, *(0.1,) * 10))
        assert [row.step for row in read_metrics(log)] == list(range(step))


def test_a_read_only_disk_is_told(tmp_path):
    with mounted_tmpfs(tmp_path / "fixed", "size=1m") as directory:
        make_read_only(directory)
        with (
            pytest.raises(RunDirectoryError, match="Read-only"),
            disk_errors(directory),
        ):
            save_checkpoint(directory / "checkpoints", 1, {"a": jnp.zeros(3)})


@pytest.mark.parametrize("code", [errno.EDQUOT, errno.EACCES, errno.EIO])
def test_what_the_system_says_is_told(tmp_path, code):
    for name in (None, tmp_path / "a", str(tmp_path / "a" / "b")):
        error = OSError(code, "as the system says", name)
        with pytest.raises(RunDirectoryError) as caught, disk_errors(tmp_path):
            raise error
        assert caught.value.__cause__ is error


def test_other_errors_pass_as_they_are(tmp_path):
    for error in (
        ValueError("shapes"),
        OSError(errno.EACCES, "denied", "/data/images.gz"),
        FileNotFoundError(errno.ENOENT, "none", str(tmp_path / "a")),
        RunDirectoryError("in use"),
    ):
        with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
            raise error
        assert caught.value is error
