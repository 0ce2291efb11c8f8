"""Complete optimisers: short chains of the transformations."""

import jax.numpy as jnp
import optax

from heavytail_optax._noise import add_heavy_tailed_noise
from heavytail_optax._schedules import not_negative
from heavytail_optax._truncation import truncate_update_norm
from heavytail_optax._typing import (
    AxisNamesTree,
    Direction,
    Key,
    MaxNormTree,
    Scalar,
    ScaleOrSchedule,
    ScaleTree,
)
from heavytail_optax._validation import (
    check_bool,
    check_called,
    check_scalar,
    foreign_state,
    is_function,
    value_error,
)
from heavytail_optax.tails._tail import TailOrSchedule

_NAME = "truncated_heavy_tailed_sgd"


def _checked(argument: str, value: Scalar, accepted: str, below: float) -> Scalar:
    """Checks a number in [0, `below`); a traced number out of range becomes NaN."""
    check_scalar(_NAME, argument, value, accepted, lambda x: 0.0 <= x < below)
    if isinstance(value, (int, float)):
        return value
    return jnp.where(value < below, not_negative(value), jnp.nan)


def _checked_learning_rate(learning_rate: ScaleOrSchedule) -> ScaleOrSchedule:
    accepted = "a non-negative finite number or a schedule"
    check_called(_NAME, "learning_rate", learning_rate, accepted)
    if is_function(learning_rate):
        return lambda count: _checked_learning_rate(learning_rate(count))
    return _checked("learning_rate", learning_rate, accepted, float("inf"))


def _checked_momentum(momentum: Scalar | None, nesterov: object) -> Scalar | None:
    check_bool(_NAME, "nesterov", nesterov)
    if momentum is not None:
        return _checked("momentum", momentum, "None or a number in [0, 1)", 1.0)
    if nesterov:
        raise value_error(_NAME, "nesterov", "False where `momentum` is None", nesterov)
    return None


def _checked_weight_decay(weight_decay: Scalar | None) -> Scalar | None:
    if weight_decay is None:
        return None
    accepted = "None or a non-negative finite number"
    return _checked("weight_decay", weight_decay, accepted, float("inf"))


def _chain(
    links: list[optax.GradientTransformation],
) -> optax.GradientTransformationExtraArgs:
    """`optax.chain`, with an error in `update` that explains a foreign state."""
    chain = optax.chain(*links)

    def update_fn(updates, state, params=None, **extra_args):
        is_plain = isinstance(state, (tuple, list)) and not hasattr(state, "_fields")
        if not (is_plain and len(state) == len(links)):
            raise foreign_state(_NAME, f"a tuple of {len(links)} states", state)
        return chain.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(chain.init, update_fn)


def truncated_heavy_tailed_sgd(
    learning_rate: ScaleOrSchedule,
    max_norm: MaxNormTree,
    tail: TailOrSchedule,
    scale: ScaleTree,
    *,
    key: Key,
    direction: Direction = "elementwise",
    momentum: Scalar | None = None,
    nesterov: bool = False,
    weight_decay: Scalar | None = None,
    axis_name: AxisNamesTree = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Truncated heavy-tailed SGD, the method of the theory.

    .. math::
      g_t &= \nabla f(X_{t-1}) + \lambda X_{t-1} + c_t Z_t, \\
      m_t &= \mu\, m_{t-1} + g_t, \\
      X_t &= X_{t-1} - \varphi_b(\eta_t\, m_t).

    Without momentum (mu = 0) this is `X - phi_b(eta (grad f + Z))`. Momentum acts
    before truncation. So b bounds the step that the parameters take, and one large draw
    is spread over about 1/(1 - mu) steps. With `nesterov`, `mu m_t + g_t` replaces
    `m_t` in the last line.

    Args:
      learning_rate: eta, non-negative and finite: a number, an array of shape () or a
        schedule (step -> rate).
      max_norm: b, as in `truncate_update_norm`.
      tail: the law of Z, as in `add_heavy_tailed_noise`.
      scale: c, as in `add_heavy_tailed_noise`.
      key: an integer seed, a typed key or a legacy key.
      direction: `"elementwise"` or `"isotropic"`, as in `add_heavy_tailed_noise`.
      momentum: mu in [0, 1). None means no momentum, and needs no memory.
      nesterov: whether to use Nesterov momentum. It needs `momentum`.
      weight_decay: lambda, non-negative. The decay is added to the gradient (L2
        regularisation), so it is truncated too; `update` then needs `params`. None
        means no weight decay.
      axis_name: as in `truncate_update_norm`; only inside `shard_map` or `pmap` with
        sharded parameters.

    If a traced value is out of its range, the update is NaN. The same holds for a
    learning rate from a schedule.

    Returns:
      The chain of noise, weight decay, momentum, learning rate and truncation.

    Raises:
      TypeError: if an argument has the wrong type; in `update`, if the state is not one
        that `init` or `update` returned.
      ValueError: if an argument is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import heavytail_optax as hto
      >>> loss = lambda x: jnp.sum((x - 1.0) ** 2)
      >>> optimizer = hto.truncated_heavy_tailed_sgd(
      ...     0.1, 0.5, hto.tails.symmetric_pareto(1.5), 0.1, key=0
      ... )
      >>> x = jnp.zeros(3)
      >>> state = optimizer.init(x)
      >>> @jax.jit
      ... def step(x, state):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     return optax.apply_updates(x, updates), state
      >>> for _ in range(50):
      ...     x, state = step(x, state)
      >>> bool(loss(x) < 0.5)
      True
      >>> int(optax.tree.get(state, "num_truncated")) > 0
      True

    References:
      Wang, Oh, Rhee, "Eliminating sharp minima from SGD with truncated heavy-tailed
      noise", ICLR 2022 (arXiv 2102.04297), section 2. Momentum is not in the paper.
    """
    learning_rate = _checked_learning_rate(learning_rate)
    momentum = _checked_momentum(momentum, nesterov)
    weight_decay = _checked_weight_decay(weight_decay)
    links = [
        add_heavy_tailed_noise(
            tail, scale, key=key, direction=direction, axis_name=axis_name
        )
    ]
    if weight_decay is not None:
        links.append(optax.add_decayed_weights(weight_decay))
    if momentum is not None:
        links.append(optax.trace(decay=momentum, nesterov=nesterov))
    links.append(optax.scale_by_learning_rate(learning_rate))
    links.append(truncate_update_norm(max_norm, axis_name=axis_name))
    return _chain(links)
