"""phi_b: truncates the norm of the update, of all of it together or group by group."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from heavytail_optax._bounds import (
    bound_at,
    check_max_norms,
    first_bound,
    is_max_norm,
    next_bounds,
)
from heavytail_optax._dtypes import accumulation_dtype
from heavytail_optax._norm import ScaledNorm, group_norms, norm_value
from heavytail_optax._pytrees import (
    axes_of_leaves,
    check_axis_name,
    check_leaves,
    prefix_indices,
)
from heavytail_optax._typing import AxisNamesTree, MaxNormTree, PyTree
from heavytail_optax._validation import check_state, foreign_state

_NAME = "truncate_update_norm"


class TruncateUpdateNormState(NamedTuple):
    """State of `truncate_update_norm`. No update makes a later step's fields NaN.

    The last three fields are scalars. If `max_norm` is a pytree, they are pytrees of
    its structure, with a scalar for each group.

    Attributes:
      truncation_count: number of steps so far. shape=(), dtype=int32.
      update_norm: norm of the last update before truncation, at most the largest
        float32; NaN if that update has a NaN. shape=(), dtype=float32.
      num_truncated: number of updates truncated so far. shape=(), dtype=int32.
      max_norm: the bound of the last update; if it adapts, that of the next one. The
        largest float32 stands for no bound; it is NaN if the bound is. shape=(),
        dtype=float32.
    """

    truncation_count: jax.Array
    update_norm: PyTree
    num_truncated: PyTree
    max_norm: PyTree


def _is_within(norm: ScaledNorm, bound: jax.Array) -> jax.Array:
    """Whether phi_b leaves the update unchanged; false if the norm or bound is NaN."""
    return (norm.scaled_norm <= bound * norm.scale) & (
        (norm.num_infinite == 0) | jnp.isinf(bound)
    )


def _factors(norm: ScaledNorm, bound: jax.Array, is_within: jax.Array) -> jax.Array:
    """What phi_b does to each entry x: `clip(x * scale, -limit, limit) * factor`.

    Returns:
      An array of shape (4, num_groups): whether x is unchanged, scale, limit and
      factor. They are packed behind a barrier, so that the loop over the elements reads
      them. Without it, XLA computes them again for each element.
    """
    info = jnp.finfo(bound.dtype)
    has_infinite = norm.num_infinite > 0
    # With infinite entries: the finite ones shrink to at most 2^48 (in float32), and
    # the infinite ones become 2^76, beside which 2^48 is negligible. Do not shrink them
    # further: XLA merges the factor with a learning rate before it, and if the product
    # underflows to zero, zero times infinity is NaN.
    shrink = 2.0 ** (-5 * info.maxexp // 8)
    substitute = 2.0 ** (3 * info.maxexp // 8 + info.nmant + 5)
    root = jnp.sqrt(jnp.where(has_infinite, norm.num_infinite, 1.0))
    of_infinite = bound / (root * substitute) + 0.0 * norm.scaled_norm
    of_finite = bound / jnp.where(norm.scaled_norm == 0.0, 1.0, norm.scaled_norm)
    factors = jnp.stack(
        [
            is_within.astype(bound.dtype),
            jnp.where(has_infinite, shrink, norm.scale),
            jnp.where(has_infinite, substitute, float(info.max)),
            jnp.where(has_infinite, of_infinite, of_finite),
        ]
    )
    return jax.lax.optimization_barrier(factors)


def _truncate_leaf(x: jax.Array, factors: jax.Array) -> jax.Array:
    """phi_b on one leaf, given the factors, which are the same for all leaves."""
    if jnp.iscomplexobj(x):
        real, imaginary = (
            _truncate_leaf(x.real, factors),
            _truncate_leaf(x.imag, factors),
        )
        return jax.lax.complex(real, imaginary)
    is_kept, scale, limit, factor = factors
    clipped = jnp.clip(x.astype(factors.dtype) * scale, -limit, limit)
    return jnp.where(is_kept > 0.0, x, (clipped * factor).astype(x.dtype))


def _by_group(function: Callable[[jax.Array, int], jax.Array], tree: PyTree) -> PyTree:
    """`function(leaf, number of its group)` for a scalar of each group."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(function(x, group) for group, x in enumerate(leaves))


def truncate_update_norm(
    max_norm: MaxNormTree, *, axis_name: AxisNamesTree = None
) -> optax.GradientTransformationExtraArgs:
    r"""Truncates the norm of the whole update: phi_b.

    .. math:: \varphi_b(u) = \min(b, |u|)\, \frac{u}{|u|}, \qquad \varphi_b(0) = 0,

    where `|u|` is the Euclidean norm over all leaves together and b is `max_norm`. Put
    it last in the chain, after the learning rate: the theory bounds the step that the
    parameters take, not the gradient. With SGD and heavy-tailed noise it is known to
    help, on few networks and tasks. Truncation without noise changed nothing there.
    `adaptive_max_norm` finds a bound by itself.

    The result has norm `min(b, |u|)` for every finite update, however large or small
    its entries, and for every b from 1e-20 up. (Below that, the quotient `b / |u|` may
    underflow in float32.) If some entries are infinite, they share b equally, and the
    finite ones become 0 or nearly 0. A NaN makes every entry NaN, so that
    `optax.apply_if_finite` sees it. An update within the bound is returned unchanged,
    bit for bit.

    Args:
      max_norm: the bound b, in units of the parameters: a positive number, infinity
        for no truncation, a JAX array of shape (), a schedule (step -> bound), or
        `adaptive_max_norm(...)`, which finds the bound that cuts a given share of the
        updates. If an array or a schedule is 0, the update is 0, as with a learning
        rate of 0; infinite entries become 0, too. If it is negative or NaN, the update
        is NaN. Values down to -1e-6 count as 0, because rounding may take a schedule
        slightly below 0.
        A pytree prefix of the updates with one of these at each leaf, or None for no
        bound, makes a group of each of its subtrees and bounds the norm of each group
        alone. The theory has one bound on the whole update.
      axis_name: the name of the mapped axis, a tuple of names, or a pytree prefix of
        the updates, with names for sharded leaves and None for replicated ones. Set it
        only inside `shard_map` or `pmap`, and only if the parameters themselves are
        sharded. Under `jit`, and under data parallelism with replicated parameters,
        leave it None.

    Returns:
      A transformation whose state is a `TruncateUpdateNormState`. Read it with
      `optax.tree.get(state, "num_truncated")`.

    Raises:
      TypeError: if `max_norm` does not consist of these, or `axis_name` does not
        consist of names; in `update`, if a leaf is not a floating or complex array, or
        if the state is not one that `init` or `update` returned.
      ValueError: if a bound is not positive or not a scalar; in `update`, if `max_norm`
        or `axis_name` is not a prefix of the updates.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import heavytail_optax as hto
      >>> truncation = hto.truncate_update_norm(1.0)
      >>> params = {"w": jnp.zeros(2)}
      >>> state = truncation.init(params)
      >>> updates, state = truncation.update({"w": jnp.array([3.0, 4.0])}, state)
      >>> print(updates["w"])
      [0.6 0.8]
      >>> print(optax.tree.get(state, "update_norm"), state.num_truncated)
      5.0 1
      >>> by_group = hto.truncate_update_norm({"w": 1.0, "b": None})
      >>> state = by_group.init({"w": jnp.zeros(2), "b": jnp.zeros(2)})
      >>> updates = {"w": jnp.array([3.0, 4.0]), "b": jnp.array([6.0, 8.0])}
      >>> updates, state = by_group.update(updates, state)
      >>> print(updates["w"], updates["b"], state.num_truncated["w"])
      [0.6 0.8] [6. 8.] 1

    References:
      Wang, Oh, Rhee, "Eliminating sharp minima from SGD with truncated heavy-tailed
      noise", ICLR 2022 (arXiv 2102.04297), equation for X_j in section 2.
    """
    check_max_norms(_NAME, max_norm)
    check_axis_name(_NAME, axis_name)
    bounds, groups_of = jax.tree.flatten(max_norm, is_leaf=is_max_norm)

    def init_fn(params):
        del params
        zeros = [jnp.zeros((), jnp.int32) for _ in bounds]
        return TruncateUpdateNormState(
            truncation_count=jnp.zeros((), jnp.int32),
            update_norm=groups_of.unflatten([x.astype(jnp.float32) for x in zeros]),
            num_truncated=groups_of.unflatten(zeros),
            max_norm=groups_of.unflatten([first_bound(_NAME, own) for own in bounds]),
        )

    def update_fn(updates, state, params=None, **extra_args):
        del params, extra_args
        check_state(_NAME, state, TruncateUpdateNormState)
        known, structure_of_state = jax.tree.flatten(state.max_norm)
        # Not by structure: a checkpoint may come back with lists for tuples.
        if len(known) != len(bounds):
            accepted = f"with {len(bounds)} bounds"
            raise foreign_state(_NAME, accepted, f"one with {len(known)}")
        leaves, structure = jax.tree.flatten(updates)
        count = state.truncation_count
        new_state = state._replace(truncation_count=optax.safe_increment(count))
        if not leaves:
            return updates, new_state
        leaves = check_leaves(_NAME, leaves, allow_complex=True)
        groups = prefix_indices(_NAME, "max_norm", max_norm, updates, is_max_norm)
        axes = axes_of_leaves(_NAME, axis_name, updates)
        norms = group_norms(leaves, axes, groups, len(bounds))
        is_infinite = norms.num_infinite > 0
        applied = [
            bound_at(_NAME, own, last, count, is_infinite[group])
            for group, (own, last) in enumerate(zip(bounds, known, strict=True))
        ]
        bound = jnp.stack(applied).astype(accumulation_dtype(leaves))
        is_within = _is_within(norms, bound)
        is_nan = jnp.isnan(norms.scaled_norm)
        is_truncated = ~(is_within | is_nan | jnp.isnan(bound))
        value = jax.lax.stop_gradient(norm_value(norms))
        # An infinite or NaN norm moves no bound.
        usable = jnp.where(is_nan | is_infinite, jnp.inf, value)
        new_state = new_state._replace(
            update_norm=_by_group(
                lambda _, group: jnp.where(is_nan[group], jnp.nan, value[group]),
                state.update_norm,
            ),
            num_truncated=_by_group(
                lambda old, group: old + is_truncated[group].astype(jnp.int32),
                state.num_truncated,
            ),
            max_norm=structure_of_state.unflatten(
                next_bounds(bounds, known, applied, count, usable)
            ),
        )
        factors = _factors(norms, bound, is_within)
        truncated = [
            _truncate_leaf(x, factors[:, group])
            for x, group in zip(leaves, groups, strict=True)
        ]
        return jax.tree.unflatten(structure, truncated), new_state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
