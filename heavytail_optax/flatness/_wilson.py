"""Confidence intervals for a probability that is estimated by a share."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


@jax.jit
def wilson_interval(
    successes: jax.Array, trials: ArrayLike, confidence: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Wilson's score interval, which has a positive width even if the share is 0 or 1.

    Args:
      successes: number of successes, any shape.
      trials: number of trials, at least one.
      confidence: confidence level, between 0 and 1.

    Returns:
      Lower and upper ends, of the shape of `successes`.

    References:
      Wilson, "Probable inference, the law of succession, and statistical inference",
      Journal of the American Statistical Association 22 (1927).
    """
    z = jax.scipy.special.ndtri(0.5 + 0.5 * jnp.asarray(confidence, jnp.float32))
    share = successes / trials
    shrunk = 1.0 + z**2 / trials
    centre = (share + z**2 / (2.0 * trials)) / shrunk
    half = z * jnp.sqrt(share * (1.0 - share) / trials + (z / (2.0 * trials)) ** 2)
    low, high = centre - half / shrunk, centre + half / shrunk
    # Exact at both ends, despite rounding.
    low = jnp.where(successes == 0, 0.0, jnp.maximum(low, 0.0))
    return low, jnp.where(successes == trials, 1.0, jnp.minimum(high, 1.0))
