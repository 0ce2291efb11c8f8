"""A bound on the update norm that follows a quantile of the norms."""

import dataclasses

import jax
import jax.numpy as jnp

from heavytail_optax._validation import (
    check_count,
    check_positive,
    check_scalar,
    check_share,
    in_float32,
)

_NAME = "adaptive_max_norm"

TRUNCATED_SHARE = 0.03
"""In docs/study.md, runs did best where 1 to 10 % of the updates were cut."""

# In the first fifth of the warm-up the bound is a multiple of the typical norm, its
# running geometric mean, so that no jump is long before anything is known of the tail.
_OF_TYPICAL_NORM = 4.0
# A norm counts as at most this many times the mean so far, and at least its inverse.
_MOST_OF_ONE_NORM = 4.0
# Then the bound starts for the quantile, at this times the rate.
_WARMUP_GAIN = 3.0


@dataclasses.dataclass(frozen=True)
class AdaptiveMaxNorm:
    """Settings of a bound that adapts; see `adaptive_max_norm`."""

    truncated_share: float
    adaptation_rate: float
    warmup_steps: int
    freeze_after: int | None
    initial: float | None


def adaptive_max_norm(
    truncated_share: float = TRUNCATED_SHARE,
    *,
    adaptation_rate: float = 0.3,
    warmup_steps: int = 100,
    freeze_after: int | None = None,
    initial: float | None = None,
) -> AdaptiveMaxNorm:
    r"""A bound that cuts a given share of the updates: pass it as `max_norm`.

    .. math::
      \log b_{t+1} = \log b_t + \gamma_t \cdot
      \begin{cases}
        1 & \text{if } |u_t| > b_t, \\
        -s / (1 - s) & \text{otherwise.}
      \end{cases}

    The bound rests where a share s of the norms exceeds it. Over T steps with a
    constant gamma the share that was cut is s, up to `(1 - s) log(b_T / b_0) / (gamma
    T)`, for norms of any law. An update is cut by the bound that earlier updates made,
    never by its own.

    The bound follows the norm of the update where `truncate_update_norm` stands: behind
    a learning rate, it follows the learning rate's schedule. It can rise by 35 % a step
    and fall by 0.9 % (with the default settings), so it lags behind a decay only where
    the learning rate falls by more than that in a step: the last 200 steps or so of a
    cosine schedule that ends at zero.

    In the first fifth of the warm-up the rule is another. There the bound is four times
    the typical norm: the running geometric mean of the norms with weights 1, 2, 3, ...,
    in which each norm counts as at most four times the mean before it, and at least a
    quarter of it. Then the rule above starts, three times as fast at first. So the first
    update is not cut, and a later one is if it is far longer than those before it.

    Norms that are zero, infinite or NaN do not move it. An infinite update is cut, also
    in the warm-up; as long as no bound is known, it becomes zero.

    Args:
      truncated_share: s, the share of updates to cut. In (0, 1).
      adaptation_rate: gamma, positive: what one cut adds to log b. A smaller rate makes
        a steadier bound that follows more slowly.
      warmup_steps: number of first updates in which the bound is searched for, at
        least 0, where no `initial` is given. Updates of norm 0 count, too.
      freeze_after: the number of updates after which the bound stays as it is, as in
        the theory: about a tenth of a run. At least `warmup_steps`, where no `initial` is
        given. None means never. Then the bound shrinks with
        the updates of a model that comes to fit its examples, and in docs/study.md the
        minima were sharper.
      initial: the first bound, in units of the parameters, positive. None means that
        the first update sets it.

    Returns:
      Settings for the `max_norm` of `truncate_update_norm` and
      `truncated_heavy_tailed_sgd`. The bound itself is in their state: read it with
      `optax.tree.get(state, "max_norm")`.

    Raises:
      TypeError: if an argument is not a number, or is traced.
      ValueError: if an argument is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import heavytail_optax as hto
      >>> truncation = hto.truncate_update_norm(hto.adaptive_max_norm(0.1))
      >>> def step(state, key):
      ...     update = jax.random.normal(key, (1,))
      ...     return truncation.update(update, state)[1], None
      >>> keys = jax.random.split(jax.random.key(0), 5000)
      >>> state, _ = jax.lax.scan(step, truncation.init(jnp.zeros(1)), keys)
      >>> print(f"{state.num_truncated / 5000:.2f}")
      0.10

    References:
      Andrew, Thakkar, McMahan, Ramaswamy, "Differentially private learning with
      adaptive clipping", NeurIPS 2021: the geometric rule for a quantile.
    """
    check_share(_NAME, "truncated_share", truncated_share)
    check_positive(_NAME, "adaptation_rate", adaptation_rate)
    check_count(_NAME, "warmup_steps", warmup_steps, least=0)
    if freeze_after is not None:
        least = 0 if initial is not None else int(warmup_steps)
        reason = "`warmup_steps`" if least > 1 else ""
        check_count(_NAME, "freeze_after", freeze_after, max(1, least), least_is=reason)
    if initial is not None:
        accepted = "a positive number, finite in float32"
        check_scalar(
            _NAME,
            "initial",
            initial,
            accepted,
            lambda b: 0.0 < in_float32(b) < NO_BOUND,
        )
    return AdaptiveMaxNorm(
        truncated_share=float(truncated_share),
        adaptation_rate=float(adaptation_rate),
        warmup_steps=0 if initial is not None else int(warmup_steps),
        freeze_after=freeze_after,
        initial=None if initial is None else float(initial),
    )


NO_BOUND = float(jnp.finfo(jnp.float32).max)
"""What a state holds where there is no bound, or none yet: it stays finite."""


def first_bound(settings: AdaptiveMaxNorm) -> jax.Array:
    """The bound before any update."""
    value = NO_BOUND if settings.initial is None else settings.initial
    return jnp.asarray(value, jnp.float32)


def bound_to_apply(bound: jax.Array, is_infinite: jax.Array) -> jax.Array:
    """The bound for an update, from what is known before it."""
    # Nothing is known yet: an infinite update is left out.
    unknown = jnp.where(is_infinite, 0.0, jnp.inf)
    return jnp.where(bound == NO_BOUND, unknown, bound)


def next_bound(
    settings: AdaptiveMaxNorm, bound: jax.Array, count: jax.Array, norm: jax.Array
) -> jax.Array:
    """The bound after an update of that norm; NaN and infinity leave it as it was.

    Args:
      settings: those of the user.
      bound: the bound of each group so far, of any shape. dtype=float32.
      count: number of updates before this one. shape=(), dtype=int32.
      norm: norm of the update before it was cut, of the same shape. dtype=float32.
    """
    share, warmup = settings.truncated_share, settings.warmup_steps
    search = warmup // 5
    wanted = _OF_TYPICAL_NORM * norm
    # Weights that grow linearly forget an unusual first norm.
    mean_gain = 2.0 / (count + 2.0)
    ratio = jnp.clip(wanted / bound, 1.0 / _MOST_OF_ONE_NORM, _MOST_OF_ONE_NORM)
    # From the warm-up's gain down to one, which it reaches before the warm-up ends.
    left = (warmup - count) / max(1, warmup - search)
    rate_gain = settings.adaptation_rate * jnp.maximum(1.0, _WARMUP_GAIN * left)
    step = jnp.where(norm > bound, 1.0, -share / (1.0 - share))
    is_search = count < search
    factor = jnp.exp(jnp.where(is_search, mean_gain * jnp.log(ratio), rate_gain * step))
    moved = jnp.where(bound == NO_BOUND, wanted, bound * factor)
    moved = jnp.clip(moved, jnp.finfo(jnp.float32).tiny, 0.5 * NO_BOUND)
    does_move = (norm > 0.0) & (norm < jnp.inf)
    if settings.freeze_after is not None:
        does_move &= count < settings.freeze_after
    return jnp.where(does_move, moved, bound).astype(jnp.float32)
