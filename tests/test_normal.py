"""Normals for directions: their law, independence, and that none of them is zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from statistical_checks import (
    FALSE_ALARM_RATE,
    bonferroni,
    independence_p_value,
    law_p_value,
    survival_p_value,
)
from word_sources import use_extreme_words

from heavytail_optax import _random
from heavytail_optax._random import direction_normals

LEVELS = 10.0 ** -np.arange(1.0, 5.0)


def p_value_of(draws):
    """Law, tails on both sides, and independence of neighbours."""
    at = scipy.stats.norm.isf(LEVELS)
    u = scipy.stats.norm.cdf(draws)
    return bonferroni(
        [
            law_p_value(draws, scipy.stats.norm.cdf),
            survival_p_value(draws, at, LEVELS),
            survival_p_value(-draws, at, LEVELS),
            independence_p_value(u[1:], u[:-1], num_cells=32),
        ]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_law_of_a_million_draws(dtype):
    with jax.enable_x64(dtype == np.float64):
        draws = direction_normals(jax.random.key(5), (10**6,), dtype)
    assert draws.dtype == dtype
    draws = np.asarray(draws, float)
    assert p_value_of(draws) > FALSE_ALARM_RATE
    # Negative controls: a scale off by one percent, and copied neighbours.
    assert p_value_of(1.01 * draws) < FALSE_ALARM_RATE
    copied = np.where(np.arange(draws.size) % 20 == 0, np.roll(draws, 1), draws)
    assert p_value_of(copied) < FALSE_ALARM_RATE


def test_none_is_zero_and_none_is_infinite(monkeypatch):
    shape = use_extreme_words(monkeypatch, _random)
    draws = np.asarray(direction_normals(jax.random.key(0), shape, jnp.float32))
    assert np.all(np.isfinite(draws)) and np.all(draws != 0.0)
    assert 6.7 < np.max(np.abs(draws)) < 6.8
