"""Laws to try estimators and verdicts on: power laws near and far, and others."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

import heavytail_optax as hto

Sample = Callable[[jax.Array, tuple[int, ...]], jax.Array]


def lognormal(sigma: float) -> Sample:
    """Of a standard deviation of the logarithm."""
    return lambda key, shape: jnp.exp(sigma * jax.random.normal(key, shape))


def log_gamma(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Index 2, and a tail that falls like `log(x) x^-2`: no power corrects it."""
    return jnp.exp(jax.random.gamma(key, 2.0, shape) / 2.0)


def gaussians(share: float, scale: float) -> Sample:
    """A share of the draws is of a larger scale."""

    def sample(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        draw_key, scale_key = jax.random.split(key)
        is_wide = jax.random.uniform(scale_key, shape) < share
        return jax.random.normal(draw_key, shape) * jnp.where(is_wide, scale, 1.0)

    return sample


def weibull(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Of shape 1/2."""
    return jax.random.exponential(key, shape) ** 2


# Tail index (infinite for none) and sampler. The tail is of the absolute values.
POWER_LAWS: dict[str, tuple[float, Sample]] = {
    "Pareto, alpha 1.5": (1.5, hto.tails.symmetric_pareto(1.5).sample),
    "Student t, df 3": (3.0, hto.tails.student_t(3.0).sample),
    "stable, alpha 1.5": (1.5, hto.tails.alpha_stable(1.5).sample),
}
FARTHER_POWER_LAWS: dict[str, tuple[float, Sample]] = {
    "Student t, df 6": (6.0, hto.tails.student_t(6.0).sample),
    "stable, alpha 1.9": (1.9, hto.tails.alpha_stable(1.9).sample),
    "Lomax, alpha 3": (3.0, hto.tails.lomax(3.0).sample),
    "log-gamma, alpha 2": (2.0, log_gamma),
}
LIGHT_TAILS: dict[str, tuple[float, Sample]] = {
    "Laplace": (math.inf, jax.random.laplace),
    "Gaussian": (math.inf, hto.tails.gaussian().sample),
}
BETWEEN: dict[str, tuple[float, Sample]] = {
    "lognormal, sigma 1": (math.inf, lognormal(1.0)),
    "lognormal, sigma 2": (math.inf, lognormal(2.0)),
    "Weibull, shape 1/2": (math.inf, weibull),
    "Gaussians, 5 % of scale 10": (math.inf, gaussians(0.05, 10.0)),
    "Gaussians, 10 % of scale 3": (math.inf, gaussians(0.1, 3.0)),
}
