"""The tail-inflated gradient of a per-example loss, in one backward pass."""

from collections.abc import Callable

from jax.typing import ArrayLike

from heavytail_optax._inflated_grad import inflated_value_and_grad
from heavytail_optax._typing import (
    AxisNames,
    Batch,
    Params,
    PyTree,
    ScaleOrSchedule,
    Scheme,
)
from heavytail_optax.tails._tail import TailOrSchedule


def tail_inflated_value_and_grad(
    loss_per_example: Callable[[Params, Batch], PyTree],
    tail: TailOrSchedule,
    scale: ScaleOrSchedule,
    *,
    scheme: Scheme = "balanced",
    inflate_above: ArrayLike = 0.0,
    has_aux: bool = False,
    microbatch_size: int | None = None,
    axis_name: AxisNames = None,
) -> Callable:
    r"""Returns a function that computes a loss and its tail-inflated gradient.

    .. math::
      g = g_{SB} + Z\,(g_{SB*} - g_{LB}), \qquad Z = c\, W\, 1\{|W| > w_q\},

    where SB and SB* are small batches, LB is a large batch, and `g_B` is the mean
    gradient over a batch B. The function concatenates the batches and computes g as the
    gradient of one weighted loss, with the weights of `independent_inflation_weights`,
    `shared_inflation_weights` or `balanced_inflation_weights`. So g takes one backward
    pass, one gradient buffer and, over devices, one all-reduce, instead of three. On a
    CPU, `independent` and `shared` take several passes, each over a part of the examples:
    see `microbatch_size`. W is one draw of `tail` for the whole gradient. Apply the
    learning rate to g, and then `truncate_update_norm`, which the method needs.

    This is known to help SGD, on few networks and tasks. Before AdamW and Muon it did
    harm in the one task that was measured (`benchmarks/adam.py`).

    Gating: w_q is the q-quantile of `|W|`, and q is `inflate_above`. If q > 0 and `|W|`
    is at or below w_q, the step is a plain one and computes nothing of SB* or LB. The
    tail of Z above `c w_q` is unchanged, and so is the tail index. The gate sets a
    share q of the draws to zero, which multiplies the mean of Z by
    `(1 - q)^(1 - 1/alpha)` for a Pareto tail.

    Args:
      loss_per_example: `(params, batch) -> losses` of shape (n,) in float32 or wider,
        or `(losses, aux)` with `has_aux`. The loss of an example must not depend on the
        other examples: no batch normalisation, no contrastive loss. For randomness such
        as dropout, put a key for each example into the batch. A regulariser may be
        added to each loss; it is not inflated, because the weights sum to one.
      tail: the law of W, such as `tails.pareto(alpha)`, which the paper uses, or a
        schedule (step -> tail). If a parameter of the tail is traced and out of its
        range, the gradient is NaN.
      scale: c, a non-negative number, an array of shape () or a schedule
        (step -> scale). With a schedule that ends at zero, the run settles in its
        minimum, and its last steps compute nothing of SB* or LB. If an array or a
        schedule is negative, infinite in float32 or NaN, the gradient is NaN.
      scheme: `"independent"` (Our 1 in the paper), `"shared"` (Our 2) or
        `"balanced"`. The last costs what the plain gradient costs. It takes SB alone
        and splits it, so SB needs at least two examples.
      inflate_above: q in [0, 1); 0 inflates in every step. If an array is out of that
        range, the gradient is NaN.
      has_aux: whether the loss returns `(losses, aux)`. Each array of aux must have a
        leading axis over the examples. The aux that is returned is that of SB.
      microbatch_size: number of examples in one forward and backward pass. A loop sums
        the gradients. The gradient is the same up to rounding, if the loss of an example
        does not depend on the others. Activations need the memory of one microbatch.
        None passes all examples at once. Only `independent` and `shared` then take 50
        examples or fewer at a time if JAX's default backend is a CPU, because a large
        batch exceeds its caches. If the batch is split over the devices of an explicit mesh,
        the size is rounded down to a multiple of the number of devices, but not below
        that number.
      axis_name: the mapped axis. Only for `balanced` inside `shard_map` or `pmap`,
        where each device has a part of SB. W is then equal on all devices. Each device
        splits its own part, of at least two examples, into halves, and returns the
        gradient of that part: average it with `jax.lax.pmean`. For one example per
        device, use `group_inflation_factors`. (In `shard_map` without `axis_name`, this
        gradient is already summed over the devices, as a plain `jax.grad` is.)

    Returns:
      A function `(key, params, small_batch, [second_small_batch], [large_batch], *,
      step=None, masks=None)`, with the batches that the scheme needs. It returns what a
      function from `jax.value_and_grad` returns: `(value, grad)`, or
      `((value, aux), grad)` with `has_aux`. Pass a new `key` in each step, equal on all
      devices. `step` is needed if `scale` or `tail` is a schedule. `masks` is a tuple
      with one entry for each batch: None, or an array of shape (n,) that is false on
      padding. The loss of padding must be finite. If all examples are padding, value
      and gradient are zero. If the mask leaves `balanced` only one example, the
      gradient is the plain one. `value` is the plain mean loss over SB.

    Raises:
      TypeError, ValueError: if an argument is not accepted; in the returned function,
        if the batches are not those of the scheme or the loss is not per example.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> def loss_per_example(params, batch):
      ...     inputs, targets = batch
      ...     return (inputs @ params - targets) ** 2
      >>> grad_fn = jax.jit(
      ...     hto.tail_inflated_value_and_grad(
      ...         loss_per_example, hto.tails.pareto(1.4), 0.5
      ...     )
      ... )
      >>> batch = jnp.eye(4), jnp.arange(4.0)
      >>> loss, grad = grad_fn(jax.random.key(0), jnp.zeros(4), batch)
      >>> print(loss, grad.shape)
      3.5 (4,)

    References:
      Wang, Oh, Rhee, "Eliminating sharp minima from SGD with truncated heavy-tailed
      noise", ICLR 2022 (arXiv 2102.04297). Gating: Wang, Rhee (arXiv 2510.20905).
    """
    return inflated_value_and_grad(
        "tail_inflated_value_and_grad",
        loss_per_example,
        tail,
        scale,
        scheme=scheme,
        inflate_above=inflate_above,
        has_aux=has_aux,
        microbatch_size=microbatch_size,
        axis_name=axis_name,
    )


def tail_inflated_grad(
    loss_per_example: Callable[[Params, Batch], PyTree],
    tail: TailOrSchedule,
    scale: ScaleOrSchedule,
    *,
    scheme: Scheme = "balanced",
    inflate_above: ArrayLike = 0.0,
    has_aux: bool = False,
    microbatch_size: int | None = None,
    axis_name: AxisNames = None,
) -> Callable:
    r"""Returns a function that computes only the tail-inflated gradient.

    .. math::
      g = g_{SB} + Z\,(g_{SB*} - g_{LB}), \qquad Z = c\, W\, 1\{|W| > w_q\},

    With the same key, this is the gradient that `tail_inflated_value_and_grad` returns.

    Args:
      loss_per_example: `(params, batch) -> losses`, or `(losses, aux)` with `has_aux`.
      tail: the law of W, or a schedule of it.
      scale: c, or a schedule of it.
      scheme: `"independent"`, `"shared"` or `"balanced"`.
      inflate_above: q in [0, 1).
      has_aux: whether the loss returns `(losses, aux)`.
      microbatch_size: number of examples in one pass; None for all at once. On an
        explicit mesh it is rounded down to a multiple of the shards of the batch.
      axis_name: the mapped axis over which SB is split, for `balanced`.

    Returns:
      A function with the arguments of that of `tail_inflated_value_and_grad`. It
      returns `grad`, or `(grad, aux)` with `has_aux`.

    Raises:
      TypeError, ValueError: as in `tail_inflated_value_and_grad`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> def loss_per_example(params, batch):
      ...     return (batch - params) ** 2
      >>> grad_fn = hto.tail_inflated_grad(
      ...     loss_per_example, hto.tails.pareto(1.4), 0.0
      ... )
      >>> print(grad_fn(jax.random.key(0), 0.0, jnp.arange(4.0)))
      -3.0
    """
    value_and_grad = inflated_value_and_grad(
        "tail_inflated_grad",
        loss_per_example,
        tail,
        scale,
        scheme=scheme,
        inflate_above=inflate_above,
        has_aux=has_aux,
        microbatch_size=microbatch_size,
        axis_name=axis_name,
    )

    def grad_fn(key, params, *batches, step=None, masks=None):
        value, grad = value_and_grad(key, params, *batches, step=step, masks=masks)
        return (grad, value[1]) if has_aux else grad

    return grad_fn
