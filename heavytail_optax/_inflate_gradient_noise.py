"""Tail inflation: adds the gradient's own noise times a heavy-tailed scalar."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from heavytail_optax._dtypes import accumulation_dtype, computation_dtype, saturate
from heavytail_optax._keys import check_key, key_data_copy, step_key
from heavytail_optax._pytrees import add_noise, check_leaves
from heavytail_optax._schedules import check_scales, scales_at
from heavytail_optax._typing import Key, PyTree, ScaleTree
from heavytail_optax._validation import check_state, value_error
from heavytail_optax.tails._tail import TailOrSchedule, check_tail_or_schedule, tail_at

_NAME = "inflate_gradient_noise"


class InflateGradientNoiseState(NamedTuple):
    """State of `inflate_gradient_noise`.

    Attributes:
      inflation_count: number of steps so far. shape=(), dtype=int32.
      inflation_key: data of the key. It never changes. dtype=uint32.
      inflation_draw: W of the last step, before the scale. shape=(), dtype=float32.
    """

    inflation_count: jax.Array
    inflation_key: jax.Array
    inflation_draw: jax.Array


def check_gradient_noise(
    name: str, updates: PyTree, gradient_noise: PyTree
) -> list[jax.Array]:
    """The leaves of `gradient_noise`, checked against those of the updates."""
    accepted = (
        "passed to `update(..., gradient_noise=...)`: a pytree of floating arrays, of the "
        f"structure and shapes of the updates, which are {jax.tree.structure(updates)}"
    )
    function = f"{name}.update"
    if gradient_noise is None and updates is not None:
        raise value_error(function, "gradient_noise", accepted, None)
    got = jax.tree.structure(gradient_noise)
    if got != jax.tree.structure(updates):
        raise value_error(function, "gradient_noise", accepted, got)
    leaves = check_leaves(
        name,
        jax.tree.leaves(gradient_noise),
        allow_complex=False,
        argument="gradient_noise",
    )
    for leaf, update in zip(leaves, jax.tree.leaves(updates), strict=True):
        if leaf.shape != jnp.shape(update):
            raise value_error(function, "gradient_noise", accepted, leaf)
    return leaves


def inflate_gradient_noise(
    tail: TailOrSchedule, scale: ScaleTree, *, key: Key
) -> optax.GradientTransformationExtraArgs:
    r"""Adds a sample of the gradient's noise, inflated by a heavy-tailed scalar.

    .. math::
      g_t \leftarrow g_t + Z_t\, v_t, \qquad Z_t = c_t W_t, \qquad
      v_t = g^{SB*}_t - g^{LB}_t,

    W is one scalar for the whole update. `v` is the `gradient_noise` that the caller
    passes to `update`: the difference of a small-batch and a large-batch gradient, or
    of the gradients of two halves of one batch. A large jump then has the direction of
    the noise that SGD has anyway. Put the learning rate and `truncate_update_norm`
    after it.

    W depends only on the key and t, so it is equal on all replicas.

    Args:
      tail: the law of W, or a schedule (step -> tail). It need not be centred: the
        paper has `tails.pareto(alpha)`. If a traced parameter is out of its range, the
        update is NaN.
      scale: c: a non-negative number, an array of shape (), a schedule (step -> scale),
        or a pytree prefix of the updates with one of these at each leaf, as in
        `add_heavy_tailed_noise`. It has no unit, because v is in units of the gradient.
        0 means no noise. If an array or a schedule is negative, infinite in float32 or
        NaN, the update is NaN.
      key: an integer seed, a typed key or a legacy key.

    Returns:
      A transformation. Its `update` needs the keyword argument `gradient_noise`, a
      pytree like the updates. Its state is an `InflateGradientNoiseState`.

    Raises:
      TypeError: if an argument has the wrong type; in `update`, if a leaf is not a
        floating array, or if the state is not one that `init` or `update` returned.
      ValueError: if `scale` is negative, NaN or not a scalar; in `update`, if
        `gradient_noise` is missing or does not match the updates.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import heavytail_optax as hto
      >>> optimizer = optax.chain(
      ...     hto.inflate_gradient_noise(hto.tails.pareto(1.4), 0.5, key=0),
      ...     optax.scale_by_learning_rate(0.1),
      ...     hto.truncate_update_norm(0.25),
      ... )
      >>> params = jnp.zeros(2)
      >>> first_half, second_half = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
      >>> updates, state = optimizer.update(
      ...     0.5 * (first_half + second_half),
      ...     optimizer.init(params),
      ...     params,
      ...     gradient_noise=0.5 * (first_half - second_half),
      ... )
      >>> bool(optax.tree.get(state, "inflation_draw") >= 1.0)
      True

    References:
      Wang, Oh, Rhee, "Eliminating sharp minima from SGD with truncated heavy-tailed
      noise", ICLR 2022 (arXiv 2102.04297): the tail-inflation experiments.
    """
    check_tail_or_schedule(_NAME, tail, must_be_centred=False)
    check_scales(_NAME, scale)
    check_key(_NAME, key)

    def init_fn(params):
        del params
        return InflateGradientNoiseState(
            inflation_count=jnp.zeros((), jnp.int32),
            inflation_key=key_data_copy(key),
            inflation_draw=jnp.zeros((), jnp.float32),
        )

    def update_fn(updates, state, params=None, *, gradient_noise=None, **extra_args):
        del params, extra_args
        check_state(_NAME, state, InflateGradientNoiseState)
        leaves, structure = jax.tree.flatten(updates)
        leaves = check_leaves(_NAME, leaves, allow_complex=False)
        noise = check_gradient_noise(_NAME, updates, gradient_noise)
        count = state.inflation_count
        current_tail = tail_at(_NAME, tail, count, must_be_centred=False)
        scales = scales_at(_NAME, scale, count, updates)
        dtype = accumulation_dtype(leaves)
        draw = current_tail.sample(
            step_key(key, state.inflation_key, _NAME, count), (), dtype
        )
        inflated = [
            add_noise(
                x, saturate(c.astype(dtype) * draw, computation_dtype(x.dtype)) * v
            )
            for x, c, v in zip(leaves, scales, noise, strict=True)
        ]
        largest = jnp.finfo(jnp.float32).max
        new_state = InflateGradientNoiseState(
            inflation_count=optax.safe_increment(count),
            inflation_key=state.inflation_key,
            inflation_draw=jnp.clip(draw, -largest, largest).astype(jnp.float32),
        )
        return jax.tree.unflatten(structure, inflated), new_state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
