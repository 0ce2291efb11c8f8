"""The measured bound is the quantile that it promises, and measuring it is safe."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from statistical_checks import FALSE_ALARM_RATE

import heavytail_optax as hto

NUM = 400
BATCHES = [jnp.float32(number) for number in range(NUM)]
TAIL = hto.tails.pareto(1.2)


def pure_noise(key, params, batch):
    """The gradient is a Pareto draw along one axis, wherever the parameters are."""
    del batch
    return 0.0, {"w": TAIL.sample(key) * jnp.eye(3)[0], "b": 0.0 * params["b"]}


PARAMS = {"w": jnp.zeros(3), "b": jnp.zeros(2)}


def test_the_quantile_of_a_known_law():
    """The number of new draws beyond b has the law of an order statistic."""
    for share in (0.03, 0.2):
        b = hto.measure_max_norm(
            pure_noise, optax.sgd(0.1), PARAMS, BATCHES, key=0, truncated_share=share
        )
        # P(W > b) of the quantile of NUM draws is beta distributed.
        beyond = float(TAIL.tail_probability(b / 0.1))
        law = scipy.stats.beta(NUM * share, NUM * (1 - share))
        assert FALSE_ALARM_RATE < law.cdf(beyond) < 1 - FALSE_ALARM_RATE
        wrong = float(TAIL.tail_probability(b / 0.3))
        assert not FALSE_ALARM_RATE < law.cdf(wrong) < 1 - FALSE_ALARM_RATE


def test_it_is_the_quantile_of_all_norms_before_truncation():
    norms = np.geomspace(0.01, 100.0, NUM)

    def known(key, params, batch):
        del key
        number = batch.astype(jnp.int32)
        return 0.0, {"w": jnp.asarray(norms)[number] * jnp.eye(3)[0], "b": params["b"]}

    b = hto.measure_max_norm(
        known, optax.sgd(1.0), PARAMS, BATCHES, key=0, truncated_share=0.1
    )
    np.testing.assert_allclose(b, np.quantile(norms, 0.9), rtol=1e-5)


def test_steps_are_cut_to_the_median_of_the_norms_so_far():
    """Where the run is, its gradient tells: it is the distance gone."""
    places = []

    def gradient(key, params, batch):
        jax.debug.callback(lambda w: places.append(float(w[0])), params["w"])
        draw = 1.0 + 99.0 * (batch % 10 == 9)  # every tenth is a hundred times as long
        return 0.0, {"w": -draw * jnp.eye(3)[0], "b": params["b"]}

    hto.measure_max_norm(
        gradient, optax.sgd(1.0), PARAMS, BATCHES[:40], key=0, truncated_share=0.1
    )
    jax.effects_barrier()
    np.testing.assert_array_equal(places[:11], 0.0)  # ten steps at rest
    np.testing.assert_array_equal(places[11:], np.arange(1.0, 30.0))


def test_the_parameters_and_the_key_stay_valid():
    key = jax.random.key(0)
    first, second = (
        hto.measure_max_norm(pure_noise, optax.sgd(0.1), PARAMS, BATCHES[:50], key=key)
        for _ in range(2)
    )
    assert first == second
    assert jax.random.normal(key).shape == () and PARAMS["w"].shape == (3,)


def test_nan_is_told():
    def broken(key, params, batch):
        return 0.0, jax.tree.map(lambda x: x + jnp.nan, params)

    b = hto.measure_max_norm(broken, optax.sgd(0.1), PARAMS, BATCHES[:50], key=0)
    assert np.isnan(b)


def test_too_few_batches_are_refused():
    with pytest.raises(ValueError, match="`batches` argument"):
        hto.measure_max_norm(pure_noise, optax.sgd(0.1), PARAMS, BATCHES[:33], key=0)
