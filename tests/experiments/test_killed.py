"""A run killed by SIGKILL goes on to the same end, bit for bit."""

import math
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typed_options import options_with

from heavytail_optax import cli
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.storage.checkpoints import (
    checkpoint_path,
    restore_latest,
    save_checkpoint,
)
from heavytail_optax.experiments.storage.metrics_log import read_metrics
from heavytail_optax.experiments.storage.run_directory import RunPaths, read_config
from heavytail_optax.experiments.training.batches import random_streams
from heavytail_optax.experiments.training.trainer import build_trainer

METHOD = "truncated-heavy-tailed-sgd"
STEPS = 24
OPTIONS = ["--methods", METHOD, "--steps", str(STEPS), "--eval-every", "1"]

# Python tells its audit hooks of all that it is about to do with files.
KILL_AT_EVENT = """
import os, signal, sys
number, part = int(sys.argv.pop(1)), sys.argv.pop(1)
count = 0

def hook(event, arguments):
    global count
    first = arguments[0] if arguments else None
    if event == "open" or event.startswith(("os.", "shutil.")):
        if isinstance(first, (str, os.PathLike)) and part in os.fspath(first):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
from heavytail_optax.cli import main
sys.exit(main())
"""
# Of a checkpoint in work: it is opened to write, opened to sync, and renamed.
IN_WORK = ".npz.partial"
ALL = "/checkpoints"


def paths_of(directory):
    return RunPaths.of(directory / METHOD / "seed-0")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_options):
    """An uninterrupted run."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    arguments = ["train", *options_with(tiny_options, *OPTIONS)]
    arguments += ["--directory", str(directory)]
    assert cli.main(arguments) == 0
    return directory


def initial_state(directory):
    settings = read_config(paths_of(directory).config)["settings"]
    shape = (settings.data.image_size, settings.data.image_size, 1)
    return build_trainer(replaced(settings, method=METHOD), shape, 10).init(
        random_streams(settings.seed)
    )


def result_of(directory):
    """All that a run ends with but the time it took."""
    rows = read_metrics(paths_of(directory).metrics)
    checkpoints = paths_of(directory).checkpoints
    state = restore_latest(checkpoints, initial_state(directory))
    names = {path.name for path in checkpoints.iterdir()}
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    return names, [row._replace(seconds=0) for row in rows], arrays


def assert_same(directory, whole_directory):
    names, rows, arrays = result_of(directory)
    expected_names, expected_rows, expected_arrays = result_of(whole_directory)
    assert names == expected_names == {f"{STEPS - 1}.npz", f"{STEPS}.npz"}
    assert rows == expected_rows and len(rows) == STEPS
    for array, expected in zip(arrays, expected_arrays, strict=True):
        assert array.dtype == expected.dtype
        assert array.tobytes() == expected.tobytes()


def run_killed_at_event(number, part, arguments):
    """Dies before the event of this number among those with a path like that."""
    result = subprocess.run(
        [sys.executable, "-c", KILL_AT_EVENT, str(number), part]
        + ["train", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr


def run_killed_after(seconds, directory, arguments):
    """Counted from the first metrics, since the start-up takes most of the time."""
    log = paths_of(directory).metrics
    process = subprocess.Popen(
        [sys.executable, "-m", "heavytail_optax", "train", *arguments],
        stdout=subprocess.DEVNULL,
    )
    lines = read_metrics(log)
    deadline = time.monotonic() + 300
    while read_metrics(log) == lines and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(seconds)
    process.kill()
    return process.wait()


def test_killed_inside_a_checkpoint_and_at_a_random_moment(
    whole, tmp_path, tiny_options
):
    directory = tmp_path / "killed"
    start = options_with(tiny_options, *OPTIONS, "--directory", str(directory))
    # Of the fourth checkpoint, before it is renamed.
    run_killed_at_event(12, IN_WORK, start)
    left = {path.name for path in paths_of(directory).checkpoints.iterdir()}
    assert left == {"2.npz", "3.npz", "4.npz.partial"}
    before = len(read_metrics(paths_of(directory).metrics))
    status = run_killed_after(0.1, directory, ["--resume", str(directory)])
    assert status == -signal.SIGKILL
    assert 1 < before < STEPS
    assert cli.main(["train", "--resume", str(directory)]) == 0
    assert_same(directory, whole)


def test_the_last_bit_of_a_metric_or_of_an_array_is_seen(whole, tmp_path):
    _, rows, arrays = result_of(whole)
    directory = tmp_path / "other"
    shutil.copytree(whole, directory)
    assert_same(directory, whole)
    log = paths_of(directory).metrics
    text = log.read_text("utf-8")
    loss = rows[3].train_loss
    log.write_text(text.replace(repr(loss), repr(math.nextafter(loss, 9))), "utf-8")
    with pytest.raises(AssertionError):
        assert_same(directory, whole)
    log.write_text(text, "utf-8")
    assert_same(directory, whole)
    leaf = max(arrays, key=np.size)
    changed = np.nextafter(leaf, np.float32(9))
    leaves = [jnp.asarray(changed if array is leaf else array) for array in arrays]
    state = jax.tree.unflatten(jax.tree.structure(initial_state(directory)), leaves)
    checkpoints = paths_of(directory).checkpoints
    before = checkpoint_path(checkpoints, STEPS).read_bytes()
    save_checkpoint(checkpoints, STEPS, state)
    assert checkpoint_path(checkpoints, STEPS).read_bytes() != before
    with pytest.raises(AssertionError):
        assert_same(directory, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_again_and_again(whole, tmp_path, tiny_options, seed, monkeypatch):
    # Compiled anew each time, so that the cache of compiled programs hides nothing.
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
    draw = random.Random(seed)
    directory = tmp_path / "killed"
    arguments = options_with(tiny_options, *OPTIONS, "--directory", str(directory))
    for _ in range(5):
        if draw.random() < 0.5:
            # Within one of the next checkpoints.
            run_killed_at_event(draw.randrange(1, 40), ALL, arguments)
        else:
            run_killed_after(draw.uniform(0, 0.3), directory, arguments)
        if directory.joinpath("grid.json").exists():
            arguments = ["--resume", str(directory)]
    command = [sys.executable, "-m", "heavytail_optax", "train", *arguments]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    assert_same(directory, whole)
