"""Proposes settings of tail inflation from measured norms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._adaptive_max_norm import TRUNCATED_SHARE
from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._result_text import is_one_number, short_repr
from heavytail_optax._validation import (
    check_positive,
    check_share,
    value_error,
)
from heavytail_optax.tail_index._arguments import check_samples

_NAME = "propose_settings"


class ProposedSettings(NamedTuple):
    """Settings of tail inflation and their effect; each field has shape ().

    Attributes:
      alpha: for `tails.pareto(alpha)`, as given.
      scale: c, for `tail_inflated_value_and_grad`, as given; without a unit.
      max_norm: b, for `truncate_update_norm` after the learning rate; in units of the
        parameters.
      typical_update_norm: median of the plain step, learning rate times gradient norm.
      typical_noise_norm: median of learning rate times noise norm, not inflated.
      truncated_share: share of truncated steps, as requested.
    """

    alpha: jax.Array
    scale: jax.Array
    max_norm: jax.Array
    typical_update_norm: jax.Array
    typical_noise_norm: jax.Array
    truncated_share: jax.Array

    __repr__ = short_repr

    def __str__(self) -> str:
        if not is_one_number(self.max_norm):
            return repr(self)
        return (
            f"max_norm {self.max_norm:.4g} cuts {100.0 * self.truncated_share:.3g} % of "
            f"the steps with alpha {self.alpha:.4g} and scale {self.scale:.4g}; typical "
            f"step {self.typical_update_norm:.4g}, with noise {self.typical_noise_norm:.4g}"
        )


def _share_beyond(bound, gradient, noise, alpha, scale) -> jax.Array:
    """The share of steps whose norm `sqrt(g^2 + Z^2 v^2)` exceeds the bound."""
    room = jnp.sqrt(jnp.maximum(bound**2 - gradient**2, 0.0))
    ratio = scale * noise / jnp.where(room > 0.0, room, 1.0)
    probability = jnp.where(room > scale * noise, jnp.minimum(ratio, 1.0) ** alpha, 1.0)
    return jnp.mean(probability)


@jax.jit
def _bound(gradient, noise, alpha, scale, share) -> jax.Array:
    """The bound that this share of the steps exceeds, by bisection of its logarithm."""
    low = jnp.log(jnp.maximum(jnp.min(gradient), jnp.finfo(noise.dtype).tiny))
    largest = jnp.max(gradient) + jnp.max(noise) * scale * share ** (-1.0 / alpha)
    high = jnp.log(2.0 * largest)

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        beyond = _share_beyond(jnp.exp(middle), gradient, noise, alpha, scale)
        is_small = beyond > share
        return jnp.where(is_small, middle, low), jnp.where(is_small, high, middle)

    low, high = jax.lax.fori_loop(0, 60, halve, (low, high))
    return jnp.exp(high)


@on_auto_axes
def propose_settings(
    noise_norms: npt.ArrayLike,
    gradient_norms: npt.ArrayLike,
    learning_rate: float,
    *,
    alpha: float = 1.4,
    scale: float = 1.0,
    truncated_share: float = TRUNCATED_SHARE,
) -> ProposedSettings:
    r"""Proposes max_norm for tail inflation from measured noise.

    A step is `eta (g + Z V)` with Z = c W and `P(W > w) = w^-alpha`. The proposed b is
    the norm that `truncated_share` of the steps exceed. It follows from the law of Z
    and the measured pairs of norms, if V is orthogonal to g, as it nearly is in many
    dimensions:

    .. math::
      \frac1n \sum_i P\Bigl(\eta \sqrt{|g_i|^2 + Z^2 |V_i|^2} > b\Bigr) = s.

    `adaptive_max_norm` cuts the same share and finds its bound while it trains. Use the
    proposal where the bound must be known before, as for runs that are compared.

    alpha and c are yours. They are not estimated from the noise: the point of inflation
    is that you *set* them. If the noise itself has a tail index below alpha, the
    product has that index, and inflation adds little. Check with `assess_tail` first.

    The proposal is the start of a search, not its result. Which b eliminates which
    minima depends on their width, which norms do not show. `flatness.escape_profile`
    measures it.

    Args:
      noise_norms: `|V_i|`, shape (n,), n at least ten: norms of the noise to inflate,
        such as half the difference of the gradients of two halves of a batch.
      gradient_norms: `|g_i|` of the same steps, shape (n,). Leave out steps with a norm
        that is not finite: it would make `max_norm` infinite or NaN.
      learning_rate: eta, positive.
      alpha: tail index of W, above 1 and below 2 for the theory; positive.
      scale: c, positive. The median of Z is `2^(1/alpha)` times that.
      truncated_share: s, between 0 and 1.

    Returns:
      A `ProposedSettings`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range, or the norms differ in number.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> settings = hto.tail_index.propose_settings(jnp.ones(100), jnp.zeros(100), 0.1)
      >>> print(f"{settings.max_norm:.2f}")  # 0.1 * 0.03 ** (-1 / 1.4)
      1.22
    """
    noise = check_samples(_NAME, noise_norms, least=10, argument="noise_norms")
    gradient = check_samples(_NAME, gradient_norms, least=10, argument="gradient_norms")
    for argument, norms in (("noise_norms", noise), ("gradient_norms", gradient)):
        if norms.ndim != 1 or norms.shape != noise.shape:
            accepted = "of shape (n,), one norm a step, as many as of the other"
            raise value_error(_NAME, argument, accepted, norms)
    check_positive(_NAME, "learning_rate", learning_rate)
    check_positive(_NAME, "alpha", alpha)
    check_positive(_NAME, "scale", scale)
    check_share(_NAME, "truncated_share", truncated_share)
    dtype = jnp.promote_types(noise.dtype, gradient.dtype)
    noise, gradient = (learning_rate * x.astype(dtype) for x in (noise, gradient))
    alpha, scale, truncated_share = (
        jnp.asarray(x, dtype) for x in (alpha, scale, truncated_share)
    )
    return ProposedSettings(
        alpha=alpha,
        scale=scale,
        max_norm=_bound(gradient, noise, alpha, scale, truncated_share),
        typical_update_norm=jnp.median(gradient),
        typical_noise_norm=jnp.median(noise),
        truncated_share=truncated_share,
    )
