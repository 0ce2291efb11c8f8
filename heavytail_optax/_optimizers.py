"""Complete optimisers: short chains of the transformations."""

from typing import Any

import jax.numpy as jnp
import optax

from heavytail_optax._noise import add_heavy_tailed_noise
from heavytail_optax._truncation import truncate_update_norm
from heavytail_optax._validation import check_scalar, type_error, value_error

_NAME = "truncated_heavy_tailed_sgd"


def _checked_learning_rate(learning_rate: Any) -> Any:
    """The rate or schedule, checked; NaN where it is traced and negative."""
    if callable(learning_rate):
        return lambda count: _checked_learning_rate(learning_rate(count))
    check_scalar(
        _NAME,
        "learning_rate",
        learning_rate,
        "a non-negative finite number or a schedule",
        lambda rate: 0.0 <= rate < float("inf"),
    )
    if isinstance(learning_rate, (int, float)):
        return learning_rate
    return jnp.where(learning_rate >= 0, learning_rate, jnp.nan)


def _check_momentum(momentum: Any, nesterov: Any) -> None:
    if not isinstance(nesterov, bool):
        raise type_error(_NAME, "nesterov", "True or False", nesterov)
    if momentum is not None:
        check_scalar(
            _NAME,
            "momentum",
            momentum,
            "None or a number in [0, 1)",
            lambda decay: 0.0 <= decay < 1.0,
        )
    elif nesterov:
        raise value_error(_NAME, "nesterov", "False where `momentum` is None", nesterov)


def truncated_heavy_tailed_sgd(
    learning_rate: Any,
    max_norm: Any,
    tail: Any,
    scale: Any,
    *,
    key: Any,
    direction: str = "elementwise",
    momentum: Any = None,
    nesterov: bool = False,
    weight_decay: Any = None,
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Truncated heavy-tailed SGD, the method of the theory.

    .. math::
      g_t &= \nabla f(X_{t-1}) + \lambda X_{t-1} + c_t Z_t, \\
      m_t &= \mu\, m_{t-1} + g_t, \\
      X_t &= X_{t-1} - \varphi_b(\eta_t\, m_t).

    Without momentum (mu = 0) this is `X - phi_b(eta (grad f + Z))`. Momentum acts before
    the truncation, so b bounds the step that the parameters take, and one large draw is
    spread over some 1/(1 - mu) steps; with `nesterov`, `mu m_t + g_t` takes the place of
    `m_t` in the last line.

    Args:
      learning_rate: eta, non-negative: a number or a schedule (step -> rate).
      max_norm: b, as in `truncate_update_norm`.
      tail: law of Z, as in `add_heavy_tailed_noise`.
      scale: c, as in `add_heavy_tailed_noise`.
      key: an integer seed, a typed key or a legacy key.
      direction: `"elementwise"` or `"isotropic"`, as in `add_heavy_tailed_noise`.
      momentum: mu in [0, 1), or None for none, which needs no memory.
      nesterov: whether to use Nesterov momentum; needs `momentum`.
      weight_decay: lambda, non-negative, added to the gradient (L2 regularisation) and
        so truncated with it; `update` then needs `params`. None for none.
      axis_name: as in `truncate_update_norm`; only inside `shard_map` or `pmap` with
        sharded parameters.

    Returns:
      The chain of noise, weight decay, momentum, learning rate and truncation.

    Raises:
      TypeError: if an argument has the wrong type.
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
    _check_momentum(momentum, nesterov)
    if weight_decay is not None:
        check_scalar(
            _NAME,
            "weight_decay",
            weight_decay,
            "None or a non-negative finite number",
            lambda decay: 0.0 <= decay < float("inf"),
        )
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
    return optax.chain(*links)
