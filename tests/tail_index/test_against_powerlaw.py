"""Side by side with the `powerlaw` package: `pip install "heavytail-optax[bench]"`."""

import jax.numpy as jnp
import numpy as np
import pytest

import heavytail_optax as hto

pytestmark = pytest.mark.slow
powerlaw = pytest.importorskip("powerlaw")
TI = hto.tail_index

# Its public samples of continuous data without too many ties.
SAMPLES = ("blackouts", "fires", "flares")


@pytest.fixture(scope="module", params=SAMPLES)
def sample(request):
    return np.sort(powerlaw.load_test_dataset(request.param).astype(float))[::-1]


@pytest.mark.parametrize("k", [58, 150])
def test_the_index(sample, k):
    """Theirs is the exponent of the density and counts the draw at the threshold."""
    while sample[k] in (sample[k - 1], sample[k + 1]):
        k += 1  # with ties at the threshold the two mean different draws
    fit = powerlaw.Fit(sample, xmin=sample[k], verbose=False)
    got = TI.hill(jnp.asarray(sample, jnp.float32), k).estimate * (k + 1) / k
    np.testing.assert_allclose(got, fit.power_law.alpha - 1.0, rtol=1e-4)


def test_the_comparison(sample):
    tail = sample[:120]
    threshold = tail[-1]
    fit = powerlaw.Fit(tail, xmin=threshold, verbose=False)
    draws = jnp.asarray([*tail, threshold * (1 - 1e-6)], jnp.float32)
    fits = TI.compare_fits(draws, 120, alternatives=("exponential", "lognormal"))
    for name in ("exponential", "lognormal"):
        ratio, p_value = fit.distribution_compare(
            "power_law", name, normalized_ratio=True
        )
        # Their lognormal is found by a search, and may fall short of the maximum.
        slack = 0.02 if name == "exponential" else 0.1
        np.testing.assert_allclose(fits[name].normalised_ratio, ratio, atol=slack)
        np.testing.assert_allclose(fits[name].p_value, p_value, atol=slack)


def test_the_threshold():
    sample = powerlaw.load_test_dataset("blackouts").astype(float)
    fit = powerlaw.Fit(sample, verbose=False)
    choice = TI.choose_k_by_distance(jnp.asarray(sample, jnp.float32), min_k=2)
    assert choice.index.threshold == fit.xmin
