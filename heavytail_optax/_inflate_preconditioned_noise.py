"""Inflated noise that passes through an optimiser and does not enter its state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from heavytail_optax._dtypes import computation_dtype
from heavytail_optax._inflate_gradient_noise import check_gradient_noise
from heavytail_optax._keys import check_key, key_data_copy, step_key
from heavytail_optax._pytrees import add_noise, check_leaves
from heavytail_optax._schedules import check_scale, not_negative, scale_at
from heavytail_optax._typing import Key, PyTree, ScaleOrSchedule
from heavytail_optax._validation import check_scalar, check_state, type_error
from heavytail_optax.tails._tail import (
    Tail,
    TailOrSchedule,
    check_tail_or_schedule,
    tail_at,
)

_NAME = "inflate_preconditioned_noise"


class InflatePreconditionedNoiseState(NamedTuple):
    """State of `inflate_preconditioned_noise`.

    Attributes:
      precondition_count: number of steps so far. shape=(), dtype=int32.
      precondition_key: data of the key. It never changes. dtype=uint32.
      precondition_draw: W of the last step, before the scale; 0 if the gate was shut.
        shape=(), dtype=float32. It may have had no effect: in Adam's first step, the
        derivative is zero.
      optimizer_state: state of the optimiser, as if there were no noise.
    """

    precondition_count: jax.Array
    precondition_key: jax.Array
    precondition_draw: jax.Array
    optimizer_state: optax.OptState


def _gated(tail: Tail, draw: jax.Array, q: jax.Array) -> jax.Array:
    """W, or 0 if |W| is at most its q-quantile; NaN if q is not in [0, 1)."""
    # Negated, so that the gate is open for NaN. With q = 0 it is always open.
    is_below = (tail.tail_probability(jnp.abs(draw)) >= 1.0 - q) & (q > 0.0)
    return jnp.where(q < 1.0, jnp.where(is_below, 0.0, draw), jnp.nan)


def _preconditioned(
    inner: optax.GradientTransformationExtraArgs,
    updates: PyTree,
    state: optax.OptState,
    params: PyTree,
    noise: PyTree,
    extra_args: dict[str, object],
) -> tuple[PyTree, PyTree, optax.OptState]:
    """The inner update, its derivative along the noise, and the new inner state."""

    def update(gradient: PyTree) -> tuple[PyTree, optax.OptState]:
        return inner.update(gradient, state, params, **extra_args)

    return jax.jvp(update, (updates,), (noise,), has_aux=True)


def inflate_preconditioned_noise(
    inner: optax.GradientTransformation,
    tail: TailOrSchedule,
    scale: ScaleOrSchedule,
    *,
    key: Key,
    inflate_above: ArrayLike = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Adds inflated noise to an optimiser's update, and keeps it out of its moments.

    .. math::
      u_t = U_t(g_t) + Z_t\, DU_t(g_t)\,v_t, \qquad
      Z_t = c_t W_t\, 1\{|W_t| > w_q\},

    `U_t` is the update of the inner optimiser as a function of the gradient, with its
    state and the parameters held, and `DU_t` is its derivative: the preconditioner. `v`
    is the `gradient_noise` that the caller passes to `update`, such as the noise of
    `value_grad_and_noise`. The new state is the one that `inner` returns for the plain
    gradient `g_t`. So its moments see no noise, and Adam cannot divide a jump away. For
    `optax.sgd` without momentum the update is that of `inflate_gradient_noise`.

    Given the past and the batch, u is linear in W. So its norm has the tail index of W,
    and the scale of its jumps is proportional to the learning rate. Put
    `truncate_update_norm` after it: without it, a jump has no limit.

    Noise that does not enter a momentum of decay m acts once instead of `1/(1 - m)`
    times. With `scale = c / (1 - m)`, one draw moves the parameters about as far in all
    as scale c does before SGD with this momentum.

    Where U does not depend on the size of the gradient, its derivative is zero: there is
    no noise behind `optax.lion`, nor in the first step of Adam. Where it has none, as
    Adam's has not for a weight whose gradient has always been zero, there is no noise
    either.

    Args:
      inner: the optimiser, learning rate included. JAX must be able to differentiate
        its update forwards.
      tail: the law of W, or a schedule (step -> tail). It need not be centred. If a
        traced parameter is out of its range, the update is NaN.
      scale: c: a non-negative number, an array of shape (), or a schedule (step ->
        scale). It has no unit. If an array or a schedule is negative, infinite in
        float32 or NaN, the update is NaN.
      key: an integer seed, a typed key or a legacy key.
      inflate_above: q in [0, 1). Draws up to their q-quantile `w_q` give no noise: with
        q = 0.95, one step of twenty has a jump and the others are those of `inner`. If
        an array is out of that range, the update is NaN.

    Returns:
      A transformation. Its `update` needs the keyword argument `gradient_noise`, a
      pytree like the updates; other keyword arguments go to `inner`. Its state is an
      `InflatePreconditionedNoiseState`.

    Raises:
      TypeError: if an argument has the wrong type; in `update`, if a leaf is not a
        floating array, or if the state is not one that `init` or `update` returned.
      ValueError: if `scale` is negative, NaN or not a scalar, or `inflate_above` not in
        [0, 1); in `update`, if `gradient_noise` is missing or does not match the
        updates.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import heavytail_optax as hto
      >>> def loss_per_example(params, batch):
      ...     return (batch @ params - 1.0) ** 2
      >>> grad_fn = hto.value_grad_and_noise(loss_per_example)
      >>> optimizer = optax.chain(
      ...     hto.inflate_preconditioned_noise(
      ...         optax.adamw(1e-3), hto.tails.pareto(1.4), 10.0, key=0
      ...     ),
      ...     hto.truncate_update_norm(hto.adaptive_max_norm()),
      ... )
      >>> params = jnp.zeros(3)
      >>> state = optimizer.init(params)
      >>> batch = jax.random.normal(jax.random.key(1), (8, 3))
      >>> loss, grad, noise = grad_fn(jax.random.key(2), params, batch)
      >>> updates, state = optimizer.update(grad, state, params, gradient_noise=noise)
      >>> bool(optax.tree.get(state, "precondition_draw") >= 1.0)
      True

    References:
      Wang, Oh, Rhee, ICLR 2022 (arXiv 2102.04297), whose condition is on the noise of
      the update. The gate: Wang, Rhee (arXiv 2510.20905). The rest is ours.
    """
    if not (hasattr(inner, "init") and hasattr(inner, "update")):
        raise type_error(_NAME, "inner", "an Optax gradient transformation", inner)
    check_tail_or_schedule(_NAME, tail, must_be_centred=False)
    check_scale(_NAME, scale)
    check_key(_NAME, key)
    check_scalar(
        _NAME,
        "inflate_above",
        inflate_above,
        "a number in [0, 1)",
        lambda q: 0 <= q < 1,
    )
    inner = optax.with_extra_args_support(inner)

    def init_fn(params):
        return InflatePreconditionedNoiseState(
            precondition_count=jnp.zeros((), jnp.int32),
            precondition_key=key_data_copy(key),
            precondition_draw=jnp.zeros((), jnp.float32),
            optimizer_state=inner.init(params),
        )

    def draw_and_factor(count: jax.Array, data: jax.Array) -> tuple[jax.Array, ...]:
        """W behind the gate, and Z."""
        current = tail_at(_NAME, tail, count, must_be_centred=False)
        c = scale_at(_NAME, scale, count).astype(jnp.float32)
        own = step_key(key, data, _NAME, count)
        draw = current.sample(own, (), jnp.float32)
        draw = _gated(current, draw, not_negative(jnp.asarray(inflate_above)))
        largest = jnp.finfo(jnp.float32).max
        return tuple(jnp.clip(x, -largest, largest) for x in (draw, c * draw))

    def update_fn(updates, state, params=None, *, gradient_noise=None, **extra_args):
        check_state(_NAME, state, InflatePreconditionedNoiseState)
        gradients, structure = jax.tree.flatten(updates)
        gradients = check_leaves(_NAME, gradients, allow_complex=False)
        noise = check_gradient_noise(_NAME, updates, gradient_noise)
        noise = [v.astype(g.dtype) for v, g in zip(noise, gradients, strict=True)]
        plain, derivative, inner_state = _preconditioned(
            inner,
            structure.unflatten(gradients),
            state.optimizer_state,
            params,
            structure.unflatten(noise),
            extra_args,
        )
        draw, z = draw_and_factor(state.precondition_count, state.precondition_key)

        def inflated(x: jax.Array, v: jax.Array, tangent: jax.Array) -> jax.Array:
            dtype = computation_dtype(x.dtype)
            # Adam's root has no derivative at zero, where a weight has never had a
            # gradient. It has no noise then. NaN in the noise itself stays.
            is_kept = (z != 0.0) & (jnp.isfinite(tangent) | ~jnp.isfinite(v))
            known = jnp.where(is_kept, tangent, 0.0).astype(dtype)
            return add_noise(x, z.astype(dtype) * known)

        new_state = InflatePreconditionedNoiseState(
            precondition_count=optax.safe_increment(state.precondition_count),
            precondition_key=state.precondition_key,
            precondition_draw=draw,
            optimizer_state=inner_state,
        )
        noisy = jax.tree.map(inflated, plain, structure.unflatten(noise), derivative)
        return noisy, new_state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
