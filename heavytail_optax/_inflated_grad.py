"""The tail-inflated gradient of a per-example loss, in one backward pass."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from heavytail_optax._axes import check_axes_of_call, fold_in_axes, vary_over_axes
from heavytail_optax._inflation_weights import (
    SCHEMES,
    as_mask,
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
from heavytail_optax._schedules import check_scale, not_negative, scale_at
from heavytail_optax._validation import (
    check_choice,
    check_scalar,
    is_function,
    is_integer,
    type_error,
    value_error,
)
from heavytail_optax.tails._tail import check_tail_or_schedule, tail_at

_NAME = "tail_inflated_grad"
_CALL = f"{_NAME}(...)"  # the function that it returns
# Of |Z|: beyond it, sums of weighted losses overflow, and the truncation, which needs a
# finite gradient, has none. A Pareto draw of index 1.4 exceeds it once in 1e27.
_LARGEST_Z = 2.0**64
_BATCHES = {
    "independent": ("small_batch", "second_small_batch", "large_batch"),
    "shared": ("small_batch", "large_batch"),
    "balanced": ("small_batch",),
}


def _batch_size(argument: str, batch: Any) -> int:
    """The common length of the leading axis of all arrays of a batch."""
    accepted = "a pytree of arrays with one leading axis over the examples"
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
    if len(sizes) != 1 or sizes == {()}:
        raise value_error(_CALL, argument, accepted, batch)
    if sizes == {(0,)}:
        accepted = (
            "of one example or more: an empty or partly filled batch is padded, with "
            "false in `masks` for the padding"
        )
        raise value_error(_CALL, argument, accepted, jax.tree.map(jnp.shape, batch))
    return next(iter(sizes))[0]


def _check_alike(names: Sequence[str], batches: Sequence[Any]) -> None:
    """Checks that the batches can be concatenated."""

    def form(batch):
        shapes = [jnp.shape(leaf)[1:] for leaf in jax.tree.leaves(batch)]
        return jax.tree.structure(batch), shapes

    for name, batch in zip(names[1:], batches[1:], strict=True):
        if form(batch) != form(batches[0]):
            accepted = f"like small_batch but for its size, {form(batches[0])}"
            raise value_error(_CALL, name, accepted, form(batch))


def _masks(names: Sequence[str], batches: Sequence[Any], masks: Any) -> list[jax.Array]:
    """A mask for each batch, checked against its size."""
    accepted = f"a tuple of one mask (or None) for each of {', '.join(names)}"
    masks = (None,) * len(batches) if masks is None else masks
    if not isinstance(masks, (tuple, list)) or len(masks) != len(batches):
        raise type_error(_CALL, "masks", accepted, masks)
    checked = []
    for name, batch, mask in zip(names, batches, masks, strict=True):
        size = _batch_size(name, batch)
        own = as_mask(_CALL, "masks", size if mask is None else mask, accepted)
        if own.shape != (size,):
            raise value_error(_CALL, "masks", f"of shape ({size},) for {name}", mask)
        checked.append(own)
    return checked


def _losses(
    loss_per_example: Callable, has_aux: bool, params: Any, batch: Any
) -> tuple[jax.Array, Any]:
    """The losses and the auxiliary output, checked."""
    size = _batch_size("small_batch", batch)
    output = loss_per_example(params, batch)
    if has_aux and not (isinstance(output, tuple) and len(output) == 2):
        accepted = "a function to (losses, aux), with has_aux=True"
        raise type_error(_NAME, "loss_per_example", accepted, output)
    losses, aux = output if has_aux else (output, None)
    dtype = getattr(losses, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        accepted = "a function to an array of floating losses"
        raise type_error(_NAME, "loss_per_example", accepted, losses)
    if jnp.shape(losses) != (size,):
        accepted = f"a function to one loss for each of the {size} examples"
        raise value_error(_NAME, "loss_per_example", accepted, losses)
    if any(jnp.shape(leaf)[:1] != (size,) for leaf in jax.tree.leaves(aux)):
        accepted = f"a function whose aux has a leading axis over the {size} examples"
        raise value_error(
            _NAME, "loss_per_example", accepted, jax.tree.map(jnp.shape, aux)
        )
    if jnp.promote_types(losses.dtype, jnp.float32) != losses.dtype:
        accepted = "a function to losses in float32 or wider, else 1 + Z is rounded"
        raise value_error(_NAME, "loss_per_example", accepted, losses)
    return losses, aux


def _check_step(step: Any) -> None:
    accepted = "the number of the step, an integer; needed with a schedule"
    dtype = getattr(step, "dtype", None)
    is_array = dtype is not None and jnp.issubdtype(dtype, jnp.integer)
    if not (is_array or is_integer(step)):
        raise type_error(_CALL, "step", accepted, step)


def _check_microbatch_size(size: Any) -> None:
    accepted = "None or a positive integer"
    if not (size is None or is_integer(size)):
        raise type_error(_NAME, "microbatch_size", accepted, size)
    if size is not None and size < 1:
        raise value_error(_NAME, "microbatch_size", accepted, size)


def _in_microbatches(
    weighted_grad: Callable, params: Any, batch: Any, weights: jax.Array, size: int
) -> tuple[Any, Any]:
    """Sums `weighted_grad` over parts of the batch, and joins what it says of each.

    The parts are filled up with first examples of each shard again, at weight zero.
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
        lambda p: jnp.zeros_like(p, jnp.promote_types(jnp.result_type(p), jnp.float32)),
        params,
    )
    sums, per_part = jax.lax.scan(add, zeros, jnp.arange(number))
    grad = jax.tree.map(lambda t, p: t.astype(jnp.result_type(p)), sums, params)
    per_example = jax.tree.map(lambda leaf: untake(leaf, shards), per_part)
    return grad, rows_of_shards(per_example, 0, rows, shards)


def tail_inflated_grad(
    loss_per_example: Callable[[Any, Any], Any],
    tail: Any,
    scale: Any,
    *,
    scheme: str = "balanced",
    inflate_above: float = 0.0,
    has_aux: bool = False,
    microbatch_size: int | None = None,
    axis_name: Any = None,
) -> Callable:
    r"""A function to the tail-inflated gradient, in one forward and backward pass.

    .. math::
      g = g_{SB} + Z\,(g_{SB*} - g_{LB}), \qquad Z = c\, W\, 1\{|W| > w_q\},

    as the gradient of one weighted loss over the concatenated batch, with the weights
    of `tail_inflation_weights`: one gradient buffer and, over devices, one all-reduce
    instead of three. W is one draw of `tail` for the whole gradient. Follow it by the
    learning rate and `truncate_update_norm`, which the method needs.

    Gating: with `inflate_above` q > 0, a step whose `|W|` is at or below its q-quantile
    w_q is a plain step, and nothing of SB* or LB is computed in it. The tail of Z above
    `c w_q` is unchanged, so the tail index is too; what the gate takes is the body of
    the noise, of which a share q becomes zero, and with it the mean of Z (by the factor
    `(1 - q)^(1 - 1/alpha)` for a Pareto tail).

    Args:
      loss_per_example: `(params, batch) -> losses` of shape (n,) in float32 or wider,
        or `(losses, aux)` with `has_aux`. The loss of an example must not depend on the
        other examples: no batch normalisation, no contrastive loss. Randomness, as of
        dropout, belongs into the batch, as a key for each example. A regulariser may be
        added to each loss; it is not inflated, since the weights sum to one.
      tail: the law of W, in the paper `tails.pareto(alpha)`, or a schedule
        (step -> tail). A traced parameter out of its range makes the gradient NaN.
      scale: c, a non-negative number, an array of shape () or a schedule
        (step -> scale): with a schedule that ends at zero the run settles in its
        minimum, and its last steps compute nothing of SB* or LB. An array or a schedule
        that is negative, infinite in float32 or NaN makes the gradient NaN.
      scheme: `"independent"` (Our 1), `"shared"` (Our 2) or `"balanced"`, which costs
        what the plain gradient costs, and needs two examples to split.
      inflate_above: q in [0, 1); 0 inflates in every step. An array out of that range
        makes the gradient NaN.
      has_aux: whether the loss returns `(losses, aux)`. Each array of aux must have a
        leading axis over the examples; what comes back is that of SB.
      microbatch_size: number of examples that are passed forward and backward at a time,
        in a loop that sums their gradients; None for all at once. The gradient is the
        same but for rounding, and the memory for activations is that of a microbatch.
        On a CPU, where a large batch exceeds the caches, it can be quicker too.
      axis_name: only for `balanced` inside `shard_map` or `pmap`, where each device has
        its part of SB: the mapped axis. W is then equal on all devices, each splits its
        own part, of two examples or more, into halves, and the gradient is that of the
        device's own part: average it by `jax.lax.pmean`. For one example a device there
        is `group_inflation_factors`. (A plain `jax.grad` in `shard_map` comes summed over the
        devices already; without `axis_name` so does this.)

    Returns:
      A function `(key, params, small_batch, [second_small_batch], [large_batch], *,
      step=None, masks=None) -> (value, [aux,] grad)`, its batches those of the scheme.
      `key` is a new one in each step, equal on all devices. `step` is needed where
      `scale` or `tail` is a schedule. `masks` is a tuple with one entry for each batch:
      None, or an array of shape (n,) that is false on padding, whose loss must be
      finite; with nothing but padding, value and gradient are zero, and if
      they leave `balanced` one example, the gradient is the plain one. `value` is the plain
      mean loss over SB.

    Raises:
      TypeError, ValueError: if an argument is not accepted; in the returned function, if
        the batches are not those of the scheme or the loss does not come per example.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> def loss_per_example(params, batch):
      ...     inputs, targets = batch
      ...     return (inputs @ params - targets) ** 2
      >>> grad_fn = jax.jit(
      ...     hto.tail_inflated_grad(loss_per_example, hto.tails.pareto(1.4), 0.5)
      ... )
      >>> batch = jnp.eye(4), jnp.arange(4.0)
      >>> loss, grad = grad_fn(jax.random.key(0), jnp.zeros(4), batch)
      >>> print(loss, grad.shape)
      3.5 (4,)

    References:
      Wang, Oh, Rhee, "Eliminating sharp minima from SGD with truncated heavy-tailed
      noise", ICLR 2022 (arXiv 2102.04297). Gating: Wang, Rhee (arXiv 2510.20905).
    """
    if not callable(loss_per_example):
        accepted = "a function (params, batch) -> losses"
        raise type_error(_NAME, "loss_per_example", accepted, loss_per_example)
    check_tail_or_schedule(_NAME, tail, must_be_centred=False)
    check_scale(_NAME, scale)
    check_choice(_NAME, "scheme", scheme, SCHEMES)
    check_scalar(
        _NAME,
        "inflate_above",
        inflate_above,
        "a number in [0, 1)",
        lambda q: 0 <= q < 1,
    )
    if not isinstance(has_aux, bool):
        raise type_error(_NAME, "has_aux", "True or False", has_aux)
    _check_microbatch_size(microbatch_size)
    axes = check_axes_of_call(_NAME, axis_name)
    if axis_name is not None and scheme != "balanced":
        raise value_error(
            _NAME, "axis_name", "None unless scheme is 'balanced'", axis_name
        )
    names = _BATCHES[scheme]
    needs_step = is_function(tail) or is_function(scale)
    is_gated = not isinstance(inflate_above, (int, float)) or inflate_above > 0
    may_skip = is_gated or is_function(scale)

    def weighted_loss(params, batch, weights):
        losses, aux = _losses(loss_per_example, has_aux, params, batch)
        return jnp.sum(weights * losses), (losses, aux)

    weighted_grad = jax.grad(weighted_loss, has_aux=True)

    def grad_of(params, batches, weights, first):
        sizes = [jnp.shape(jax.tree.leaves(batch)[0])[0] for batch in batches]
        ends = list(itertools.accumulate(sizes))
        batch = jax.tree.map(join, *batches)
        weights = join(*jnp.split(weights, ends[:-1]))
        if microbatch_size is None or microbatch_size >= weights.shape[0]:
            grad, per_example = weighted_grad(params, batch, weights)
        else:
            grad, per_example = _in_microbatches(
                weighted_grad, params, batch, weights, microbatch_size
            )
        losses, aux = jax.tree.map(
            lambda leaf: first_of_joined(leaf, sizes), per_example
        )
        return jnp.sum(first * losses), aux, grad

    def draw(key, step):
        count = jnp.asarray(0 if step is None else step, jnp.int32)
        current = tail_at(_NAME, tail, count, must_be_centred=False)
        size = current.sample(key, (), jnp.float32)
        c = scale_at(_NAME, scale, count).astype(jnp.float32)
        is_active = c != 0.0
        if is_gated:
            q = not_negative(inflate_above)
            c = jnp.where(q < 1.0, c, jnp.nan)
            # Negated, so that the gate opens to a NaN. A q of 0 leaves nothing out.
            is_below = current.tail_probability(jnp.abs(size)) >= 1.0 - q
            is_below &= q > 0.0
            is_active = (is_active & ~is_below) | jnp.isnan(c)
        z = jnp.clip(c * size, -_LARGEST_Z, _LARGEST_Z)
        return jnp.where(is_active, z, 0.0), is_active

    def grad_fn(key, params, *batches, step=None, masks=None):
        check_key(_CALL, key)
        if len(batches) != len(names):
            raise TypeError(
                f"The batches of `{_CALL}` must be {', '.join(names)} for the scheme "
                f"{scheme!r}, each one argument, such as a tuple (inputs, targets). "
                f"Got {len(batches)} arguments instead."
            )
        if needs_step or step is not None:
            _check_step(step)
        _check_alike(names, batches)
        checked = _masks(names, batches, masks)
        if scheme == "balanced":
            check_can_be_split(_CALL, names[0], checked[0].shape[0])
        first = mean_weights(checked[0])
        draw_key, split_key = jax.random.split(tagged_key(key, _NAME))
        # Else, in shard_map, the gradient of replicated parameters would come summed
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
        return (value, aux, grad) if has_aux else (value, grad)

    return grad_fn
