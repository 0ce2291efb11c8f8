import errno
import io
import os
import random
import shutil
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from key_implementations import EVERY

from heavytail_optax.experiments.storage.checkpoints import (
    checkpoint_path,
    restore_latest,
    save_checkpoint,
)
from heavytail_optax.experiments.storage.run_directory import (
    RunDirectoryError,
    disk_errors,
)


class State(NamedTuple):
    step: jax.Array
    key: jax.Array
    params: Any
    opt_state: Any


def state_of(step):
    """A state with all that a training state may hold, other numbers at each step."""
    key = jax.random.key(step)
    params = {
        "weight": jax.random.normal(key, (8, 3)),
        "half": jnp.arange(5, dtype=jnp.bfloat16) * step,
        "empty": jnp.zeros((0, 2)),
        "none": None,
        "odd": jnp.array([np.nan, -0.0, np.inf, 1e-42]) * step,
        "flag": jnp.asarray(step % 2 == 0),
    }
    moments = optax.adam(0.1).init({"weight": params["weight"]})
    return State(
        step=jnp.asarray(step, jnp.int32),
        key=key,
        params=params,
        opt_state=(moments, jax.random.key_data(jax.random.key(step, impl="rbg"))),
    )


LIKE = state_of(0)


def bits_of(tree):
    """Structure, dtypes and bits: equal for two trees only if nothing differs."""
    leaves = [
        jax.random.key_data(leaf)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else leaf
        for leaf in jax.tree.leaves(tree)
    ]
    content = [(leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) for leaf in leaves]
    return jax.tree.structure(tree), content


BITS = {step: bits_of(state_of(step)) for step in range(4)}


def save_steps(directory, steps):
    for step in steps:
        save_checkpoint(directory, step, state_of(step))


def restore(directory):
    """The step of what is restored, which is checked to the last bit, and the notes."""
    notes = []
    restored = restore_latest(directory, LIKE, notes.append)
    step = int(restored.step)
    assert bits_of(restored) == BITS[step]
    return step, notes


def names_in(directory):
    return {path.name for path in directory.iterdir()}


def test_nothing_saved_is_none(tmp_path):
    assert restore_latest(tmp_path / "new", LIKE) is None
    assert not (tmp_path / "new").exists()


def test_a_state_comes_back_to_the_last_bit(tmp_path):
    save_steps(tmp_path / "new", [1, 2])
    assert restore(tmp_path / "new") == (2, [])


def test_a_networks_state_and_every_kind_of_key_come_back(tmp_path):
    state = {
        "network": nnx.as_pure(nnx.state(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))),
        "keys": [jax.random.split(jax.random.key(5, impl=impl), 3) for impl in EVERY],
    }
    save_checkpoint(tmp_path, 1, state)
    restored = restore_latest(tmp_path, jax.tree.map(lambda leaf: leaf[::-1], state))
    assert bits_of(restored) == bits_of(state)
    impls = [str(jax.random.key_impl(key)) for key in restored["keys"]]
    assert impls == list(EVERY)


def test_only_the_newest_two_are_kept(tmp_path):
    save_steps(tmp_path, range(4))
    assert names_in(tmp_path) == {"2.npz", "3.npz"}
    # By number, not by name or age.
    for step in (10, 9):
        save_checkpoint(tmp_path, step, LIKE)
    assert names_in(tmp_path) == {"9.npz", "10.npz"}


def test_a_saved_state_does_not_follow_a_donated_one(tmp_path):
    advance = jax.jit(lambda x: {"a": x["a"] + 1}, donate_argnums=0)
    x = {"a": jnp.zeros(100_000)}
    for step in range(3):
        save_checkpoint(tmp_path, step, x)
        x = advance(x)
    restored = restore_latest(tmp_path, x)
    np.testing.assert_array_equal(restored["a"], np.full(100_000, 2.0))
    # Nor does one that is read follow what becomes of the one restored from it.
    before = checkpoint_path(tmp_path, 2).read_bytes()
    again = restore_latest(tmp_path, x)
    np.testing.assert_array_equal(advance(restored)["a"], np.full(100_000, 3.0))
    np.testing.assert_array_equal(again["a"], np.full(100_000, 2.0))
    assert checkpoint_path(tmp_path, 2).read_bytes() == before


def test_a_state_on_several_devices_comes_back_to_them(tmp_path):
    mesh = jax.make_mesh((2,), ("data",))
    for spec in (jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("data")):
        sharding = jax.sharding.NamedSharding(mesh, spec)
        state = jax.device_put({"a": jnp.arange(6.0)}, sharding)
        save_checkpoint(tmp_path, 1, state)
        restored = restore_latest(tmp_path, jax.tree.map(jnp.zeros_like, state))
        assert restored["a"].sharding.is_equivalent_to(sharding, 1)
        np.testing.assert_array_equal(restored["a"], np.arange(6.0))


class Moments:
    """Copies a directory whenever Python is about to do something in it.

    A copy is what a process that is killed at this moment would leave.
    """

    def __init__(self, directory, copies):
        self.directory, self.copies, self.count = directory, copies, 0
        self.active = False
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        first = arguments[0] if arguments else None
        is_file_event = event == "open" or event.startswith(("os.", "shutil."))
        if self.active and is_file_event and isinstance(first, (str, os.PathLike)):
            self.copy(os.fspath(first))

    def copy(self, path):
        if not path.startswith(os.fspath(self.directory)):
            return
        self.active = False
        shutil.copytree(self.directory, self.copies / str(self.count))
        self.count += 1
        self.active = True


def test_a_kill_at_any_moment_of_the_writing_leaves_a_whole_checkpoint(tmp_path):
    directory, copies = tmp_path / "checkpoints", tmp_path / "copies"
    moments = Moments(directory, copies)
    save_steps(directory, [0, 1])
    moments.active = True
    save_steps(directory, [2])
    moments.active = False
    assert moments.count >= 4
    # What the kernel had not written yet, of the file in work.
    shutil.copytree(copies / "1", copies / str(moments.count))
    for path in (copies / str(moments.count)).glob("*.partial"):
        path.write_bytes(path.read_bytes()[:100])
    found = [restore(copies / str(number)) for number in range(moments.count + 1)]
    steps = [step for step, _ in found]
    # The one before until it is whole, then the new one; nothing looks damaged.
    assert set(steps) == {1, 2} and steps[:-1] == sorted(steps[:-1])
    assert all(notes == [] for _, notes in found)
    # What was left half done is cleared away, and the run goes on.
    for number, step in enumerate(steps):
        save_steps(copies / str(number), [3])
        expected = {f"{step}.npz", "3.npz"}
        assert names_in(copies / str(number)) == expected


def replaced_by_a_directory(path, data, draw):
    path.unlink()
    path.mkdir()


def flipped_bit(path, data, draw):
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def other_bytes(path, data, draw):
    start = draw.randrange(len(data))
    part = data[start : start + draw.randrange(1, 64)]
    data[start : start + len(part)] = draw.randbytes(len(part))
    path.write_bytes(data)


def zeros(path, data, draw):
    start = draw.randrange(len(data))
    path.write_bytes(data[:start] + bytes(len(data) - start))


DAMAGES = {
    "flipped bit": flipped_bit,
    "other bytes": other_bytes,
    "zeros to the end": zeros,
    "other file": lambda path, data, draw: path.write_bytes(draw.randbytes(len(data))),
    "cut": lambda path, data, draw: path.write_bytes(data[: draw.randrange(len(data))]),
    "part missing": lambda path, data, draw: path.write_bytes(
        data[: (start := draw.randrange(len(data)))]
        + data[start + draw.randint(1, 9) :]
    ),
    "longer": lambda path, data, draw: path.write_bytes(
        data + draw.randbytes(draw.randint(1, 4096))
    ),
    "empty": lambda path, data, draw: path.write_bytes(b""),
    "removed": lambda path, data, draw: path.unlink(),
    "directory": replaced_by_a_directory,
}


def check_damage(directory, kind, seed):
    """The one before is restored, the damage is told, and the run goes on."""
    save_steps(directory, [1, 2])
    newest = checkpoint_path(directory, 2)
    data = newest.read_bytes()
    DAMAGES[kind](newest, bytearray(data), random.Random(seed))
    if newest.is_file() and newest.read_bytes() == data:
        assert restore(directory) == (2, [])
        return
    is_left = newest.exists()
    step, notes = restore(directory)
    assert step == 1 and len(notes) == is_left
    assert (directory / "2.damaged").exists() == is_left
    assert all(str(newest) in note and "step 1" in note for note in notes)
    save_steps(directory, [2])
    assert restore(directory) == (2, [])


@pytest.mark.parametrize("kind", DAMAGES)
def test_from_a_damaged_checkpoint_the_run_goes_back_to_the_one_before(kind, tmp_path):
    for seed in range(5):
        check_damage(tmp_path / str(seed), kind, seed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_thousand_damaged_checkpoints(kind, tmp_path):
    for seed in range(100):
        check_damage(tmp_path / str(seed), kind, seed)


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "listdir"])
def test_what_the_system_cannot_read_is_no_damage(tmp_path, monkeypatch, code, call):
    """No older checkpoint, let alone step 0, takes the place of a whole one."""
    directory = tmp_path / "checkpoints"
    save_steps(directory, [1, 2])
    place = checkpoint_path(directory, 2) if call == "open" else directory
    module, reads = (io, io.open) if call == "open" else (os, os.listdir)
    scan = os.scandir

    def fail_at(function):
        def failing(path, *others, **more):
            if isinstance(path, str | os.PathLike) and os.fspath(path) == str(place):
                raise OSError(code, os.strerror(code), str(place))
            return function(path, *others, **more)

        return failing

    with monkeypatch.context() as patch:
        patch.setattr(module, call, fail_at(reads))
        patch.setattr(os, "scandir", fail_at(scan))
        with (
            pytest.raises(RunDirectoryError, match=os.strerror(code)),
            disk_errors(tmp_path),
        ):
            restore_latest(directory, LIKE)
    assert names_in(directory) == {"1.npz", "2.npz"}
    assert restore(directory) == (2, [])


def test_when_all_are_damaged_that_is_told_and_nothing_is_moved(tmp_path):
    save_steps(tmp_path, [1, 2])
    for step in (1, 2):
        checkpoint_path(tmp_path, step).write_bytes(b"")
    with pytest.raises(RunDirectoryError, match=r"2\.npz.*1\.npz"):
        restore_latest(tmp_path, LIKE)
    assert names_in(tmp_path) == {"1.npz", "2.npz"}


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("weight", jnp.zeros((8, 4))),
        ("weight", jnp.zeros((8, 3), jnp.float16)),
        ("weight", jnp.zeros((8, 3), jnp.int32)),
        ("weight", None),
        ("none", jnp.zeros(3)),
        ("more", jnp.zeros(3)),
        ("flag", jax.random.key(0)),
        ("flag", {"flag": jnp.asarray(True)}),
    ],
)
def test_a_state_of_another_structure_is_refused(tmp_path, part, other):
    save_steps(tmp_path, [1, 2])
    like = LIKE._replace(params={**LIKE.params, part: other})
    with pytest.raises(RunDirectoryError, match=f"of other settings .*{part}"):
        restore_latest(tmp_path, like)
    # No damage: nothing is moved, and the one before is not tried.
    assert restore(tmp_path) == (2, [])


def test_keys_of_another_kind_are_refused(tmp_path):
    save_checkpoint(tmp_path, 1, jax.random.key(0, impl="rbg"))
    with pytest.raises(RunDirectoryError, match="key<rbg>"):
        restore_latest(tmp_path, jax.random.key(0, impl="unsafe_rbg"))
