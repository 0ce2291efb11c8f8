"""The number of jumps out of a minimum, the measure of flatness in the theory."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from heavytail_optax._keys import check_key, fold_in, tagged_key
from heavytail_optax._typing import Key, Params, PyTree, Scalar
from heavytail_optax._validation import (
    check_bool,
    check_count,
    check_not_negative,
    check_positive,
    check_scalar,
    is_function,
    type_error,
    value_error,
)
from heavytail_optax.flatness._arguments import (
    Loss,
    check_args,
    check_finite,
    check_loss,
    check_params,
)
from heavytail_optax.flatness._directions import Draw, along, check_direction
from heavytail_optax.flatness._escape_path import (
    PathEnd,
    Walk,
    descend,
    judge,
    walk_out,
)
from heavytail_optax.flatness._escape_result import (
    EscapePaths,
    EscapeProfile,
    EscapeReference,
    EscapeSettings,
)
from heavytail_optax.flatness._loss_changes import check_samples_at_once, loss_at
from heavytail_optax.flatness._perturbation import in_float, wide_loss
from heavytail_optax.flatness._wilson import wilson_interval

_NAME = "escape_profile"


@functools.partial(
    jax.jit,
    static_argnames=(
        "loss_fn",
        "draw",
        "project",
        "max_jumps",
        "num_samples",
        "repeat_direction",
        "flow_steps",
        "descent_steps",
        "num_points",
        "at_once",
    ),
)
def _walks(
    loss_fn: Loss,
    draw: Draw | None,
    project: Callable[[Params], Params] | None,
    params: Params,
    vector: PyTree,
    args: tuple[PyTree, ...],
    key: jax.Array,
    jump_norm: jax.Array,
    learning_rate: jax.Array,
    *,
    max_jumps: int,
    num_samples: int,
    repeat_direction: bool,
    flow_steps: int,
    descent_steps: int,
    num_points: int,
    at_once: int,
) -> tuple[PyTree, PathEnd, PathEnd]:
    """The reference solution, its loss and gradient norm, and the ends of all paths."""
    walk = Walk(
        wide_loss(loss_fn, params),
        args,
        (lambda key, params, *args: along(vector, key)) if draw is None else draw,
        (lambda point: point) if project is None else project,
        jump_norm,
        learning_rate,
        flow_steps,
        descent_steps,
        num_points,
        repeat_direction,
    )
    reference = descend(walk, in_float(params), descent_steps)

    def path(index: jax.Array) -> PathEnd:
        return walk_out(walk, reference, fold_in(key, index), max_jumps)

    outcomes = jax.lax.map(path, jnp.arange(num_samples), batch_size=at_once)
    return reference, judge(walk, reference, reference), outcomes


def _is_escaped(
    outcome: PathEnd, threshold: Scalar | None, tolerance: Scalar
) -> jax.Array:
    """Whether each path has escaped. A path whose loss is not finite has."""
    escaped = ~(jnp.isfinite(outcome.loss) & jnp.isfinite(outcome.distance))
    if threshold is not None:
        escaped |= outcome.barrier > threshold
    if tolerance is not None:
        escaped |= outcome.distance > tolerance
    return escaped


def _check_criteria(threshold: Scalar | None, tolerance: Scalar) -> None:
    if threshold is not None:
        check_not_negative(_NAME, "barrier_threshold", threshold)
    if tolerance is not None:
        check_not_negative(_NAME, "return_tolerance", tolerance)
    elif threshold is None:
        accepted = "given if `return_tolerance` is not"
        raise value_error(_NAME, "barrier_threshold", accepted, threshold)


def _check_numbers_of_steps(
    flow_steps: object, descent_steps: object
) -> tuple[int, int]:
    flow_steps = check_count(_NAME, "flow_steps", flow_steps, least=0)
    reason = "`flow_steps`" if flow_steps else ""
    return flow_steps, check_count(
        _NAME, "descent_steps", descent_steps, flow_steps, least_is=reason
    )


def escape_profile(
    loss_fn: Loss,
    params: Params,
    *,
    key: Key,
    jump_norm: Scalar,
    learning_rate: Scalar,
    args: tuple[PyTree, ...] = (),
    direction: str | Draw | PyTree = "isotropic",
    repeat_direction: bool = False,
    max_jumps: int = 5,
    num_samples: int = 100,
    flow_steps: int = 10,
    descent_steps: int = 1000,
    barrier_threshold: Scalar | None = 0.1,
    return_tolerance: Scalar | None = None,
    num_points: int = 21,
    project: Callable[[Params], Params] | None = None,
    confidence: float = 0.95,
    samples_at_once: int | None = None,
) -> EscapeProfile:
    r"""The probability of leaving a minimum, as a function of the number of jumps.

    The theory of truncated heavy-tailed SGD characterises a minimum by the number of
    jumps of norm b that it takes to leave its field of attraction. On the line, this is
    :math:`l^* = \lceil r / b \rceil`. Minima that take fewer jumps are left so much
    sooner that SGD hardly spends any time there. This function measures that number.
    Gradient descent from the parameters reaches a minimum m. A path from m is

    .. math::
      y_1 = m + b\, u_1, \qquad
      y_{j+1} = \phi(y_j) + b\, u_{j+1}, \qquad |u_j| = 1,

    where :math:`\phi` is a short gradient flow: `flow_steps` steps of gradient descent
    on the loss of all data. After j jumps, descent continues to `descent_steps` steps
    in all, and the solution that it reaches is compared with m. The path has escaped if
    one of these holds. The loss on the straight line between the two rises above the
    higher end by more than `barrier_threshold`, if that is given. The distance between
    the two is above `return_tolerance`, if that is given. Or descent has diverged.

    What it can show: an escape is proof that one exists. So `fewest_jumps` is an upper
    bound on the number of jumps needed. It is the true l* if the directions and the
    flow are those of the quickest way out, as on the line.

    What it cannot show: that there is no quicker way. If none of n paths escapes,
    `upper` bounds the probability along *these* directions. The least number over all
    directions may be smaller: one path in 1e6 decides the theory's count, but not this
    one. Independent directions in many dimensions add up like a random walk, to
    `sqrt(j) b`; with `repeat_direction` they add up to `j b`. A barrier on the straight
    line does not exclude a curved path without one. A barrier that is narrower than the
    distance over `num_points` is missed. The theory proves its count on the line; in
    more dimensions the count is a heuristic.

    Check the result. `paths.gradient_norms` and `reference.gradient_norm` must be small;
    otherwise descent has not converged. The learning rate must be below two over the
    largest eigenvalue of the Hessian; otherwise descent is unstable at m itself.

    Cost: `(num_samples * max_jumps + 1) * (descent_steps + 1)` gradients, `num_points`
    evaluations of the loss for each path and jump, and the cost of the directions. For
    a network, use a part of the data.

    Args:
      loss_fn: L, called as `loss_fn(params, *args)`, that returns one floating number
        and is differentiable.
      params: a pytree of floating arrays, at or near a minimum.
      key: an integer seed, a typed key or a legacy key.
      jump_norm: b, positive, in units of the weights: the `max_norm` of the truncation.
      learning_rate: learning rate of the descent, positive. `learning_rate *
        flow_steps` is the time between two jumps, in units of the gradient flow.
      args: the data, and any other arguments of the loss after the parameters.
      direction: the direction of the jumps, scaled to norm one. A direction of zero
        makes no jump. `"isotropic"`: every direction is equally likely. A pytree like
        `params`, such as the first vector of `hessian_eigenvalues`: along it or against
        it, with equal probabilities. A function, called as `direction(key, params,
        *args)`, that returns such a pytree, such as `gradient_noise_direction`.
      repeat_direction: whether all jumps of a path have the direction of its first
        jump.
      max_jumps: the largest j, at least one.
      num_samples: number of paths, at least one. The same paths give the result for
        every j.
      flow_steps: steps of descent between two jumps, at least 0. Escapes are easier
        with fewer steps. The theory covers all waiting times, short ones included.
      descent_steps: steps of descent to a solution, at least `flow_steps`.
      barrier_threshold: in units of the loss, at least 0; or None.
      return_tolerance: in units of the weights, at least 0; or None. In a flat valley,
        descent returns to another point of the same valley. Only a barrier detects
        escapes there.
      num_points: points on the straight line, both ends included; at least 2.
      project: applied after every jump and every step: a function from parameters (in
        float32 or wider) to parameters, for landscapes with walls.
      confidence: confidence level of Wilson's intervals, between 0 and 1.
      samples_at_once: number of paths that run in parallel. Default: as many as fit in
        512 MiB, estimated from one gradient.

    Returns:
      An `EscapeProfile`; `plot_escape_profile` draws it. Under `jit`, its settings are
      arrays, too.

    Raises:
      TypeError: if an argument has the wrong type, a leaf of `params` is not floating,
        or the loss not a floating number.
      ValueError: if `params` or an array of `args` is empty, the loss is not a scalar
        or not finite at `params`, descent from there diverges, a setting is out of its
        range, or neither criterion of an escape is given.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> def two_wells(x):  # minima at -1 and 1, half a width of 1
      ...     return (x**2 - 1.0) ** 2
      >>> profile = hto.flatness.escape_profile(
      ...     two_wells, -1.0, key=0, jump_norm=0.4, learning_rate=0.01, flow_steps=1
      ... )
      >>> print(profile.fewest_jumps)
      3.0

    References:
      Wang, Oh, Rhee, ICLR 2022 (arXiv 2102.04297), section 2, for l*; Wang and Rhee
      (arXiv 2510.20905) for more dimensions.
    """
    params = check_params(_NAME, params)
    check_key(_NAME, key)
    args = check_args(_NAME, args)
    check_positive(_NAME, "jump_norm", jump_norm)
    check_positive(_NAME, "learning_rate", learning_rate)
    repeat_direction = check_bool(_NAME, "repeat_direction", repeat_direction)
    max_jumps = check_count(_NAME, "max_jumps", max_jumps)
    num_samples = check_count(_NAME, "num_samples", num_samples)
    flow_steps, descent_steps = _check_numbers_of_steps(flow_steps, descent_steps)
    _check_criteria(barrier_threshold, return_tolerance)
    num_points = check_count(_NAME, "num_points", num_points, least=2)
    if project is not None and not callable(project):
        raise type_error(_NAME, "project", "a function of the parameters", project)
    check_scalar(
        _NAME,
        "confidence",
        confidence,
        accepted="a number between 0 and 1",
        is_valid=lambda value: 0.0 < value < 1.0,
    )
    loss_fn = check_loss(_NAME, loss_fn, params, args)
    key = tagged_key(key, _NAME)
    direction = check_direction(_NAME, direction, key, params, args)
    at_once = check_samples_at_once(
        _NAME, samples_at_once, num_samples, jax.value_and_grad(loss_fn), params, args
    )
    loss = check_finite(_NAME, loss_at(loss_fn, params, args))
    is_drawn = is_function(direction)
    reference, at_reference, outcomes = _walks(
        loss_fn,
        direction if is_drawn else None,
        project,
        params,
        None if is_drawn else direction,
        args,
        key,
        jnp.asarray(jump_norm, loss.dtype),
        jnp.asarray(learning_rate, loss.dtype),
        max_jumps=max_jumps,
        num_samples=num_samples,
        repeat_direction=repeat_direction,
        flow_steps=flow_steps,
        descent_steps=descent_steps,
        num_points=num_points,
        at_once=at_once,
    )
    end = at_reference.loss
    if not isinstance(end, jax.core.Tracer) and not bool(jnp.isfinite(end)):
        accepted = "one at which descent from `params` stays finite"
        raise value_error(_NAME, "learning_rate", accepted, learning_rate)
    escaped = _is_escaped(outcomes, barrier_threshold, return_tolerance)
    counts = jnp.sum(escaped, axis=0)
    lower, upper = wilson_interval(counts, num_samples, confidence)
    any_escaped = counts > 0
    fewest = jnp.where(any_escaped.any(), jnp.argmax(any_escaped) + 1, jnp.inf)
    return EscapeProfile(
        jumps=jnp.arange(1, max_jumps + 1, dtype=jnp.int32),
        probability=counts / num_samples,
        lower=lower,
        upper=upper,
        fewest_jumps=fewest.astype(loss.dtype),
        paths=EscapePaths(
            escaped=escaped,
            distances=outcomes.distance,
            barriers=outcomes.barrier,
            losses=outcomes.loss,
            gradient_norms=outcomes.gradient_norm,
        ),
        reference=EscapeReference(
            params=reference,
            loss=at_reference.loss,
            gradient_norm=at_reference.gradient_norm,
        ),
        settings=EscapeSettings(
            jump_norm=jump_norm,
            learning_rate=learning_rate,
            max_jumps=max_jumps,
            num_samples=num_samples,
            repeat_direction=repeat_direction,
            flow_steps=flow_steps,
            descent_steps=descent_steps,
            barrier_threshold=barrier_threshold,
            return_tolerance=return_tolerance,
            num_points=num_points,
            confidence=confidence,
        ),
    )
