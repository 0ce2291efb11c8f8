"""Softmax cross-entropy whose second derivative is the closed form."""

import jax
import jax.numpy as jnp

from heavytail_optax._dtypes import computation_dtype
from heavytail_optax._validation import type_error, value_error

_NAME = "softmax_cross_entropy"


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    r"""Softmax cross-entropy of each example, made for second derivatives.

    .. math::
      \ell = \log \sum_j e^{z_j} - z_y, \qquad
      \nabla \ell = p - e_y, \qquad
      \nabla^2 \ell\, u = p \odot u - p\, (p^\top u), \qquad
      p = \operatorname{softmax}(z).

    Value and derivatives are those of
    `optax.softmax_cross_entropy_with_integer_labels`. But the derivatives are these
    formulas, not what automatic differentiation makes of the logarithm of a sum. So a
    Hessian product, or one with `gauss_newton_loss`, keeps fewer arrays of the size of
    the logits. With vocabularies of 50,000 each of them counts.

    Args:
      logits: z, floating, shape=(..., classes). They are computed with in float32 at
        least.
      labels: y, integers from 0 to classes - 1, shape=(...). It is NaN where a label is
        outside.

    Returns:
      The loss in nats, in float32 at least, shape=(...).

    Raises:
      TypeError: if `logits` are not floating, or `labels` not integers.
      ValueError: if `labels` do not have the shape of `logits` without its last axis.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> logits, labels = jnp.array([[0.0, 0.0], [3.0, 3.0]]), jnp.array([0, 1])
      >>> print(hto.flatness.softmax_cross_entropy(logits, labels))
      [0.6931472 0.6931472]
      >>> def loss(logits, labels):
      ...     return hto.flatness.softmax_cross_entropy(logits, labels).sum()
      >>> print(jax.hessian(loss)(logits[0], labels[0]))
      [[ 0.25 -0.25]
       [-0.25  0.25]]

    References:
      Martens, "New insights and perspectives on the natural gradient method", JMLR 21
      (2020), section 8, for the Hessian of the loss of the outputs.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise type_error(_NAME, "logits", "an array of floating numbers", logits)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise type_error(_NAME, "labels", "an array of integers", labels)
    if logits.ndim == 0 or labels.shape != logits.shape[:-1]:
        accepted = (
            f"of the shape of `logits` without its last axis, {logits.shape[:-1]}"
        )
        raise value_error(_NAME, "labels", accepted, labels.shape)
    # A narrow type cannot hold the numbers of all classes that the labels are compared with.
    labels = labels.astype(jnp.promote_types(labels.dtype, jnp.int32))
    return _losses(logits.astype(computation_dtype(logits.dtype)), labels)


def _is_label(logits: jax.Array, labels: jax.Array) -> jax.Array:
    # Compared, not gathered: it is fused into what uses it, and shards like the logits.
    classes = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    return classes == labels[..., None]


@jax.custom_jvp
def _losses(logits: jax.Array, labels: jax.Array) -> jax.Array:
    # Below the largest one: where that is the label, the loss keeps its digits.
    below = logits - jnp.max(logits, axis=-1, keepdims=True)
    chosen = jnp.sum(jnp.where(_is_label(logits, labels), below, 0.0), axis=-1)
    is_class = (labels >= 0) & (labels < logits.shape[-1])
    losses = jnp.log(jnp.sum(jnp.exp(below), axis=-1)) - chosen
    return jnp.where(is_class, losses, jnp.nan)


@_losses.defjvp
def _losses_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    logits, labels = primals
    slope = _slope(logits, labels)
    return _losses(logits, labels), jnp.sum(slope * tangents[0], axis=-1)


@jax.custom_jvp
def _slope(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jax.nn.softmax(logits, axis=-1) - _is_label(logits, labels)


@_slope.defjvp
def _slope_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    logits, labels = primals
    shares = jax.nn.softmax(logits, axis=-1)
    moved = shares * tangents[0]
    curved = moved - shares * jnp.sum(moved, axis=-1, keepdims=True)
    return shares - _is_label(logits, labels), curved
