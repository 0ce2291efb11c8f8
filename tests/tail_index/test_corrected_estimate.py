"""What is reported with an interval: the estimate that it lies around."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heavytail_optax as hto

TI = hto.tail_index
KEY = jax.random.key(0)
SHAPE = (20, 2000)  # twenty samples of each law
DRAWS = {
    "pareto": hto.tails.pareto(1.5).sample(KEY, SHAPE),
    "student": jnp.abs(hto.tails.student_t(3.0).sample(KEY, SHAPE)),
    "stable": jnp.abs(hto.tails.alpha_stable(1.5).sample(KEY, SHAPE)),
    "gaussian": jnp.abs(jax.random.normal(KEY, SHAPE)),
    "bounded": 1.0 + jax.random.uniform(KEY, SHAPE),
}
ESTIMATORS = {
    "hill": lambda draws, k: TI.hill(draws, k),
    "hill, uncorrected": lambda draws, k: TI.hill(draws, k, interval="uncorrected"),
    "kernel": lambda draws, k: TI.kernel_hill(draws, k),
    "moment": lambda draws, k: TI.moment_estimator(draws, k),
    "pickands": lambda draws, k: TI.pickands(draws, k),
    "extended": lambda draws, k: TI.extended_pareto(draws, k),
    "bootstrap": lambda draws, _: TI.choose_k_by_bootstrap(draws, key=0).index,
    "distance": lambda draws, _: TI.choose_k_by_distance(draws, max_k=500).index,
}
UNCORRECTED = {"hill, uncorrected", "pickands", "extended"}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("law", DRAWS)
def test_the_interval_is_around_the_corrected_estimate(law, name):
    found = ESTIMATORS[name](DRAWS[law], 200)
    corrected, lower, upper = found.corrected_estimate, found.lower, found.upper
    assert np.all((lower <= corrected) & (corrected <= upper))
    is_outside = (found.estimate < lower) | (found.estimate > upper)
    np.testing.assert_array_equal(found.is_biased, is_outside)
    if name in UNCORRECTED:
        np.testing.assert_array_equal(corrected, found.estimate)


def test_which_estimates_are_biased():
    """Far too many of Student's draws, and those of a law that has no index at all."""
    assert TI.hill(DRAWS["gaussian"], 400).is_biased.mean() > 0.9
    assert TI.hill(DRAWS["student"], 900).is_biased.mean() > 0.9
    # Of a power law few are: by chance one in 20 estimates differs so much.
    assert TI.hill(DRAWS["pareto"], 400).is_biased.mean() < 0.2
    assert TI.kernel_hill(DRAWS["pareto"], 400).is_biased.mean() < 0.2


def test_the_corrected_estimates():
    draws = DRAWS["student"]
    extended = TI.extended_pareto(draws, 200)
    found = TI.hill(draws, 200)
    np.testing.assert_allclose(found.corrected_estimate, extended.estimate, rtol=1e-4)
    np.testing.assert_allclose(
        TI.kernel_hill(draws, 200, kernel="uniform").corrected_estimate,
        extended.estimate,
        rtol=1e-4,
    )
    # Of the moment estimator the shift by 3 / k, as gamma is above zero here.
    found = TI.moment_estimator(draws, 200)
    is_positive = np.asarray(found.gamma > 0.0)
    assert is_positive.sum() > 15
    gamma = np.asarray(found.gamma)[is_positive] + 3.0 / 200.0
    corrected = np.asarray(found.corrected_estimate)[is_positive]
    np.testing.assert_allclose(corrected, 1.0 / gamma, rtol=1e-4)
    choice = TI.choose_k_by_distance(draws, max_k=500)
    fewer = TI.extended_pareto(draws, choice.interval_k)
    np.testing.assert_allclose(
        choice.index.corrected_estimate, fewer.estimate, rtol=1e-3
    )


REPORT = "report this, corrected for bias"


def test_a_printed_index_has_the_estimate_of_its_interval():
    law, light = DRAWS["pareto"][0], DRAWS["gaussian"][0]
    found = TI.hill(law, 200)
    ends = f"({found.lower:.2f} to {found.upper:.2f})"
    around = f"{found.corrected_estimate:.2f} {ends}"
    assert str(found) == f"{around}: {REPORT}; uncorrected {found.estimate:.2f}"
    plain = TI.hill(law, 200, interval="uncorrected")
    ends = f"({plain.lower:.2f} to {plain.upper:.2f})"
    assert str(plain) == f"{plain.estimate:.2f} {ends}"
    assert str(TI.hill(light, 400)).endswith("outside of the interval")
    bounded = TI.hill(jnp.exp(jax.random.beta(KEY, 5.0, 1.0, (10_000,))), 9000)
    assert bounded.is_biased and jnp.isinf(bounded.lower)
    assert str(bounded).startswith("no index fits; uncorrected ")
    # Without an estimate, in batches and under `jit` there is no such text, nor an error.
    assert "nan" not in str(TI.hill(jnp.ones(10), 3))
    batch = TI.hill(DRAWS["pareto"], 200)
    assert str(batch) == repr(batch)
    seen = []
    jax.jit(lambda x: seen.append(str(TI.hill(x, 200))))(law)
    assert seen[0].startswith("TailIndex(")
