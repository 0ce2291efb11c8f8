"""Checkpoints of a run, by Orbax. The one file that knows Orbax.

A checkpoint is written under a temporary name and renamed when it is whole, so that a
process killed at any moment leaves the one before. Orbax notices damage to a file's
frame but not to the numbers in it, so a checksum of every array is kept beside them.
"""

import contextlib
import logging
import pathlib
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from heavytail_optax.experiments.run_directory import RunDirectoryError

State = TypeVar("State")

_CHECKSUMS = "crc32"


class Checkpoints:
    """The newest two checkpoints in a directory; use as a context manager.

    With several processes (`jax.distributed`), each of them makes this object, with the
    same directory on a file system that all see, and calls `save` and `restore_latest`
    with the others. The arrays are then global ones, with a sharding over all
    processes' devices, and so are those of `like`.

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
        # Not asynchronous: the state is donated to the next chunk, and on a CPU the
        # writer would read the very memory that the next chunk overwrites.
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
        )
        self._directory = directory.absolute()
        self._note = note
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def save(self, step: int, state: Any) -> None:
        """Saves a pytree of arrays under the number of a step.

        Args:
          step: number of steps done, more than those of all checkpoints.
          state: a pytree of arrays.

        Raises:
          ValueError: if there is a checkpoint of this step or of a later one; or from
            Orbax, if the state cannot be written. Those before are then still there.
        """
        newest = self._manager.latest_step()
        # Orbax would leave it out without a word.
        if newest is not None and step <= newest:
            raise ValueError(
                f"The `step` argument of `save` must be above {newest}, the newest "
                f"checkpoint in {self._directory}. Got {step} instead."
            )
        with _quiet():
            self._manager.save(
                step,
                args=ocp.args.StandardSave(state),
                custom_metadata={_CHECKSUMS: _checksums(state)},
            )

    def restore_latest(self, like: State) -> State | None:
        """The newest state that is whole.

        A newer one that cannot be read is put aside, under the name damaged-<step>.

        Args:
          like: a pytree of arrays of the same structure, shapes and dtypes.

        Returns:
          The state with the structure of `like`; None if there is no checkpoint.

        Raises:
          RunDirectoryError: if there are checkpoints, but none that can be read.
        """
        problems: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state, problem = self._restore(step, like), None
            # Whatever Orbax, TensorStore and the JSON reader make of damaged files.
            except Exception as error:
                state, problem = None, str(error) or type(error).__name__
            if _all_agree(problem is None):
                self._put_aside(problems)
                return state
            problems[step] = problem or "another process could not read it"
        if not problems:
            return None
        reasons = "".join(
            f"\n  step {step:,}: {' '.join(problem.split())[:300]}"
            for step, problem in problems.items()
        )
        raise RunDirectoryError(
            f"No checkpoint in {self._directory} can be restored. To start from step 0, "
            f"remove that directory.{reasons}"
        )

    def _restore(self, step: int, like: State) -> State:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with _quiet():
            arguments = ocp.args.StandardRestore(abstract)
            state = self._manager.restore(step, args=arguments)
            stored = (self._manager.metadata(step).custom_metadata or {}).get(
                _CHECKSUMS
            )
        if stored is not None:  # else from a version that kept none
            found = _checksums(state)
            wrong = [name for name in found if found[name] != stored.get(name)]
            if wrong:
                raise ValueError(f"The checksum of {', '.join(wrong)} is wrong.")
        return state

    def _put_aside(self, problems: dict[int, str]) -> None:
        if not problems:
            return
        for step, problem in problems.items():
            damaged = self._directory / f"damaged-{step}"
            if jax.process_index() == 0:
                shutil.rmtree(damaged, ignore_errors=True)
                (self._directory / str(step)).rename(damaged)
            self._note(
                f"The checkpoint of step {step:,} is damaged, so the one before is "
                f"used. It is kept as {damaged}. ({' '.join(problem.split())[:300]})"
            )
        _all_agree(True)
        self._manager.reload()


def _checksums(state: Any) -> dict[str, int]:
    """One for each array that this process has the whole of."""
    return {
        jax.tree_util.keystr(path): zlib.crc32(np.ascontiguousarray(leaf).data)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if leaf.is_fully_addressable or leaf.is_fully_replicated
    }


def _all_agree(fine: bool) -> bool:
    """Whether it is so in every process. Waits for all of them."""
    if jax.process_count() == 1:
        return fine
    return bool(np.all(multihost_utils.process_allgather(np.asarray(fine))))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracebacks that Orbax logs of errors which it also raises."""
    logger = logging.getLogger("absl")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
