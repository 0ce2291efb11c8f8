"""Computes the tail-inflated gradient of a per-example loss."""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from heavytail_optax._dtypes import computation_dtype
from heavytail_optax._inflation_weights import (
    SCHEMES,
    balanced_weights,
    check_can_be_split,
    independent_weights,
    mean_weights,
    shared_weights,
)
from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._microbatches import (
    first_of_joined,
    join,
    part_size,
    rows_of_shards,
    shards_of,
    take,
    untake,
)
from heavytail_optax._per_example import (
    check_alike,
    check_step,
    checked_losses,
    checked_masks,
)
from heavytail_optax._pytrees import check_axes_of_call, fold_in_axes, vary_over_axes
from heavytail_optax._schedules import check_scale, not_negative, scale_at
from heavytail_optax._typing import (
    AxisNames,
    Batch,
    Params,
    PyTree,
    ScaleOrSchedule,
    Scheme,
)
from heavytail_optax._validation import (
    check_bool,
    check_choice,
    check_scalar,
    is_function,
    is_integer,
    type_error,
    value_error,
)
from heavytail_optax.tails._tail import (
    TailOrSchedule,
    check_tail_or_schedule,
    tail_at,
)

# Part of the key of every draw, shared so that both functions draw the same.
_PURPOSE = "tail_inflated_grad"
# The limit of |Z|. Beyond it, sums of weighted losses overflow, but truncation needs a
# finite gradient. A Pareto draw of index 1.4 exceeds it once in 1e27.
_LARGEST_Z = 2.0**64
_EXAMPLES_IN_CPU_CACHE = 50
_BATCHES = {
    "independent": ("small_batch", "second_small_batch", "large_batch"),
    "shared": ("small_batch", "large_batch"),
    "balanced": ("small_batch",),
}


def _check_microbatch_size(function: str, size: object) -> None:
    accepted = "None or a positive integer"
    if not (size is None or is_integer(size)):
        raise type_error(function, "microbatch_size", accepted, size)
    if size is not None and size < 1:
        raise value_error(function, "microbatch_size", accepted, size)


def _microbatch_size(asked: int | None, scheme: str, total: int) -> int:
    """The number of examples of one pass: `asked`, or what is quick where this runs."""
    if asked is not None:
        return min(asked, total)
    if scheme == "balanced" or jax.default_backend() != "cpu":
        return total
    # In larger parts, each image takes up to twice as long.
    number = -(-total // _EXAMPLES_IN_CPU_CACHE)
    return -(-total // number)


def _in_microbatches(
    weighted_grad: Callable, params: Params, batch: Batch, weights: jax.Array, size: int
) -> tuple[PyTree, PyTree]:
    """Sums `weighted_grad` over parts of the batch, and joins its outputs per example.

    The last part is padded with the first examples of each shard, at weight zero.
    """
    shards = shards_of(batch)
    size = part_size(size, shards)
    total = weights.shape[0]
    number = -(-total // size)
    rows, missing = total // shards, (number * size - total) // shards
    if missing:
        again = rows_of_shards((batch, jnp.zeros_like(weights)), 0, missing, shards)
        batch, weights = jax.tree.map(
            functools.partial(join, num_groups=shards), (batch, weights), again
        )

    def add(sums, index):
        part = take((batch, weights), index, number, shards)
        grad, per_example = weighted_grad(params, *part)
        return jax.tree.map(lambda t, g: t + g.astype(t.dtype), sums, grad), per_example

    zeros = jax.tree.map(
        lambda p: jnp.zeros_like(p, computation_dtype(jnp.result_type(p))), params
    )
    sums, per_part = jax.lax.scan(add, zeros, jnp.arange(number))
    grad = jax.tree.map(lambda t, p: t.astype(jnp.result_type(p)), sums, params)
    per_example = jax.tree.map(lambda leaf: untake(leaf, shards), per_part)
    return grad, rows_of_shards(per_example, 0, rows, shards)


def inflated_value_and_grad(
    function: str,
    loss_per_example: Callable[[Params, Batch], PyTree],
    tail: TailOrSchedule,
    scale: ScaleOrSchedule,
    *,
    scheme: Scheme,
    inflate_above: ArrayLike,
    has_aux: bool,
    microbatch_size: int | None,
    axis_name: AxisNames,
) -> Callable:
    """`tail_inflated_value_and_grad`; errors name the `function` that was called."""
    if not callable(loss_per_example):
        accepted = "a function (params, batch) -> losses"
        raise type_error(function, "loss_per_example", accepted, loss_per_example)
    check_tail_or_schedule(function, tail, must_be_centred=False)
    check_scale(function, scale)
    check_choice(function, "scheme", scheme, SCHEMES)
    check_scalar(
        function,
        "inflate_above",
        inflate_above,
        "a number in [0, 1)",
        lambda q: 0 <= q < 1,
    )
    check_bool(function, "has_aux", has_aux)
    _check_microbatch_size(function, microbatch_size)
    axes = check_axes_of_call(function, axis_name)
    if axis_name is not None and scheme != "balanced":
        raise value_error(
            function, "axis_name", "None unless scheme is 'balanced'", axis_name
        )
    call = f"{function}(...)"
    names = _BATCHES[scheme]
    needs_step = is_function(tail) or is_function(scale)
    is_gated = not isinstance(inflate_above, (int, float)) or inflate_above > 0
    may_skip = is_gated or is_function(scale)

    def weighted_loss(params, batch, weights):
        losses, aux = checked_losses(function, loss_per_example, has_aux, params, batch)
        return jnp.sum(weights * losses), (losses, aux)

    weighted_grad = jax.grad(weighted_loss, has_aux=True)

    def grad_of(params, batches, weights, first):
        sizes = [jnp.shape(jax.tree.leaves(batch)[0])[0] for batch in batches]
        ends = list(itertools.accumulate(sizes))
        batch = jax.tree.map(join, *batches)
        weights = join(*jnp.split(weights, ends[:-1]))
        total = weights.shape[0]
        size = _microbatch_size(microbatch_size, scheme, total)
        if size == total:
            grad, per_example = weighted_grad(params, batch, weights)
        else:
            grad, per_example = _in_microbatches(
                weighted_grad, params, batch, weights, size
            )
        losses, aux = jax.tree.map(
            lambda leaf: first_of_joined(leaf, sizes), per_example
        )
        return jnp.sum(first * losses), aux, grad

    def draw(key, step):
        count = jnp.asarray(0 if step is None else step, jnp.int32)
        current = tail_at(function, tail, count, must_be_centred=False)
        size = current.sample(key, (), jnp.float32)
        c = scale_at(function, scale, count).astype(jnp.float32)
        is_active = c != 0.0
        if is_gated:
            q = not_negative(inflate_above)
            c = jnp.where(q < 1.0, c, jnp.nan)
            # Negated, so that the gate is open for NaN. With q = 0 it is always open.
            is_below = current.tail_probability(jnp.abs(size)) >= 1.0 - q
            is_below &= q > 0.0
            is_active = (is_active & ~is_below) | jnp.isnan(c)
        z = jnp.clip(c * size, -_LARGEST_Z, _LARGEST_Z)
        return jnp.where(is_active, z, 0.0), is_active

    def grad_fn(key, params, *batches, step=None, masks=None):
        check_key(call, key)
        if len(batches) != len(names):
            raise TypeError(
                f"The batches of `{call}` must be {', '.join(names)} for the scheme "
                f"{scheme!r}, each one argument, such as a tuple (inputs, targets). "
                f"Got {len(batches)} arguments instead."
            )
        if needs_step or step is not None:
            check_step(call, step)
        check_alike(call, names, batches)
        checked = checked_masks(call, names, batches, masks)
        if scheme == "balanced":
            check_can_be_split(call, names[0], checked[0].shape[0])
        first = mean_weights(checked[0])
        draw_key, split_key = jax.random.split(tagged_key(key, _PURPOSE))
        # In shard_map, the gradient of replicated parameters would otherwise be summed
        # over the devices.
        params = vary_over_axes(params, axes)
        z, is_active = draw(draw_key, step)
        if scheme == "balanced":
            weights = balanced_weights(fold_in_axes(split_key, axes), z, checked[0])
            value, aux, grad = grad_of(params, batches, weights, first)
        else:
            build = independent_weights if scheme == "independent" else shared_weights
            inflated = functools.partial(
                grad_of, params, batches, build(z, *checked), first
            )
            plain = functools.partial(grad_of, params, batches[:1], first, first)
            value, aux, grad = (
                jax.lax.cond(is_active, inflated, plain) if may_skip else inflated()
            )
        return ((value, aux), grad) if has_aux else (value, grad)

    return grad_fn
