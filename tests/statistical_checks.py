"""Statistical checks with a stated false-alarm rate.

Each check returns the p-value of one hypothesis over all its cases, Bonferroni included:
the chance that a right sampler does as badly. A test asks for a p-value above
`FALSE_ALARM_RATE`, so a right sampler fails it for at most that share of the keys; the
keys are fixed, so a test that passes once passes always. A negative control, a sampler
wrong in a known way, must give a p-value below the same rate.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

FALSE_ALARM_RATE = 1e-6


def bonferroni(p_values) -> float:
    """The p-value of "all hypotheses hold", from one p-value each."""
    p_values = np.asarray(p_values, float)
    assert p_values.size > 0 and not np.isnan(p_values).any()
    return min(1.0, float(p_values.size * p_values.min()))


def counts_p_value(counts, num_draws: int, probabilities) -> float:
    """How well each count agrees with its binomial law, exactly and on both sides."""
    counts, probabilities = np.broadcast_arrays(
        counts, np.asarray(probabilities, float)
    )
    below = scipy.stats.binom.cdf(counts, num_draws, probabilities)
    above = scipy.stats.binom.sf(counts - 1, num_draws, probabilities)
    return bonferroni(np.minimum(1.0, 2.0 * np.minimum(below, above)))


def survival_p_value(draws, thresholds, probabilities) -> float:
    """How well the numbers of draws above each threshold agree with `P(Z > x)`."""
    draws = np.asarray(draws)
    counts = [np.count_nonzero(draws > x) for x in np.asarray(thresholds)]
    return counts_p_value(counts, draws.size, probabilities)


def law_p_value(draws, cdf: Callable) -> float:
    """Kolmogorov-Smirnov; its asymptotic law is exact to 1e-3 at the sizes used here."""
    draws = np.sort(np.asarray(draws, float).ravel())
    values = cdf(draws)
    ranks = np.arange(draws.size + 1) / draws.size
    distance = max(np.max(ranks[1:] - values), np.max(values - ranks[:-1]))
    return float(scipy.special.kolmogorov(np.sqrt(draws.size) * distance))


def cells_p_value(counts, probabilities=None) -> float:
    """Chi-square of counts in cells; equally likely cells unless given otherwise."""
    counts = np.asarray(counts, float).ravel()
    if probabilities is None:
        probabilities = np.full(counts.size, 1.0 / counts.size)
    expected = counts.sum() * np.asarray(probabilities, float).ravel()
    assert expected.min() >= 10.0, "too few draws for the chi-square law"
    statistic = np.sum((counts - expected) ** 2 / expected)
    return float(scipy.stats.chi2.sf(statistic, counts.size - 1))


def independence_p_value(u, v, num_cells: int = 16) -> float:
    """Chi-square of pairs of uniforms on a square grid of equal cells."""
    cells = [
        np.minimum(
            (np.asarray(x, float).ravel() * num_cells).astype(int), num_cells - 1
        )
        for x in (u, v)
    ]
    counts = np.bincount(cells[0] * num_cells + cells[1], minlength=num_cells**2)
    return cells_p_value(counts)


def means_p_value(samples, expected, tolerance: float = 0.0) -> float:
    """Whether the means over the first axis are `expected`, by the normal law.

    Args:
      samples: shape (draws, cases), of finite variance; the standard error is theirs.
      expected: shape (cases,).
      tolerance: error of the expected values or of the arithmetic, not alarmed about.
    """
    samples = np.asarray(samples, float)
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    distance = np.abs(samples.mean(axis=0) - expected)
    excess = np.maximum(distance - tolerance, 0.0) / error
    return bonferroni(2.0 * scipy.stats.norm.sf(excess))


def count_above(
    sample: Callable[[jax.Array, tuple[int, ...]], jax.Array],
    seed: int,
    thresholds: Sequence[float],
    *,
    num_chunks: int,
    chunk_size: int = 2**20,
) -> np.ndarray:
    """The number of draws whose absolute value is above each threshold.

    Args:
      sample: from a key and a shape to draws.
      seed: of the key.
      thresholds: any number of them.
      num_chunks: how often `chunk_size` draws are made, none of them kept.
      chunk_size: draws at a time.

    Returns:
      Counts, one a threshold.
    """

    @functools.partial(jax.jit, static_argnums=1)
    def counts_of_chunk(key, size):
        draws = jnp.abs(sample(key, (size,)))
        return jnp.stack([jnp.sum(draws > x) for x in thresholds])

    key = jax.random.key(seed)
    total = np.zeros(len(thresholds), np.int64)
    for chunk in range(num_chunks):
        total += np.asarray(counts_of_chunk(jax.random.fold_in(key, chunk), chunk_size))
    return total
