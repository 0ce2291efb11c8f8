"""Weights of examples with which one weighted loss has the tail-inflated gradient."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from heavytail_optax._dtypes import computation_dtype
from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._sharding import replicated
from heavytail_optax._typing import Key, SizeOrMask
from heavytail_optax._validation import (
    check_scalar,
    is_integer,
    type_error,
    value_error,
)

SCHEMES = ("independent", "shared", "balanced")

# Part of the key of the split.
_PURPOSE = "tail_inflation_weights"
_SIZE = "a positive number of examples, or a mask of shape (n,) with n at least 1"


def as_mask(
    function: str, argument: str, size: SizeOrMask, accepted: str = _SIZE
) -> jax.Array:
    """A float32 mask of shape (n,), made from a number of examples or from a mask."""
    if is_integer(size):
        if size < 1:
            raise value_error(function, argument, accepted, size)
        return jnp.ones(int(size), jnp.float32)
    if not hasattr(size, "dtype"):
        raise type_error(function, argument, accepted, size)
    if size.ndim != 1 or size.shape[0] < 1:
        raise value_error(function, argument, accepted, size)
    # Replicated on every device, because the split ranks all examples together.
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

    `s = sqrt(n_B / n_A)` on A and `-sqrt(n_A / n_B)` on B, with `n_A = floor(n/2)`. For
    even n these are one and minus one. For every n, they sum to zero and their squares
    sum to n. If a mask leaves n = 1, there is no split and s is zero.
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


def checked_z(function: str, z: ArrayLike) -> jax.Array:
    check_scalar(
        function, "z", z, "a finite number", lambda value: abs(value) < float("inf")
    )
    return jnp.asarray(z, computation_dtype(jnp.result_type(z)))


def independent_inflation_weights(
    z: ArrayLike,
    *,
    small: SizeOrMask,
    large: SizeOrMask,
    second_small: SizeOrMask | None = None,
) -> jax.Array:
    r"""Weights with which one weighted loss has the tail-inflated gradient: "Our 1".

    With per-example losses `l_i` over the concatenated batch,

    .. math::
      \nabla \sum_i w_i l_i = g_{SB} + Z\,(g_{SB*} - g_{LB}),

    where each g is a mean over its own batch. The weights are `1/n_SB` on SB, `Z/n_SB*`
    on SB* and `-Z/n_LB` on LB. As in the other two schemes, they sum to one, so a
    regulariser inside the loss is not inflated.

    The loss of an example must not depend on other examples. For batch normalisation
    and contrastive losses, use `group_inflation_factors` instead. Keep the weighted sum
    in float32: in bfloat16, `1 + Z` loses the one from Z = 256 on.

    Args:
      z: the scalar Z = c W of this step, finite; may be traced.
      small: number of examples of SB. For a padded batch, a mask of shape (n,), true
        where an example counts: padding gets weight zero.
      large: number of examples of LB, or a mask.
      second_small: number of examples of SB*, or a mask. Default: that of SB.

    Returns:
      Weights for the concatenated batch [SB, SB*, LB], float32, or float64 if z is.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if z is not finite or a size not positive.

    Example:
      >>> import heavytail_optax as hto
      >>> print(hto.independent_inflation_weights(2.0, small=2, large=4))
      [ 0.5  0.5  1.   1.  -0.5 -0.5 -0.5 -0.5]

    References:
      Wang, Oh, Rhee, ICLR 2022 (arXiv 2102.04297), with one backward pass for each
      gradient. Random weights on examples: Wu et al. 2020 (arXiv 1906.07405).
    """
    function = "independent_inflation_weights"
    z = checked_z(function, z)
    first = as_mask(function, "small", small)
    second = first
    if second_small is not None:
        second = as_mask(function, "second_small", second_small)
    return independent_weights(z, first, second, as_mask(function, "large", large))


def shared_inflation_weights(
    z: ArrayLike, *, small: SizeOrMask, large: SizeOrMask
) -> jax.Array:
    r"""As `independent_inflation_weights`, but SB* is SB itself: "Our 2".

    .. math::
      \nabla \sum_i w_i l_i = g_{SB} + Z\,(g_{SB} - g_{LB}).

    The weights are `(1 + Z)/n_SB` on SB and `-Z/n_LB` on LB.

    Args:
      z: the scalar Z = c W of this step, finite; may be traced.
      small: number of examples of SB, or a mask of shape (n,).
      large: number of examples of LB, or a mask.

    Returns:
      Weights for the concatenated batch [SB, LB], float32, or float64 if z is.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if z is not finite or a size not positive.

    Example:
      >>> import heavytail_optax as hto
      >>> print(hto.shared_inflation_weights(2.0, small=2, large=4))
      [ 1.5  1.5 -0.5 -0.5 -0.5 -0.5]

    References:
      Wang, Oh, Rhee, ICLR 2022 (arXiv 2102.04297).
    """
    function = "shared_inflation_weights"
    z = checked_z(function, z)
    first = as_mask(function, "small", small)
    return shared_weights(z, first, as_mask(function, "large", large))


def balanced_inflation_weights(
    z: ArrayLike, *, small: SizeOrMask, key: Key
) -> jax.Array:
    r"""As `independent_inflation_weights`, with the noise between random halves of SB.

    .. math::
      \nabla \sum_i w_i l_i = g_{SB} + Z\, \frac1n \sum_i s_i \nabla l_i.

    The weights are `(1 + Z s_i)/n_SB`, with `s_i = sqrt(n_B/n_A)` on a random half A of
    SB and `-sqrt(n_A/n_B)` on the rest B. No further examples are needed, so it costs
    what g_SB alone costs. The noise has mean zero. If the examples are drawn
    independently, it has the covariance of g_SB.

    Args:
      z: the scalar Z = c W of this step, finite; may be traced.
      small: number of examples of SB, at least two, or a mask of shape (n,). If a mask
        leaves one example, its weight is one for every z.
      key: the key of the random split: a seed, a typed key or a legacy key.

    Returns:
      Weights for SB, float32, or float64 if z is.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if z is not finite or the size less than two.

    Example:
      >>> import heavytail_optax as hto
      >>> weights = hto.balanced_inflation_weights(2.0, small=4, key=0)
      >>> print(sorted(weights.tolist()))
      [-0.25, -0.25, 0.75, 0.75]

    References:
      Signs of +-1 on the halves of an even batch: Theta, branch `rademacher`
      (github.com/vaseline555/Theta).
    """
    function = "balanced_inflation_weights"
    z = checked_z(function, z)
    mask = as_mask(function, "small", small)
    check_can_be_split(function, "small", mask.shape[0])
    check_key(function, key)
    return balanced_weights(tagged_key(key, _PURPOSE), z, mask)
