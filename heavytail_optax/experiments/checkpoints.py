"""Checkpoints of a run, by Orbax. The one file that knows Orbax.

A checkpoint is written under a temporary name and renamed when it is whole, so that a
process killed at any moment leaves the one before.
"""

import pathlib
from typing import Any, Self, TypeVar

import jax
import orbax.checkpoint as ocp

State = TypeVar("State")


class Checkpoints:
    """The newest checkpoints in a directory; use as a context manager.

    Args:
      directory: where they are; made if it is not there.

    Example:
      >>> import pathlib, tempfile
      >>> import jax.numpy as jnp
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     with Checkpoints(pathlib.Path(directory)) as checkpoints:
      ...         checkpoints.save(3, {"weight": jnp.ones(2)})
      ...         checkpoints.restore_latest({"weight": jnp.zeros(2)})["weight"].tolist()
      [1.0, 1.0]
    """

    def __init__(self, directory: pathlib.Path) -> None:
        # Not asynchronous: the state is donated to the next chunk, and on a CPU the
        # writer would read the very memory that the next chunk overwrites.
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def save(self, step: int, state: Any) -> None:
        """Saves a pytree of arrays under the number of a step.

        Args:
          step: number of steps done.
          state: a pytree of arrays.
        """
        self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore_latest(self, like: State) -> State | None:
        """The newest state.

        Args:
          like: a pytree of arrays of the same structure, shapes and dtypes.

        Returns:
          The state with the structure of `like`; None if there is no checkpoint.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
