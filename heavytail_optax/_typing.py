"""Types that the signatures of several files share."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike

PyTree: TypeAlias = Any
"""Any container that JAX flattens. Python has no type for it."""

Params: TypeAlias = PyTree
"""Parameters of a model: a pytree of floating arrays."""

Batch: TypeAlias = PyTree
"""Examples: a pytree of arrays with one leading axis over them."""

Key: TypeAlias = int | np.integer | np.ndarray | jax.Array
"""An integer seed, a typed key (`jax.random.key`) or a legacy key."""

Scalar: TypeAlias = float | np.number | np.ndarray | jax.Array
"""A real number, or an array of shape () that holds one; it may be traced."""

OutSharding: TypeAlias = jax.sharding.NamedSharding | jax.P | None
"""Sharding of a result on a mesh with explicit axes; None elsewhere."""

Mask: TypeAlias = np.ndarray | jax.Array
"""Shape (n,), true where an example counts."""

SizeOrMask: TypeAlias = int | Mask
"""A number of examples, or a mask of them."""

ScaleOrSchedule: TypeAlias = ArrayLike | Callable[[jax.Array], ArrayLike]
"""A number, an array of shape (), or a schedule (step -> number)."""

ScaleTree: TypeAlias = PyTree
"""A `ScaleOrSchedule`, or a pytree prefix of the updates with one at each leaf."""

MaxNormTree: TypeAlias = PyTree
"""A number, schedule or `AdaptiveMaxNorm`, or a pytree prefix of the updates of them.

None stands for no bound in a prefix.
"""

AxisNames: TypeAlias = str | tuple[str, ...] | None
"""A mapped axis of `shard_map` or `pmap`, or several; None for none."""

AxisNamesTree: TypeAlias = PyTree
"""`AxisNames`, or a pytree prefix of the updates with them at each leaf."""

Direction: TypeAlias = Literal["elementwise", "isotropic"]
"""The law of the direction of a large jump."""

Scheme: TypeAlias = Literal["independent", "shared", "balanced"]
"""The scheme of tail inflation: which batches make the gradient's noise."""
