"""A mean loss over data that do not fit into memory at once."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from heavytail_optax._dtypes import computation_dtype
from heavytail_optax._microbatches import part_size, rows_of_shards, shards_of, take
from heavytail_optax._typing import Params, PyTree
from heavytail_optax._validation import check_count, type_error, value_error
from heavytail_optax.flatness._arguments import Loss

_NAME = "mean_over_batches"


@dataclasses.dataclass(frozen=True)
class _MeanOverBatches:
    """The loss over batches. It compares by value, so compiled programs are reused."""

    loss_fn: Loss
    batch_size: int

    def __call__(self, params: Params, *args: PyTree) -> jax.Array:
        n = _num_examples(args)
        shards = shards_of(args)
        size = part_size(min(self.batch_size, n), shards)
        num_batches = n // size
        rows, rows_in_batches = n // shards, num_batches * size // shards
        full = rows_of_shards(args, 0, rows_in_batches, shards)

        # The backward pass recomputes each batch, so that memory does not grow with the
        # number of batches.
        @jax.checkpoint
        def loss_of_batch(params: Params, batch: tuple[PyTree, ...]) -> jax.Array:
            loss = self.loss_fn(params, *batch)
            return loss.astype(computation_dtype(loss.dtype))

        @jax.checkpoint
        def loss_of_part(params: Params, index: ArrayLike) -> jax.Array:
            return loss_of_batch(params, take(full, index, num_batches, shards))

        def add_batch(total: jax.Array, index: jax.Array):
            return total + size * loss_of_part(params, index), None

        dtype = jax.eval_shape(loss_of_part, params, 0).dtype
        start = jnp.zeros((), dtype)
        total, _ = jax.lax.scan(add_batch, start, jnp.arange(num_batches))
        if rows_in_batches < rows:
            rest = rows_of_shards(args, rows_in_batches, rows, shards)
            total = total + (n - num_batches * size) * loss_of_batch(params, rest)
        return total / n


def _num_examples(args: tuple[PyTree, ...]) -> int:
    accepted = "arrays with the examples along the first axis, equally many in each"
    shapes = [jnp.shape(x) for x in jax.tree.leaves(args)]
    lengths = {shape[0] if shape else None for shape in shapes}
    if len(lengths) != 1 or lengths <= {None, 0}:
        raise value_error(_NAME, "args", accepted, shapes)
    return lengths.pop()


def mean_over_batches(loss_fn: Loss, batch_size: int) -> Loss:
    r"""The same mean loss, computed in batches, for data that do not fit at once.

    .. math:: L(\theta) = \frac1n \sum_k n_k L_k(\theta),

    where :math:`L_k` is the given loss on the k-th batch of :math:`n_k` examples. Every
    measure accepts it in place of the loss itself. Its gradient and its Hessian-vector
    products are those of the loss on all data, in memory that does not grow with the
    number of examples. On a CPU, small batches that fit in the cache may be faster than
    all data at once. The exception is a loss with XLA's own convolutions, which are
    slow in such a loop.

    Cost: that of the loss on all data. A gradient or a Hessian-vector product costs one
    evaluation more, because each batch is recomputed.

    Args:
      loss_fn: called as `loss_fn(params, *args)`: a mean over the examples of `args`,
        which lie along the first axis of every array in it.
      batch_size: examples at a time, at least one; the last batch may be smaller. Where
        the examples are sharded over k devices by their type (explicit sharding), the
        largest multiple of k that is not above it, but at least k.

    Returns:
      A loss, called like `loss_fn`, in float32 at least. Two made of equal arguments
      are equal.

    Raises:
      TypeError: if `loss_fn` is not callable, or `batch_size` not an integer.
      ValueError: if `batch_size` is below one; when called, if the arrays differ in
        length.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> def loss(params, x, y):
      ...     return jnp.mean((x @ params - y) ** 2)
      >>> in_batches = hto.flatness.mean_over_batches(loss, 4)
      >>> x, y = jnp.ones((10, 3)), jnp.arange(10.0)
      >>> print(loss(jnp.ones(3), x, y), in_batches(jnp.ones(3), x, y))
      10.5 10.5
    """
    if not callable(loss_fn):
        raise type_error(_NAME, "loss_fn", "a function of (params, *args)", loss_fn)
    return _MeanOverBatches(loss_fn, check_count(_NAME, "batch_size", batch_size))
