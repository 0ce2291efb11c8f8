"""Adds heavy-tailed noise to the gradient."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from heavytail_optax._dtypes import accumulation_dtype, computation_dtype
from heavytail_optax._flat_loop import computed_once
from heavytail_optax._keys import check_key, fold_in, key_data_copy, step_key
from heavytail_optax._norm import tree_norm
from heavytail_optax._pytrees import (
    add_noise,
    axes_of_leaves,
    check_axis_name,
    check_leaves,
    fold_in_axes,
)
from heavytail_optax._random import direction_normals
from heavytail_optax._schedules import check_scales, scales_at
from heavytail_optax._sharding import explicit_sharding
from heavytail_optax._typing import (
    AxisNamesTree,
    Direction,
    Key,
    ScaleTree,
)
from heavytail_optax._validation import check_choice, check_state
from heavytail_optax.tails._tail import (
    Tail,
    TailOrSchedule,
    check_tail_or_schedule,
    is_of_this_package,
    tail_at,
)

_NAME = "add_heavy_tailed_noise"


class AddHeavyTailedNoiseState(NamedTuple):
    """State of `add_heavy_tailed_noise`.

    Attributes:
      noise_count: number of steps so far. shape=(), dtype=int32.
      noise_key: data of the key. It never changes. dtype=uint32.
    """

    noise_count: jax.Array
    noise_key: jax.Array


def _leaf_keys(key: jax.Array, axes: list[tuple[str, ...]]) -> list[jax.Array]:
    """`fold_in(key, index)` for all leaves at once: one kernel to compile and run."""
    indices = jnp.arange(len(axes), dtype=jnp.uint32)
    keys = jax.vmap(fold_in, in_axes=(None, 0))(key, indices)
    return [fold_in_axes(keys[index], own) for index, own in enumerate(axes)]


def _with_draws(
    tail: Tail, key: jax.Array, scale: jax.Array, x: jax.Array
) -> jax.Array:
    dtype = computation_dtype(x.dtype)
    draws = tail.sample(key, x.shape, dtype, out_sharding=explicit_sharding(x))
    return add_noise(x, scale.astype(dtype) * draws)


# Leaves of one shape share a trace. With many leaves this saves most of the tracing
# time. A law with known parameters is static, because some laws then have a shorter
# sampler.
_with_draws_of_known = jax.jit(_with_draws, static_argnums=0)
_with_draws_of_traced = jax.jit(_with_draws)


def _adds_draws(tail: Tail) -> Callable[..., jax.Array]:
    """`_with_draws`, compiled if the tail can be an argument of `jax.jit`."""
    parameters = jax.tree.leaves(tail)
    if any(parameter is tail for parameter in parameters):
        return _with_draws  # a user's own tail that is not a pytree
    is_frozen = dataclasses.is_dataclass(tail) and tail.__dataclass_params__.frozen
    if is_frozen and all(isinstance(parameter, float) for parameter in parameters):
        return _with_draws_of_known
    return _with_draws_of_traced


def _elementwise(
    key: jax.Array,
    tail: Tail,
    scales: list[jax.Array],
    leaves: list[jax.Array],
    axes: list[tuple[str, ...]],
) -> list[jax.Array]:
    """Adds an independent draw to every element."""
    add = _adds_draws(tail)
    # The draws of a user's own tail may depend on the shape.
    is_flat = is_of_this_package(tail)
    return [
        computed_once(functools.partial(add, tail, leaf_key, c), x, may_flatten=is_flat)
        for leaf_key, c, x in zip(_leaf_keys(key, axes), scales, leaves, strict=True)
    ]


@jax.jit
def _normals_like(key: jax.Array, x: jax.Array) -> jax.Array:
    dtype = computation_dtype(x.dtype)
    return direction_normals(key, x.shape, dtype, explicit_sharding(x))


@jax.jit
def _with_jump(
    scale: jax.Array,
    size: jax.Array,
    inverse_norm: jax.Array,
    x: jax.Array,
    normals: jax.Array,
) -> jax.Array:
    dtype = normals.dtype
    # The direction first: size over norm may overflow, and zero times infinity is NaN.
    # The bounds change no value. They keep XLA from merging the two factors.
    direction = jnp.clip(normals * inverse_norm.astype(dtype), -1.0, 1.0)
    return add_noise(x, scale.astype(dtype) * (direction * size.astype(dtype)))


def _isotropic(
    key: jax.Array,
    tail: Tail,
    scales: list[jax.Array],
    leaves: list[jax.Array],
    axes: list[tuple[str, ...]],
) -> list[jax.Array]:
    """Adds one draw |Z|, times a uniform direction over all elements together."""
    size_key, direction_key = jax.random.split(key)
    normals = [
        computed_once(functools.partial(_normals_like, leaf_key), x)
        for leaf_key, x in zip(_leaf_keys(direction_key, axes), leaves, strict=True)
    ]
    norm = tree_norm(normals, axes)
    size = jnp.abs(tail.sample(size_key, (), accumulation_dtype(normals)))
    inverse = norm.scale / norm.scaled_norm
    return [
        computed_once(functools.partial(_with_jump, c, size, inverse), x, normal)
        for c, x, normal in zip(scales, leaves, normals, strict=True)
    ]


_DIRECTIONS = {"elementwise": _elementwise, "isotropic": _isotropic}


def add_heavy_tailed_noise(
    tail: TailOrSchedule,
    scale: ScaleTree,
    *,
    key: Key,
    direction: Direction = "elementwise",
    axis_name: AxisNamesTree = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adds heavy-tailed noise to the gradient.

    .. math::
      g_t \leftarrow g_t + c_t\, Z_t, \qquad
      Z_t \text{ i.i.d.}, \quad E Z_t = 0, \quad P(|Z_t| > x) \sim x^{-\alpha}.

    Put it first in the chain, and `truncate_update_norm` last:

    .. math:: X_t = X_{t-1} - \varphi_b\bigl(\eta\,(\nabla f(X_{t-1}) + c_t Z_t)\bigr).

    The noise of step t depends only on the key and t. So it is the same on all
    replicas, for any sharding of the parameters under `jit`, and in a resumed run. It
    is finite in every dtype.

    If you have the loss of each example, `tail_inflated_value_and_grad` is the better
    choice: with SGD, on one network, this noise cost accuracy wherever it made minima
    flatter. Behind an optimiser c is in units of the parameters, and the learning rate
    does not scale the noise. Behind AdamW the noise did harm, and less harm if c
    followed the learning rate's schedule (`benchmarks/adam.py`).

    Args:
      tail: the law of Z. It must be centred, that is, have mean 0. Pass one of
        `heavytail_optax.tails`, any object that follows `tails.Tail`, or a schedule
        (step -> tail) that anneals it. If a parameter of the tail is traced and out of
        its range, the update is NaN.
      scale: c, in units of the gradient: a non-negative number, an array of shape (), a
        schedule (step -> scale), or a pytree prefix of the updates with one of these at
        each leaf, for a scale per layer. A callable that JAX flattens (a pytree node)
        counts as such a prefix, not as a schedule. 0 means no noise. If an array or a
        schedule is negative, infinite in float32 or NaN, the update is NaN. Values down
        to -1e-6 count as 0, because rounding may take a schedule slightly below 0.
      key: an integer seed, a typed key or a legacy key.
      direction: the law of the direction of a large jump. `"elementwise"` makes an
        independent draw for every single parameter, so a large jump moves along one
        axis. `"isotropic"` makes one draw and multiplies its absolute value by a
        uniform direction over all parameters together, so the whole noise has norm
        `c |Z|`.
      axis_name: the name of the mapped axis, a tuple of names, or a pytree prefix of
        the updates, with names for sharded leaves and None for replicated ones. Set it
        only inside `shard_map` or `pmap`, and only if the parameters themselves are
        sharded. Each shard then draws its own noise. Under `jit`, and under data
        parallelism with replicated parameters, leave it None.

    Returns:
      A transformation whose state is an `AddHeavyTailedNoiseState`.

    Raises:
      TypeError: if an argument has the wrong type; in `update`, if a leaf is not a
        floating array (complex ones are refused), or if the state is not one that
        `init` or `update` returned.
      ValueError: if `tail` is not centred, `scale` is negative, NaN or not a scalar,
        `direction` is unknown, or, in `update`, a prefix does not fit the updates.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import heavytail_optax as hto
      >>> optimizer = optax.chain(
      ...     hto.add_heavy_tailed_noise(hto.tails.symmetric_pareto(1.4), 0.1, key=0),
      ...     optax.scale_by_learning_rate(0.1),
      ...     hto.truncate_update_norm(0.5),
      ... )
      >>> params = jnp.array([1.0, -2.0])
      >>> state = optimizer.init(params)
      >>> updates, state = optimizer.update(2 * params, state, params)
      >>> bool(optax.tree.norm(updates) <= 0.5)
      True

    References:
      Wang, Oh, Rhee, "Eliminating sharp minima from SGD with truncated heavy-tailed
      noise", ICLR 2022 (arXiv 2102.04297), section 2.
    """
    check_tail_or_schedule(_NAME, tail, must_be_centred=True)
    check_scales(_NAME, scale)
    check_key(_NAME, key)
    check_choice(_NAME, "direction", direction, tuple(_DIRECTIONS))
    check_axis_name(_NAME, axis_name)
    add = _DIRECTIONS[direction]

    def init_fn(params):
        del params
        return AddHeavyTailedNoiseState(
            noise_count=jnp.zeros((), jnp.int32), noise_key=key_data_copy(key)
        )

    def update_fn(updates, state, params=None, **extra_args):
        del params, extra_args
        check_state(_NAME, state, AddHeavyTailedNoiseState)
        leaves, structure = jax.tree.flatten(updates)
        leaves = check_leaves(_NAME, leaves, allow_complex=False)
        new_state = state._replace(noise_count=optax.safe_increment(state.noise_count))
        current_tail = tail_at(_NAME, tail, state.noise_count, must_be_centred=True)
        scales = scales_at(_NAME, scale, state.noise_count, updates)
        if not leaves:
            return updates, new_state
        this_step = step_key(key, state.noise_key, _NAME, state.noise_count)
        axes = axes_of_leaves(_NAME, axis_name, updates)
        noisy = add(this_step, current_tail, scales, leaves, axes)
        return jax.tree.unflatten(structure, noisy), new_state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
