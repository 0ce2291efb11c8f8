"""Measures the bound b of the truncation in some training steps."""

from collections.abc import Callable, Iterable, Sized

import jax
import jax.numpy as jnp
import numpy as np
import optax

from heavytail_optax._adaptive_max_norm import TRUNCATED_SHARE
from heavytail_optax._keys import check_key, fold_in, tagged_key
from heavytail_optax._norm import norm_value, tree_norm
from heavytail_optax._truncation import truncate_update_norm
from heavytail_optax._typing import Batch, Key, Params, PyTree
from heavytail_optax._validation import check_share, type_error, value_error

_NAME = "measure_max_norm"
_STEPS_AT_REST = 10


def _check_arguments(
    grad_fn: Callable,
    optimizer: optax.GradientTransformation,
    params: Params,
    batches: Iterable[Batch],
    truncated_share: float,
) -> None:
    if not callable(grad_fn):
        accepted = "a function of (key, params, batch) that returns (value, grad)"
        raise type_error(_NAME, "grad_fn", accepted, grad_fn)
    if not isinstance(optimizer, optax.GradientTransformation):
        accepted = "an optimiser of Optax"
        raise type_error(_NAME, "optimizer", accepted, optimizer)
    accepted = "a pytree of floating arrays, at least one"
    leaves = jax.tree.leaves(params)
    if not leaves:
        raise value_error(_NAME, "params", accepted, params)
    for leaf in leaves:
        dtype = getattr(leaf, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise type_error(_NAME, "params", accepted, leaf)
    if not isinstance(batches, Iterable):
        raise type_error(_NAME, "batches", "an iterable of batches", batches)
    check_share(_NAME, "truncated_share", truncated_share)
    if isinstance(batches, Sized):
        _check_number(len(batches), truncated_share)


def _check_number(number: int, truncated_share: float) -> None:
    if number * truncated_share < 1.0:
        accepted = "at least 1 / `truncated_share` batches"
        raise value_error(_NAME, "batches", accepted, f"{number} batches")


def measure_max_norm(
    grad_fn: Callable[[jax.Array, Params, Batch], tuple[PyTree, Params]],
    optimizer: optax.GradientTransformation,
    params: Params,
    batches: Iterable[Batch],
    *,
    key: Key,
    truncated_share: float = TRUNCATED_SHARE,
) -> float:
    r"""Measures the bound that a given share of the updates exceeds.

    .. math:: b = \text{the } (1 - s)\text{-quantile of } |u_1|, \dots, |u_n|,

    where u_t is the update of step t *before* truncation, learning rate included, and s
    is `truncated_share`. The function trains a copy of the parameters, one step for
    each batch. To train safely, it truncates: for the first ten steps the parameters
    stay where they are, and from then on the bound is the median of the norms so far.

    With 300 batches and SGD, the tail of the inflation makes b uncertain by about 20 %.
    With momentum it is less certain, because a large jump stays in the updates for
    several steps. In `benchmarks/adam.py` twice and half this b trained as well with
    SGD. `adaptive_max_norm` needs no measurement.

    Args:
      grad_fn: `(key, params, batch) -> (value, grad)`, such as
        `tail_inflated_value_and_grad` returns for `balanced`.
      optimizer: the optimiser without the truncation. Give it the largest learning rate
        of the run as a constant: in a warm-up, updates are shorter than later.
      params: the parameters to begin with. They are not changed and not donated.
      batches: the batches, one for each step: at least `1 / truncated_share`, better
        300.
      key: an integer seed, a typed key or a legacy key.
      truncated_share: s, between 0 and 1.

    Returns:
      b, for `truncate_update_norm`. It is NaN if a norm is NaN.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if `truncated_share` is out of range, or there are too few batches.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import heavytail_optax as hto
      >>> def loss_per_example(params, batch):
      ...     inputs, targets = batch
      ...     return (inputs @ params - targets) ** 2
      >>> grad_fn = hto.tail_inflated_value_and_grad(
      ...     loss_per_example, hto.tails.pareto(1.4), 1.0
      ... )
      >>> keys = jax.random.split(jax.random.key(0), 300)
      >>> batches = ((jax.random.normal(key, (8, 3)), jnp.ones(8)) for key in keys)
      >>> b = hto.measure_max_norm(
      ...     grad_fn, optax.sgd(0.05), jnp.zeros(3), batches, key=1
      ... )
      >>> optimizer = optax.chain(optax.sgd(0.05), hto.truncate_update_norm(b))
    """
    _check_arguments(grad_fn, optimizer, params, batches, truncated_share)
    check_key(_NAME, key)

    @jax.jit
    def step(key, number, params, state, bound, batch):
        grad = grad_fn(fold_in(key, number), params, batch)[1]
        updates, state = optimizer.update(grad, state, params)
        leaves = jax.tree.leaves(updates)
        norm = norm_value(tree_norm(leaves, [()] * len(leaves)))
        truncation = truncate_update_norm(bound)
        updates, _ = truncation.update(updates, truncation.init(params))
        return optax.apply_updates(params, updates), state, norm

    key, state, norms = tagged_key(key, _NAME), optimizer.init(params), []
    for number, batch in enumerate(batches):
        bound = np.median(norms) if number >= _STEPS_AT_REST else 0.0
        params, state, norm = step(
            key, jnp.int32(number), params, state, jnp.float32(bound), batch
        )
        norms.append(float(norm))
    _check_number(len(norms), truncated_share)
    return float(np.quantile(norms, 1.0 - truncated_share))
