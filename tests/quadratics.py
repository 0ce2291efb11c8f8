"""Quadratic losses whose measures of flatness are known in closed form."""

import jax.numpy as jnp
import numpy as np

CURVATURE = np.random.default_rng(0).uniform(0.1, 5.0, 30)
DATA = (jnp.asarray(CURVATURE, jnp.float32), jnp.zeros(30))
SLOPE = jnp.asarray(np.linspace(-1, 1, 30), jnp.float32)


def quadratic(params, curvature, slope):
    """`h w^2 / 2 + g w`, summed, over two leaves of 10 and 20 entries."""
    w = jnp.concatenate([params["a"].ravel(), params["b"].ravel()])
    return jnp.sum(0.5 * curvature * w**2 + slope * w)


def point(value=0.0, dtype=jnp.float32):
    """Parameters of `quadratic`, all equal."""
    return {"a": jnp.full((2, 5), value, dtype), "b": jnp.full(20, value, dtype)}
