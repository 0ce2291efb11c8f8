"""Factors that turn the gradients of groups of examples into a tail-inflated mean."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from heavytail_optax._inflation_weights import balanced_signs, checked_z
from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._typing import Key
from heavytail_optax._validation import is_integer, type_error, value_error


def group_inflation_factors(z: ArrayLike, *, num_groups: int, key: Key) -> jax.Array:
    r"""Factors for the gradients of equal groups that make their mean tail-inflated.

    .. math::
      \frac1G \sum_{i=1}^G (1 + Z s_i)\, g_i = \bar g + Z\, v, \qquad
      v = \frac1G \sum_i s_i g_i,

    where `g_i` is the mean gradient of group i. The signs `s_i` are those of
    `balanced_inflation_weights`, for groups instead of examples. The groups are the
    micro-batches of an accumulated gradient, or the replicas of data-parallel training.
    Each replica multiplies its own gradient by its factor before the all-reduce that
    happens anyway. (In `shard_map` that all-reduce is part of `jax.grad`, unless the
    parameters are cast to varying first, as in the example.) No per-example loss is
    needed, so this works for any model, batch normalisation included. If the groups are
    drawn independently, v has mean zero and the covariance of the mean gradient.

    Args:
      z: the scalar Z = c W of this step, finite. It must be equal on all replicas.
      num_groups: G, at least 2.
      key: the key of the random split, equal on all replicas: a seed, a typed key or a
        legacy key. Use a new one in each step.

    Returns:
      Factors of shape (num_groups,), float32, or float64 if z is. Their mean is one.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if there are fewer than two groups.

    Example:
      >>> import functools, jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> factors = hto.group_inflation_factors(3.0, num_groups=4, key=0)
      >>> print(sorted(factors.tolist()))
      [-2.0, -2.0, 4.0, 4.0]
      >>> def replica_gradient(params, batch):  # inside shard_map over the axis "data"
      ...     # Else the gradient of replicated parameters is summed over the axis already.
      ...     params = jax.lax.pcast(params, "data", to="varying")
      ...     own = factors[jax.lax.axis_index("data")]
      ...     return jax.lax.pmean(own * jax.grad(loss)(params, batch), "data")
    """
    function = "group_inflation_factors"
    accepted = "an integer of at least 2"
    if not is_integer(num_groups):
        raise type_error(function, "num_groups", accepted, num_groups)
    if num_groups < 2:
        raise value_error(function, "num_groups", accepted, num_groups)
    check_key(function, key)
    z = checked_z(function, z)
    signs = balanced_signs(
        tagged_key(key, function), jnp.ones(int(num_groups), jnp.float32)
    )
    return 1.0 + z * signs.astype(z.dtype)
