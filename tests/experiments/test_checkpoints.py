import os
import shutil
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax.experiments.settings import replaced
from heavytail_optax.experiments.storage.checkpoints import Checkpoints
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError
from heavytail_optax.experiments.training.random_streams import random_streams
from heavytail_optax.experiments.training.trainer import build_trainer


def test_nothing_saved_is_none(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.restore_latest({"a": jnp.zeros(3)}) is None


def test_state_comes_back_with_its_structure(tiny, tmp_path):
    for method in ("sgd", "balanced", "truncated-heavy-tailed-sgd"):
        state = build_trainer(replaced(tiny, method=method), (16, 16, 1), 10).init(
            random_streams(0)
        )
        blank = jax.tree.map(jnp.zeros_like, state)
        with Checkpoints(tmp_path / method) as checkpoints:
            checkpoints.save(3, blank)
            checkpoints.save(5, state)
        with Checkpoints(tmp_path / method) as checkpoints:
            restored = checkpoints.restore_latest(blank)
        assert jax.tree.structure(restored) == jax.tree.structure(state)
        jax.tree.map(np.testing.assert_array_equal, restored, state)
        dtypes = [
            [leaf.dtype for leaf in jax.tree.leaves(t)] for t in (restored, state)
        ]
        assert dtypes[0] == dtypes[1]


def test_only_the_newest_are_kept(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(5):
            checkpoints.save(step, {"a": jnp.full(3, step)})
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"3", "4"}


def test_a_checkpoint_that_was_cut_short_is_not_seen(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": jnp.ones(3)})
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    (unfinished / "default").write_text("half")
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_latest({"a": jnp.zeros(3)})
    np.testing.assert_array_equal(restored["a"], np.ones(3))


def test_a_saved_state_does_not_follow_a_donated_one(tmp_path):
    advance = jax.jit(lambda x: {"a": x["a"] + 1}, donate_argnums=0)
    x = {"a": jnp.zeros(100_000)}
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(3):
            checkpoints.save(step, x)
            x = advance(x)
        restored = checkpoints.restore_latest(x)
    np.testing.assert_array_equal(restored["a"], np.full(100_000, 2.0))


def state_of(step):
    """Its large array is in a file of its own, the others are not."""
    weight = jax.random.normal(jax.random.key(step), (2000,))
    return {"step": jnp.asarray(step), "weight": weight, "bias": jnp.arange(7) * step}


LIKE = {key: jnp.zeros_like(value) for key, value in state_of(0).items()}


def save_steps(directory, steps):
    with Checkpoints(directory) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_of(step))


def restore(directory):
    """The step of what is restored, which is checked, and the notes."""
    notes = []
    with Checkpoints(directory, notes.append) as checkpoints:
        restored = checkpoints.restore_latest(LIKE)
    step = int(restored["step"])
    jax.tree.map(np.testing.assert_array_equal, restored, state_of(step))
    return step, notes


def copy_what_is_there(source, target):
    """Copies a directory in which other threads are at work."""
    for folder, _, names in os.walk(source):
        copied = target / os.path.relpath(folder, source)
        copied.mkdir(parents=True, exist_ok=True)
        for name in names:
            try:
                shutil.copyfile(os.path.join(folder, name), copied / name)
            except FileNotFoundError:
                continue


class Moments:
    """Copies a directory whenever Python is about to do something in it.

    A copy is what a process that is killed at this moment would leave.
    """

    def __init__(self, directory, copies):
        self.directory, self.copies, self.count = directory, copies, 0
        self.lock, self.copying, self.active = threading.Lock(), False, False
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if not self.active or self.copying:
            return
        first = arguments[0] if arguments else None
        if not isinstance(first, (str, os.PathLike)):
            return
        if event == "open" or event.startswith(("os.", "shutil.")):
            inside = os.fspath(first).startswith(os.fspath(self.directory) + os.sep)
            if inside:
                with self.lock:
                    self.copying = True
                    copy_what_is_there(self.directory, self.copies / str(self.count))
                    self.count += 1
                    self.copying = False


def test_a_kill_at_any_moment_of_the_writing_leaves_a_whole_checkpoint(tmp_path):
    directory, copies = tmp_path / "checkpoints", tmp_path / "copies"
    moments = Moments(directory, copies)
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(1, state_of(1))
        checkpoints.save(2, state_of(2))
        moments.active = True
        checkpoints.save(3, state_of(3))
        moments.active = False
    assert moments.count > 15
    found = [restore(copies / str(number)) for number in range(moments.count)]
    steps = [step for step, _ in found]
    # The one before until it is whole, then the new one; nothing looks damaged.
    assert steps == sorted(steps) and set(steps) == {2, 3}
    assert all(notes == [] for _, notes in found)
    # What was left half done is cleared away, and the run goes on.
    for number in range(moments.count):
        save_steps(copies / str(number), [4])
        names = {path.name for path in (copies / str(number)).iterdir()}
        assert names == {"4", str(steps[number])}


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {"flip": flip, "cut": cut, "remove": lambda path: path.unlink()}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_is_harmless_or_leads_to_the_one_before(tmp_path, damage):
    save_steps(tmp_path / "whole", [1, 2])
    newest = tmp_path / "whole" / "2"
    files = [path for path in newest.rglob("*") if path.stat().st_size]
    files = [path.relative_to(newest) for path in files if path.is_file()]
    found = []
    for number, file in enumerate(files):
        copy = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", copy)
        DAMAGES[damage](copy / "2" / file)
        step, notes = restore(copy)
        found.append(step)
        if step == 1:
            assert "The checkpoint of step 2 is damaged" in " ".join(notes)
            assert (copy / "damaged-2").is_dir()
            # Step 2 is done again, and saved.
            save_steps(copy, [2])
        assert restore(copy) == (2, [])
    assert set(found) == {1, 2}


def test_when_all_are_damaged_that_is_told_and_nothing_is_moved(tmp_path):
    save_steps(tmp_path, [1, 2])
    for step in ("1", "2"):
        shutil.rmtree(tmp_path / step / "d")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(RunDirectoryError, match="To start from step 0") as caught,
    ):
        checkpoints.restore_latest(LIKE)
    assert "\n  step 2: " in str(caught.value) and "\n  step 1: " in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}


def test_a_state_of_another_shape_or_dtype_is_refused(tmp_path):
    save_steps(tmp_path, [1])
    for other in (
        {**LIKE, "weight": jnp.zeros(2001)},
        {**LIKE, "weight": jnp.zeros(2000, jnp.float16)},
        {"weight": LIKE["weight"]},
    ):
        with (
            Checkpoints(tmp_path) as checkpoints,
            pytest.raises(RunDirectoryError, match="can be restored"),
        ):
            checkpoints.restore_latest(other)
    assert restore(tmp_path) == (1, [])


def test_a_step_is_not_saved_twice(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state_of(5))
        for step in (5, 4):
            with pytest.raises(ValueError, match="must be above 5, the newest"):
                checkpoints.save(step, state_of(step))
    assert restore(tmp_path) == (5, [])


def test_dtypes_are_kept(tmp_path):
    state = {
        "half": jnp.ones(3, jnp.bfloat16),
        "key": jax.random.key_data(jax.random.key(1)),
        "flag": jnp.asarray(True),
    }
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        restored = checkpoints.restore_latest(jax.tree.map(jnp.zeros_like, state))
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert all(restored[name].dtype == state[name].dtype for name in state)
