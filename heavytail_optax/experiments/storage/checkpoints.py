"""Checkpoints of a run, by Orbax. The one file that knows Orbax.

A checkpoint is written under a temporary name and renamed when it is whole, so that a
process killed at any moment leaves the one before. Orbax notices damage to the frame of
its files, but not to the numbers in them: checksums of the arrays are kept beside them.

Its `CheckpointManager` cannot be opened when one of several checkpoints is damaged, so
that the numbering, and the choice of those to keep, are done here.
"""

import contextlib
import gc
import logging
import pathlib
import shutil
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from heavytail_optax.experiments.storage.durable_files import sync_directory
from heavytail_optax.experiments.storage.run_directory import RunDirectoryError

State = TypeVar("State")

_KEPT = 2
_CHECKSUMS = "crc32"
_REMOVED = "removed-"
_UNFINISHED = (f"{_REMOVED}*", "*.orbax-checkpoint-tmp*")


class Checkpoints:
    """The newest two checkpoints in a directory; use as a context manager.

    With several processes (`jax.distributed`), each of them makes this object, for the
    same directory on a file system that all see, and calls `save` and `restore_latest`
    when the others do. The arrays, also those of `like`, are then global ones, with a
    sharding over the devices of all processes.

    Args:
      directory: where they are; made if it is not there.
      note: is told if the newest checkpoint is damaged and an older one is used.

    Example:
      >>> import pathlib, tempfile
      >>> import jax.numpy as jnp
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     with Checkpoints(pathlib.Path(directory)) as checkpoints:
      ...         checkpoints.save(3, {"weight": jnp.ones(2)})
      ...         checkpoints.restore_latest({"weight": jnp.zeros(2)})["weight"].tolist()
      [1.0, 1.0]
    """

    def __init__(
        self, directory: pathlib.Path, note: Callable[[str], None] = warnings.warn
    ) -> None:
        self._directory = directory.absolute()
        self._note = note
        if _is_first_process():
            self._directory.mkdir(parents=True, exist_ok=True)
            for pattern in _UNFINISHED:
                for path in self._directory.glob(pattern):
                    shutil.rmtree(path)
        _wait_for_all()
        # Not asynchronous: the state is donated to the next chunk, and on a CPU the
        # writer would read the very memory that the next chunk overwrites.
        self._checkpointer = ocp.Checkpointer(ocp.StandardCheckpointHandler())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._checkpointer.close()

    def save(self, step: int, state: Any) -> None:
        """Saves a pytree of arrays under the number of a step; keeps the one before.

        Args:
          step: number of steps done.
          state: a pytree of arrays.

        Raises:
          ValueError: if there is a checkpoint of this step or of a later one; from
            Orbax, if the state cannot be written. Those before are then still there.
        """
        steps = self._steps()
        if steps and step <= steps[0]:
            raise ValueError(
                f"The `step` argument of `save` must be above {steps[0]}, the newest "
                f"checkpoint in {self._directory}. Got {step} instead."
            )
        with _quiet():
            self._checkpointer.save(
                self._directory / str(step),
                args=ocp.args.StandardSave(state),
                custom_metadata={_CHECKSUMS: _checksums(state)},
            )
        if _is_first_process():
            sync_directory(self._directory)
            for old in steps[_KEPT - 1 :]:
                # Half of it would look like a damaged checkpoint after a kill.
                removed = self._directory / f"{_REMOVED}{old}"
                (self._directory / str(old)).rename(removed)
                shutil.rmtree(removed)

    def restore_latest(self, like: State) -> State | None:
        """The newest state that is whole.

        A newer one that cannot be read is put aside, under the name damaged-<step>.

        Args:
          like: a pytree of arrays of the same structure, shapes, dtypes and shardings.

        Returns:
          The state; None if there is no checkpoint.

        Raises:
          RunDirectoryError: if there are checkpoints, but none that can be read.
        """
        problems: dict[int, str] = {}
        for step in _of_first_process(self._steps()):
            try:
                state, problem = self._restore(step, like), None
            # Orbax, TensorStore and JSON each have their own errors for damage.
            except Exception as error:  # noqa: BLE001
                text = str(error) or type(error).__name__
                state, problem = None, " ".join(text.split())[:300]
            if problem is not None:
                with _quiet():
                    gc.collect()
            if _is_so_for_all(problem is None):
                self._put_aside(problems)
                return state
            problems[step] = problem or "another process could not read it"
        if not problems:
            return None
        reasons = "".join(f"\n  step {s:,}: {text}" for s, text in problems.items())
        raise RunDirectoryError(
            f"No checkpoint in {self._directory} can be restored. To start from step 0, "
            f"remove that directory.{reasons}"
        )

    def _steps(self) -> list[int]:
        """Of all checkpoints, the newest first."""
        names = [path.name for path in self._directory.iterdir() if path.is_dir()]
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def _restore(self, step: int, like: State) -> State:
        path = self._directory / str(step)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with _quiet():
            arguments = ocp.args.StandardRestore(abstract)
            state = self._checkpointer.restore(path, args=arguments)
            metadata = self._checkpointer.metadata(path).custom_metadata or {}
        stored = metadata.get(_CHECKSUMS, {})
        found = _checksums(state)
        wrong = [name for name in found if found[name] != stored.get(name)]
        if wrong:
            raise ValueError(f"The checksum of {', '.join(wrong)} does not fit.")
        return state

    def _put_aside(self, problems: dict[int, str]) -> None:
        for step, problem in problems.items():
            damaged = self._directory / f"damaged-{step}"
            if _is_first_process():
                if damaged.exists():
                    shutil.rmtree(damaged)
                (self._directory / str(step)).rename(damaged)
            self._note(
                f"The checkpoint of step {step:,} is damaged, so the one before is "
                f"used. It is kept as {damaged}. ({problem})"
            )
        if problems:
            _wait_for_all()


def _checksums(state: Any) -> dict[str, int]:
    """One for each array that this process has the whole of."""
    return {
        jax.tree_util.keystr(path): zlib.crc32(np.ascontiguousarray(leaf).view("u1"))
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if leaf.is_fully_addressable or leaf.is_fully_replicated
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracebacks that Orbax prints of errors which it also raises."""
    logger = logging.getLogger("absl")
    disabled, hook = logger.disabled, sys.unraisablehook
    logger.disabled = True
    # Where the coroutines end up that were still reading.
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        logger.disabled, sys.unraisablehook = disabled, hook


def _is_first_process() -> bool:
    return jax.process_index() == 0


def _wait_for_all() -> None:
    _is_so_for_all(True)


def _is_so_for_all(fine: bool) -> bool:
    """Whether it is so in every process. Waits for all of them."""
    if jax.process_count() == 1:
        return fine
    return bool(np.all(multihost_utils.process_allgather(np.asarray(fine))))


def _of_first_process(steps: list[int]) -> list[int]:
    """The first process's, as another may see an older state of the directory."""
    if jax.process_count() == 1:
        return steps
    padded = np.full(2 * _KEPT, -1)
    padded[: len(steps)] = steps[: 2 * _KEPT]
    agreed = multihost_utils.broadcast_one_to_all(padded)
    return [int(step) for step in agreed if step >= 0]
