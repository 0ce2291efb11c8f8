"""How often intervals of 95 % hold the truth, over a thousand samples.

Asked for is 92 to 97 %. An interval whose coverage is 95 % fails that for 2 keys of a
thousand, one of 93.2 %, as some have at k = 500, for 6 of a hundred; the keys are fixed.
The intervals that know nothing of bias are the negative
control. `benchmarks/tail_index_coverage.py` has the whole table.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heavytail_optax as hto

TI = hto.tail_index
INFINITE = float("inf")
LAWS = {
    "laplace": (INFINITE, jax.random.laplace),
    "pareto": (1.5, hto.tails.symmetric_pareto(1.5).sample),
    "student": (3.0, hto.tails.student_t(3.0).sample),
    "stable": (1.5, hto.tails.alpha_stable(1.5).sample),
}


def coverage(estimator, law, size=10_000):
    alpha, sample = LAWS[law]

    @jax.jit
    def covers(key):
        draw_key, key = jax.random.split(key)
        result = estimator(jnp.abs(sample(draw_key, (size,))), key)
        # The interval of an infinite index begins below: all of gamma's is not below 0.
        begins = (
            jnp.isfinite(result.lower) if alpha == INFINITE else result.lower <= alpha
        )
        return begins & (alpha <= result.upper)

    keys = jax.random.split(jax.random.key(10), 1000)
    return np.mean(jax.lax.map(covers, keys, batch_size=50))


ESTIMATORS = {
    "hill": TI.hill,
    "kernel": TI.kernel_hill,
    "extended_pareto": TI.extended_pareto,
    "generalised_pareto": TI.generalised_pareto,
    "moment": TI.moment_estimator,
    "pickands": TI.pickands,
}


HEAVY = [name for name in LAWS if name != "laplace"]


@pytest.mark.parametrize("law", HEAVY)
@pytest.mark.parametrize(
    ("name", "k"),
    [
        ("hill", 500),
        *(
            pytest.param(name, k, marks=pytest.mark.slow)
            for name in ESTIMATORS
            for k in (50, 100, 500)
            if (name, k) != ("hill", 500)
        ),
    ],
)
def test_at_a_given_k(name, k, law):
    observed = coverage(lambda draws, _: ESTIMATORS[name](draws, k), law)
    assert 0.92 <= observed <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "k"),
    [("moment", 50), ("moment", 100), ("pickands", 50), ("pickands", 500)]
    + [("generalised_pareto", k) for k in (50, 100, 500)],
)
def test_of_an_exponential_tail(name, k):
    observed = coverage(lambda draws, _: ESTIMATORS[name](draws, k), "laplace")
    assert 0.92 <= observed <= 0.97


@pytest.mark.slow
def test_the_moment_estimator_with_too_many_draws_of_an_exponential_tail():
    assert coverage(lambda draws, _: TI.moment_estimator(draws, 1000), "laplace") < 0.85


@pytest.mark.parametrize("law", ["student", "stable"])
@pytest.mark.parametrize("estimator", [TI.hill, TI.kernel_hill])
def test_without_the_correction(estimator, law):
    observed = coverage(
        lambda draws, _: estimator(draws, 500, interval="uncorrected"), law
    )
    assert observed < 0.85


@pytest.mark.parametrize("law", HEAVY)
def test_at_the_k_of_the_least_distance(law):
    def choose(draws, _):
        return TI.choose_k_by_distance(draws, num_candidates=60, num_points=300)

    assert 0.92 <= coverage(lambda *both: choose(*both).index, law) <= 0.97
    if law == "stable":
        at_k = coverage(
            lambda draws, _: TI.extended_pareto(draws, choose(draws, _).k), law
        )
        assert at_k < 0.92


@pytest.mark.slow
@pytest.mark.parametrize("law", HEAVY)
def test_at_the_k_of_the_bootstrap(law):
    def choose(draws, key):
        return TI.choose_k_by_bootstrap(draws, key=key, num_resamples=100).index

    assert 0.92 <= coverage(choose, law) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("law", HEAVY)
def test_at_a_chosen_k_of_many_draws(law):
    """The interval is made of `k^(3/4)` draws: that also serves a hundred times as many."""

    def choose(draws, _):
        return TI.choose_k_by_distance(draws, num_candidates=60, num_points=300).index

    assert 0.92 <= coverage(choose, law, 1_000_000) <= 0.97
