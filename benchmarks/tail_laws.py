"""Laws to try estimators and verdicts on: power laws near and far, and others."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.signal
import scipy.stats

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


def truncated_pareto(share: float) -> Sample:
    """Of index 1.5; this share of the law is kept, and what lies beyond left out."""

    def sample(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jnp.exp(-jnp.log1p(-share * jax.random.uniform(key, shape)) / 1.5)

    return sample


def clipped(sample: Sample, bound: float) -> Sample:
    """Draws with absolute values above the bound are put on it."""
    return lambda key, shape: jnp.clip(sample(key, shape), -bound, bound)


def _arma(rng: np.random.Generator, size: int) -> np.ndarray:
    """`X_t = 0.7 X_(t-1) + e_t + 0.3 e_(t-1)`, e of Student's law of index 1.5."""
    noise = rng.standard_t(1.5, size + 200)
    return np.abs(scipy.signal.lfilter([1.0, 0.3], [1.0, -0.7], noise)[200:])


def _garch(rng: np.random.Generator, size: int) -> np.ndarray:
    """Variance `0.1 + 0.4 x^2 + 0.5 v`: E (0.4 N^2 + 0.5)^(index / 2) = 1."""
    normal, values, variance = rng.normal(size=size + 500), [], 1.0
    for each in normal:
        values.append(variance**0.5 * each)
        variance = 0.1 + 0.4 * values[-1] ** 2 + 0.5 * variance
    return np.abs(np.asarray(values[500:]))


def _index_of_garch() -> float:
    places, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()

    def excess(index: float) -> float:
        return float(weights @ (0.4 * places**2 + 0.5) ** (0.5 * index)) - 1.0

    return scipy.optimize.brentq(excess, 2.01, 20.0)


def _max_autoregression(rng: np.random.Generator, size: int) -> np.ndarray:
    """`X_t = max(X_(t-1) / 2, Z_t / 2)`, Z of Fréchet's law of index 1."""
    draws = 0.5 / rng.exponential(size=size)
    for step in range(1, size):
        draws[step] = max(0.5 * draws[step - 1], draws[step])
    return draws


# Tail index, sampler, and the end; of clipped draws the end is a value that many have.
TAILS_THAT_END: dict[str, tuple[float, Sample, float]] = {
    f"Pareto 1.5, the first {share:g}": (
        1.5,
        truncated_pareto(share),
        (1.0 - share) ** (-1.0 / 1.5),
    )
    for share in (0.9, 0.99, 0.999)
} | {
    f"Student t, df 3, clipped at {share:g}": (
        3.0,
        clipped(hto.tails.student_t(3.0).sample, bound),
        bound,
    )
    for share in (0.99, 0.999)
    for bound in [float(scipy.stats.t(3).isf(0.5 * (1.0 - share)))]
}
# Tail index, and a sampler of one series of absolute values.
SERIES: dict[str, tuple[float, Callable[[np.random.Generator, int], np.ndarray]]] = {
    "independent, Pareto 1": (1.0, lambda rng, size: 1.0 + rng.pareto(1.0, size)),
    "max-autoregression, theta 1/2": (1.0, _max_autoregression),
    "ARMA(1, 1) of Student t 1.5": (1.5, _arma),
    "GARCH(1, 1)": (_index_of_garch(), _garch),
}
