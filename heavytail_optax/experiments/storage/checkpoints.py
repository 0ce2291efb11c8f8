"""Checkpoints of a run: the newest two states, each in a file that `numpy.load` reads.

NumPy does not notice all damage, so the file ends with the SHA-256 of what is before.
"""

import hashlib
import io
import itertools
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from ..files import make_directory, replacing
from ..parallel import fail_together, from_first_process
from .run_directory import RunDirectoryError

State = TypeVar("State")

_KEPT = 2
_SUFFIX = ".npz"
_DIGITS = 2 * hashlib.sha256().digest_size


def checkpoint_path(directory: pathlib.Path, step: int) -> pathlib.Path:
    """Where the state after a step is."""
    return directory / f"{step}{_SUFFIX}"


def save_checkpoint(directory: pathlib.Path, step: int, state: Any) -> None:
    """Saves a pytree of arrays, the same on all devices, and keeps the one before."""
    with fail_together():
        if jax.process_index() != 0:
            return
        arrays = {
            spec: np.asarray(_data(leaf)) for spec, leaf in _by_spec(state).items()
        }
        make_directory(directory)
        with (
            replacing(checkpoint_path(directory, step)) as partial,
            partial.open("w+b") as file,
        ):
            np.savez(file, **arrays)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0, os.SEEK_END)
            file.write(digest.encode())
        unfinished = directory.glob(f"*{_SUFFIX}.partial")
        older = [checkpoint_path(directory, old) for old in _steps(directory)[_KEPT:]]
        for path in (*unfinished, *older):
            path.unlink()


def restore_latest(
    directory: pathlib.Path, like: State, note: Callable[[str], None] = warnings.warn
) -> State | None:
    """The newest state that is whole, None if there is none; damaged files are renamed."""
    step, content = -1, None
    with fail_together():
        if jax.process_index() == 0:
            step, content = _newest_whole(directory, note)
    step = from_first_process(step)
    if step < 0:
        return None
    path = checkpoint_path(directory, step)
    with fail_together():
        content = content or _read_whole(path)
        if content is None:
            raise RunDirectoryError(_damage(path))
        with np.load(io.BytesIO(content)) as file:
            arrays = dict(file)
        wanted = _by_spec(like)
        for there, spec in itertools.zip_longest(arrays, wanted):
            if there != spec:
                raise RunDirectoryError(
                    f"{path} holds the state of other settings or of another version: "
                    f"{there or 'nothing'} instead of {spec or 'nothing'}."
                )
        leaves = [_put(arrays[spec], leaf) for spec, leaf in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _newest_whole(
    directory: pathlib.Path, note: Callable[[str], None]
) -> tuple[int, bytes | None]:
    damaged: list[pathlib.Path] = []
    for step in _steps(directory):
        path = checkpoint_path(directory, step)
        content = _read_whole(path)
        if content is None:
            damaged.append(path)
            continue
        for other in damaged:
            kept = other.rename(other.with_suffix(".damaged"))
            note(
                f"{_damage(other)} It is kept as {kept}; the run goes on from step "
                f"{step:,}."
            )
        return step, content
    if damaged:
        raise RunDirectoryError(
            f"No checkpoint in {directory} can be restored. To start from step 0, remove "
            f"that directory. {' '.join(map(_damage, damaged))}"
        )
    return -1, None


def _read_whole(path: pathlib.Path) -> bytes | None:
    """The content of a checkpoint; None if it is damaged."""
    # What the system cannot read now may be whole: an older one must not replace it.
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        return None
    except OSError as error:
        raise RunDirectoryError(
            f"The checkpoint {path} cannot be read: {error.strerror}. Go on when the "
            "disk can be read again."
        ) from error
    digest = hashlib.sha256(memoryview(content)[:-_DIGITS]).hexdigest()
    return content if content[-_DIGITS:] == digest.encode() else None


def _damage(path: pathlib.Path) -> str:
    return f"{path} is damaged: its checksum does not match."


def _steps(directory: pathlib.Path) -> list[int]:
    """Of all checkpoints, the newest first."""
    # No glob, which takes a directory that cannot be read for an empty one.
    try:
        paths = list(directory.iterdir())
    except FileNotFoundError:
        return []
    names = [path.stem for path in paths if path.suffix == _SUFFIX]
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def _by_spec(tree: Any) -> dict[str, jax.Array]:
    """Each array by its place, dtype and shape, in the order of the leaves."""
    return {
        f"{jax.tree_util.keystr(place)} {leaf.dtype}{list(leaf.shape)}": leaf
        for place, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _data(leaf: jax.Array) -> jax.Array:
    """The bits of a typed key; any other array as it is."""
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _put(values: np.ndarray, like: jax.Array) -> jax.Array:
    data = _data(like)
    # NumPy keeps the bits of bfloat16, but not its name.
    values = values.view(data.dtype)
    array = jax.make_array_from_callback(
        data.shape, data.sharding, lambda index: values[index]
    )
    if data is like:
        return array
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))
