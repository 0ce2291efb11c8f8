"""Weights of the examples whose one gradient is the tail-inflated gradient."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._sharding import replicated
from heavytail_optax._validation import (
    check_choice,
    check_scalar,
    is_integer,
    type_error,
    value_error,
)

SCHEMES = ("independent", "shared", "balanced")

_NAME = "tail_inflation_weights"
_SIZE = "a positive number of examples, or a mask of shape (n,) with n at least 1"


def as_mask(function: str, argument: str, size: Any, accepted: str = _SIZE) -> Any:
    """A float32 mask of shape (n,), from a number of examples or from a mask."""
    if is_integer(size):
        if size < 1:
            raise value_error(function, argument, accepted, size)
        return jnp.ones(int(size), jnp.float32)
    if not hasattr(size, "dtype"):
        raise type_error(function, argument, accepted, size)
    if size.ndim != 1 or size.shape[0] < 1:
        raise value_error(function, argument, accepted, size)
    # All of it on every device: ranks among all examples are needed of it.
    return replicated(jnp.asarray(size)).astype(bool).astype(jnp.float32)


def check_can_be_split(function: str, argument: str, size: int) -> None:
    """Raises a ValueError unless there are two examples, padding included."""
    if size < 2:
        accepted = (
            "of at least 2 examples with the scheme 'balanced', which splits them into "
            "halves; for one example a device or a micro-step, take "
            "`group_inflation_factors` over those"
        )
        raise value_error(function, argument, accepted, size)


def mean_weights(mask: jax.Array) -> jax.Array:
    """1/n on the n examples that count, 0 on the padding."""
    return mask / jnp.maximum(jnp.sum(mask), 1.0)


def independent_weights(
    z: jax.Array, small: jax.Array, second: jax.Array, large: jax.Array
) -> jax.Array:
    """1/n on SB, z/n on SB*, -z/n on LB, each with its own n."""
    return jnp.concatenate(
        [mean_weights(small), z * mean_weights(second), -z * mean_weights(large)]
    )


def shared_weights(z: jax.Array, small: jax.Array, large: jax.Array) -> jax.Array:
    """(1 + z)/n on SB, -z/n on LB, each with its own n."""
    return jnp.concatenate([(1.0 + z) * mean_weights(small), -z * mean_weights(large)])


def balanced_signs(key: jax.Array, mask: jax.Array) -> jax.Array:
    """s of a random split of the n examples that count into A and B.

    `s = sqrt(n_B / n_A)` on A and `-sqrt(n_A / n_B)` on B, with `n_A = floor(n/2)`: one
    and minus one for even n. They sum to zero and their squares to n, whatever n; for
    n = 1, as a mask may leave it, there is no split and s is zero.
    """
    number = jnp.sum(mask)
    in_a = jnp.floor(0.5 * number)
    in_b = number - in_a
    # Examples that count come first, in random order.
    order = jnp.where(mask > 0, jax.random.uniform(key, mask.shape), 2.0)
    rank = jnp.argsort(jnp.argsort(order)).astype(mask.dtype)
    of_a = jnp.sqrt(in_b / jnp.maximum(in_a, 1.0))
    of_b = -jnp.sqrt(in_a / jnp.maximum(in_b, 1.0))
    return jnp.where(rank < in_a, of_a, of_b) * mask


def balanced_weights(key: jax.Array, z: jax.Array, small: jax.Array) -> jax.Array:
    """(1 + z s)/n on SB, s from a random split of it into halves."""
    return (1.0 + z * balanced_signs(key, small)) * mean_weights(small)


def _check_z(function: str, z: Any) -> jax.Array:
    check_scalar(
        function, "z", z, "a finite number", lambda value: abs(value) < float("inf")
    )
    return jnp.asarray(z, jnp.promote_types(jnp.result_type(z), jnp.float32))


def _refuse(argument: str, value: Any, scheme: str) -> None:
    raise value_error(_NAME, argument, f"left out with the scheme {scheme!r}", value)


def tail_inflation_weights(
    z: ArrayLike,
    *,
    small: Any,
    large: Any = 0,
    scheme: str,
    second_small: Any = None,
    key: Any = None,
) -> jax.Array:
    r"""Weights with which one weighted loss has the tail-inflated gradient.

    With per-example losses `l_i` over the concatenated batch,

    .. math::
      \nabla \sum_i w_i l_i = g_{SB} + Z\,(g_{SB*} - g_{LB}),

    where each g is a mean over its own batch. The weights are

    ============  ================  =============================  ==========
    examples      ``independent``   ``balanced``                   ``shared``
    ============  ================  =============================  ==========
    SB            1/n_SB            (1 + Z s_i)/n_SB               (1 + Z)/n_SB
    SB*           Z/n_SB*           (none)                         (none)
    LB            -Z/n_LB           (none)                         -Z/n_LB
    ============  ================  =============================  ==========

    with `s_i = sqrt(n_B/n_A)` on a random half A of SB and `-sqrt(n_A/n_B)` on the rest
    B. The noise of `balanced` has mean zero and, for examples drawn independently, the
    covariance of g_SB itself, at the cost of g_SB alone. In every scheme the weights
    sum to one, so that a regulariser inside the loss is not inflated.

    The losses must be independent of each other: batch normalisation and contrastive
    losses are not of this kind; `group_inflation_factors` is for those. Keep the
    weighted sum in float32: in bfloat16 `1 + Z` loses the one from Z = 256.

    Args:
      z: the scalar Z = c W of this step, finite; may be traced.
      small: number of examples of SB; or a mask of shape (n,), true where the example
        counts, where a batch is padded: padding gets weight zero. `balanced` needs two
        examples; where a mask leaves one, its weight is one, whatever z is.
      large: number of examples of LB, or a mask; only for `independent` and `shared`,
        which need it.
      scheme: `"independent"` (the paper's Our 1), `"shared"` (Our 2) or `"balanced"`.
      second_small: number of examples of SB*, or a mask; by default that of SB. Only
        for `independent`.
      key: of the random split: a seed, a typed key or a legacy key. Only for
        `balanced`, which needs it.

    Returns:
      Weights for the concatenated batch [SB, (SB*,) LB], float32, or float64 if z is.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if a size is not positive, or one with `balanced`, the scheme is
        unknown, or an argument does not belong to the scheme.

    Example:
      >>> import heavytail_optax as hto
      >>> print(hto.tail_inflation_weights(2.0, small=2, large=4, scheme="shared"))
      [ 1.5  1.5 -0.5 -0.5 -0.5 -0.5]
      >>> weights = hto.tail_inflation_weights(
      ...     2.0, small=4, scheme="balanced", key=0
      ... )
      >>> print(sorted(weights.tolist()))
      [-0.25, -0.25, 0.75, 0.75]

    References:
      Wang, Oh, Rhee, ICLR 2022 (arXiv 2102.04297): `independent` and `shared`, there
      with a backward pass for each gradient. Random weights on examples: Wu et al. 2020
      (arXiv 1906.07405); signs of +-1 on the halves of an even batch: Theta, branch
      `rademacher` (github.com/vaseline555/Theta).
    """
    check_choice(_NAME, "scheme", scheme, SCHEMES)
    z = _check_z(_NAME, z)
    small = as_mask(_NAME, "small", small)
    has_large = not (is_integer(large) and large == 0)
    if scheme != "independent" and second_small is not None:
        _refuse("second_small", second_small, scheme)
    if scheme == "balanced":
        if has_large:
            _refuse("large", large, scheme)
        check_can_be_split(_NAME, "small", small.shape[0])
        check_key(_NAME, key)
        return balanced_weights(tagged_key(key, _NAME), z, small)
    if key is not None:
        _refuse("key", key, scheme)
    if not has_large:
        raise value_error(_NAME, "large", f"given with the scheme {scheme!r}", large)
    large = as_mask(_NAME, "large", large)
    if scheme == "shared":
        return shared_weights(z, small, large)
    second = small if second_small is None else second_small
    return independent_weights(z, small, as_mask(_NAME, "second_small", second), large)


def group_inflation_factors(z: ArrayLike, *, num_groups: int, key: Any) -> jax.Array:
    r"""Factors for the gradients of equal groups, whose mean is then tail-inflated.

    .. math::
      \frac1G \sum_{i=1}^G (1 + Z s_i)\, g_i = \bar g + Z\, v, \qquad
      v = \frac1G \sum_i s_i g_i,

    with `g_i` the mean gradient of group i and the signs `s_i` of
    `tail_inflation_weights` with the scheme `balanced`, over groups instead of examples.
    Groups are the micro-batches of an accumulated gradient, or the replicas of data
    parallel training, each of which multiplies its own gradient by its factor ahead of
    the all-reduce that happens anyway. (In `shard_map` that all-reduce is part of
    `jax.grad` unless the parameters are cast to varying first, as in the example.) No per-example loss is needed, so this serves any
    model, batch normalisation included. For groups drawn independently, v has mean zero
    and the covariance of the mean gradient.

    Args:
      z: the scalar Z = c W of this step, finite; equal on all replicas.
      num_groups: G, at least 2.
      key: of the random split, equal on all replicas: a seed, a typed key or a legacy
        key. A new one in each step.

    Returns:
      Factors of shape (num_groups,), float32, or float64 if z is; their mean is one.

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
    z = _check_z(function, z)
    signs = balanced_signs(
        tagged_key(key, function), jnp.ones(int(num_groups), jnp.float32)
    )
    return 1.0 + z * signs.astype(z.dtype)
