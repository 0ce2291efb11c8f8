"""Checks batches, masks and per-example losses when `jax.jit` first traces them."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from heavytail_optax._dtypes import computation_dtype
from heavytail_optax._inflation_weights import as_mask
from heavytail_optax._typing import Batch, Mask, Params, PyTree
from heavytail_optax._validation import is_integer, type_error, value_error


def batch_size(call: str, argument: str, batch: Batch) -> int:
    """The common length of the leading axis of all arrays of a batch."""
    accepted = (
        "a pytree of arrays with one leading axis over the examples, as long in all"
    )
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
    if len(sizes) != 1 or sizes == {()}:
        shapes = jax.tree.map(jnp.shape, batch)
        raise value_error(call, argument, accepted, shapes)
    if sizes == {(0,)}:
        accepted = (
            "of one example or more: an empty or partly filled batch is padded, with "
            "false in `masks` for the padding"
        )
        raise value_error(call, argument, accepted, jax.tree.map(jnp.shape, batch))
    return next(iter(sizes))[0]


def check_alike(call: str, names: Sequence[str], batches: Sequence[Batch]) -> None:
    """Checks that the batches can be concatenated."""

    def form(batch):
        shapes = [jnp.shape(leaf)[1:] for leaf in jax.tree.leaves(batch)]
        return jax.tree.structure(batch), shapes

    for name, batch in zip(names[1:], batches[1:], strict=True):
        if form(batch) != form(batches[0]):
            accepted = f"like small_batch but for its size, {form(batches[0])}"
            raise value_error(call, name, accepted, form(batch))


def checked_masks(
    call: str,
    names: Sequence[str],
    batches: Sequence[Batch],
    masks: Sequence[Mask | None] | None,
) -> list[jax.Array]:
    """A mask for each batch, checked against its size."""
    accepted = f"a tuple of one mask (or None) for each of {', '.join(names)}"
    masks = (None,) * len(batches) if masks is None else masks
    if not isinstance(masks, (tuple, list)) or len(masks) != len(batches):
        raise type_error(call, "masks", accepted, masks)
    checked = []
    for name, batch, mask in zip(names, batches, masks, strict=True):
        size = batch_size(call, name, batch)
        own = as_mask(call, "masks", size if mask is None else mask, accepted)
        if own.shape != (size,):
            raise value_error(call, "masks", f"of shape ({size},) for {name}", mask)
        checked.append(own)
    return checked


def checked_losses(
    function: str,
    loss_per_example: Callable[[Params, Batch], PyTree],
    has_aux: bool,
    params: Params,
    batch: Batch,
) -> tuple[jax.Array, PyTree]:
    """The losses and the auxiliary output, checked."""
    size = batch_size(f"{function}(...)", "small_batch", batch)
    output = loss_per_example(params, batch)
    if has_aux and not (isinstance(output, tuple) and len(output) == 2):
        accepted = "a function to (losses, aux), with has_aux=True"
        raise type_error(function, "loss_per_example", accepted, output)
    losses, aux = output if has_aux else (output, None)
    dtype = getattr(losses, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        accepted = "a function to an array of floating losses"
        raise type_error(function, "loss_per_example", accepted, losses)
    if jnp.shape(losses) != (size,):
        accepted = f"a function to one loss for each of the {size} examples"
        raise value_error(function, "loss_per_example", accepted, losses)
    if any(jnp.shape(leaf)[:1] != (size,) for leaf in jax.tree.leaves(aux)):
        accepted = f"a function whose aux has a leading axis over the {size} examples"
        raise value_error(
            function, "loss_per_example", accepted, jax.tree.map(jnp.shape, aux)
        )
    if computation_dtype(losses.dtype) != losses.dtype:
        accepted = "a function to losses in float32 or wider, else 1 + Z is rounded"
        raise value_error(function, "loss_per_example", accepted, losses)
    return losses, aux


def check_step(call: str, step: object) -> None:
    accepted = "the number of the step, an integer; needed with a schedule"
    dtype = getattr(step, "dtype", None)
    is_array = dtype is not None and jnp.issubdtype(dtype, jnp.integer)
    if not (is_array or is_integer(step)):
        raise type_error(call, "step", accepted, step)
