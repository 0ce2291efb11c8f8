"""Critical sharpness: two over the least step along an update that raises the loss."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._result_text import is_one_number, short_repr
from heavytail_optax._typing import Params, PyTree, Scalar
from heavytail_optax._validation import check_positive, value_error
from heavytail_optax.flatness._arguments import (
    Loss,
    check_args,
    check_finite,
    check_loss,
    check_params,
)
from heavytail_optax.flatness._loss_changes import loss_at
from heavytail_optax.flatness._perturbation import add
from heavytail_optax.flatness._search import SharpnessSearch, check_bounds, in_words
from heavytail_optax.flatness._slices import check_vector

_NAME = "critical_sharpness"


class CriticalSharpness(NamedTuple):
    """Result of `critical_sharpness`, in at least float32.

    Attributes:
      sharpness: `2 / step`. Where the search hit its lower bound, the true value is
        larger; where it hit its upper bound, smaller. shape=().
      step: the critical step: the geometric mean of the bracket, or its finite end.
        shape=().
      bracket: the largest step found that does not raise the loss, and the smallest one
        that does. The first is 0 where no step lowers the loss, the second infinite
        where none raises it. shape=(2,).
      search: the `SharpnessSearch`: whether it hit a bound, and what it cost.
    """

    sharpness: jax.Array
    step: jax.Array
    bracket: jax.Array
    search: SharpnessSearch

    __repr__ = short_repr

    def __str__(self) -> str:
        if not is_one_number(self.sharpness):
            return repr(self)
        found = in_words(f"{self.sharpness:.4g}", self.search)
        low, high = self.bracket
        if jnp.isnan(self.sharpness):
            return f"critical sharpness not known: {found}"
        if self.search.hit_upper:
            return f"critical sharpness {found}: the loss did not rise up to a step of {low:.4g}"
        where = f"the loss rises at a step between {low:.4g} and {high:.4g}"
        if self.search.hit_lower:
            where = (
                f"the loss rises at {high:.4g}, the least step that was tried: `lower` is too "
                "large, or the direction has the wrong sign (pass minus an Optax update)"
            )
        return f"critical sharpness {found}: {where}"


class _Bracket(NamedTuple):
    """The state of the search. An end that is not known yet is 0 or infinite."""

    low: jax.Array
    high: jax.Array
    has_fallen: jax.Array  # whether a step has lowered the loss
    num_steps: jax.Array


def _all_finite(tree: PyTree) -> jax.Array:
    return jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]).all()


@functools.partial(jax.jit, static_argnames="loss_fn")
def _search(
    loss_fn: Loss,
    params: Params,
    direction: PyTree,
    args: tuple[PyTree, ...],
    loss: jax.Array,
    numbers: tuple[jax.Array, ...],
) -> CriticalSharpness:
    lower, upper, initial, tolerance = numbers
    # What is traced cannot be refused: NaN comes out, and the loop does not run.
    is_valid = (0.0 < lower) & (lower < upper) & (upper < jnp.inf)
    is_valid &= (lower <= initial) & (initial <= upper)
    is_valid &= (0.0 < tolerance) & (tolerance <= 1.0)
    is_valid &= jnp.isfinite(loss) & _all_finite(direction)

    def loss_after(step: jax.Array) -> jax.Array:
        change = jax.tree.map(lambda d: -step.astype(d.dtype) * d, direction)
        return loss_fn(add(params, change), *args).astype(loss.dtype)

    def middle(bracket: _Bracket) -> jax.Array:
        return jnp.sqrt(bracket.low) * jnp.sqrt(bracket.high)

    def next_step(bracket: _Bracket) -> jax.Array:
        has_low, has_high = bracket.low > 0.0, bracket.high < jnp.inf
        outside = jnp.where(
            has_low,
            jnp.minimum(2.0 * bracket.low, upper),
            jnp.maximum(0.5 * bracket.high, lower),
        )
        step = jnp.where(has_low & has_high, middle(bracket), outside)
        return jnp.where(has_low | has_high, step, initial)

    def goes_on(bracket: _Bracket) -> jax.Array:
        is_at_end = (bracket.low >= upper) | (bracket.high <= lower)
        is_open = (bracket.low == 0.0) | (bracket.high == jnp.inf)
        is_between = (bracket.low < middle(bracket)) & (middle(bracket) < bracket.high)
        is_wide = bracket.high > bracket.low * (1.0 + tolerance)
        return is_valid & ~is_at_end & (is_open | (is_between & is_wide))

    def narrowed(bracket: _Bracket) -> _Bracket:
        step = next_step(bracket)
        moved = loss_after(step)
        # A loss that is NaN counts as raised.
        is_raised = ~(moved <= loss)
        return _Bracket(
            low=jnp.where(is_raised, bracket.low, step),
            high=jnp.where(is_raised, step, bracket.high),
            has_fallen=bracket.has_fallen | (moved < loss),
            num_steps=bracket.num_steps + 1,
        )

    nothing = _Bracket(
        jnp.zeros_like(initial),
        jnp.full_like(initial, jnp.inf),
        jnp.asarray(False),
        jnp.zeros((), jnp.int32),
    )
    found = jax.lax.while_loop(goes_on, narrowed, nothing)
    hit_upper = is_valid & (found.high == jnp.inf)
    # Steps so short that the loss stays the same to the last digit tell nothing.
    hit_lower = is_valid & ~hit_upper & ~found.has_fallen
    low = jnp.where(hit_lower, 0.0, found.low)
    step = jnp.where(
        hit_lower, found.high, jnp.where(hit_upper, found.low, middle(found))
    )
    step, low, high = (jnp.where(is_valid, x, jnp.nan) for x in (step, low, found.high))
    search = SharpnessSearch(hit_lower, hit_upper, found.num_steps + 1)
    return CriticalSharpness(2.0 / step, step, jnp.stack([low, high]), search)


def critical_sharpness(
    loss_fn: Loss,
    params: Params,
    direction: PyTree,
    *,
    args: tuple[PyTree, ...] = (),
    initial_step: Scalar = 1.0,
    lower: Scalar = 1e-8,
    upper: Scalar = 1e8,
    tolerance: Scalar = 1 / 16,
) -> CriticalSharpness:
    r"""Critical sharpness: `2 / eta_c`, where eta_c is the least step that raises the loss.

    .. math::
      \lambda_c = \frac{2}{\eta_c}, \qquad
      \eta_c = \min\{\eta > 0 : L(\theta - \eta d) > L(\theta)\}.

    On a quadratic loss, :math:`\lambda_c = d^\top H d / g^\top d`, where g is the
    gradient; so for `d = g` it is the curvature along the gradient, which is at most
    the largest eigenvalue. Gradient descent with learning rate eta along d is at the
    edge of stability where :math:`\lambda_c = 2 / \eta`. It takes a handful of
    evaluations of the loss and no derivative, so it can be followed during the training
    of a large network.

    For the *relative* critical sharpness, take as `direction` the update of another
    loss: the result says how far one can go along it before this loss rises.

    The search doubles or halves `initial_step` until it has a bracket, and then bisects
    on the logarithmic scale. If the loss along the line rises, falls and rises again, it
    finds one of the crossings. Changes of the loss below its rounding error are not
    seen: where no step that was tried lowers the loss, the search says that it hit its
    lower bound. A loss of NaN counts as raised.

    Cost: with the default tolerance, seven evaluations of the loss where `initial_step`
    is within a factor of two, such as the `step` of the measurement before. Each
    further doubling or halving takes one more.

    Args:
      loss_fn: L, called as `loss_fn(params, *args)`, that returns one floating number.
      params: theta, a pytree of floating arrays.
      direction: d, a pytree like `params`: a gradient, or *minus* an update of Optax,
        which adds its updates. With the wrong sign the loss rises at once, the lower
        bound is hit, and the printed result says so.
      args: the data, and any other arguments of the loss after the parameters.
      initial_step: the first eta to try, positive, between the bounds.
      lower: smallest eta, positive.
      upper: largest eta.
      tolerance: relative width of the bracket at which the search ends, at most 1.

    Returns:
      A `CriticalSharpness`. A direction along which the loss never rises, such as zero,
      hits the upper bound; one along which it never falls, such as an update with the
      wrong sign, the lower bound. Under `jit`, numbers are NaN where a setting is out
      of its range or the loss is not finite at `params`; so they are everywhere if
      `direction` is not finite.

    Raises:
      TypeError: if an argument has the wrong type, a leaf of `params` is not floating,
        or the loss not a floating number.
      ValueError: if `params` or an array of `args` is empty, the loss is not a scalar
        or not finite at `params`, `direction` does not match `params`, or a setting is
        out of its range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> def loss(w, curvature):
      ...     return 0.5 * jnp.sum(curvature * w**2)
      >>> curvature, w = jnp.array([1.0, 2.0, 5.0]), jnp.ones(3)
      >>> g = jax.grad(loss)(w, curvature)
      >>> found = hto.flatness.critical_sharpness(loss, w, g, args=(curvature,))
      >>> along_g = jnp.sum(curvature * g**2) / jnp.sum(g**2)
      >>> bool(abs(found.sharpness / along_g - 1.0) < 1 / 16)
      True

    References:
      Kalra et al., 2026 (arXiv 2601.16979), for the measure and its search; Cohen et
      al., ICLR 2021 (arXiv 2103.00065), for the edge of stability.
    """
    params = check_params(_NAME, params)
    direction = check_vector(_NAME, "direction", direction, params)
    args = check_args(_NAME, args)
    check_bounds(_NAME, lower, upper, tolerance)
    check_positive(_NAME, "initial_step", initial_step)
    numbers = (lower, upper, initial_step)
    are_known = all(isinstance(number, (int, float)) for number in numbers)
    if are_known and not lower <= initial_step <= upper:
        accepted = f"between `lower` and `upper`, {lower} and {upper}"
        raise value_error(_NAME, "initial_step", accepted, initial_step)
    loss_fn = check_loss(_NAME, loss_fn, params, args)
    loss = check_finite(_NAME, loss_at(loss_fn, params, args))
    settings = tuple(jnp.asarray(x, loss.dtype) for x in (*numbers, tolerance))
    return _search(loss_fn, params, direction, args, loss, settings)
