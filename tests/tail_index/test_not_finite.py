"""Draws that are not finite: what every function says of them is what its page says."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heavytail_optax as hto

TI = hto.tail_index
DRAWS = jnp.abs(hto.tails.student_t(2.0).sample(jax.random.key(0), (1000,)))

TOP = {"k": 50}
ARGUMENTS = {
    "choose_k_by_bootstrap": {"key": 0, "num_resamples": 3},
    "choose_k_by_distance": {"num_candidates": 20},
    "compare_fits": {**TOP, "alternatives": ("exponential", "lognormal", "student_t")},
    "extended_pareto": TOP,
    "finite_moment_test": {"key": 0},
    "generalised_pareto": TOP,
    "goodness_of_fit": {**TOP, "key": 0, "num_simulations": 10},
    "hill": TOP,
    "hill_drift": TOP,
    "hill_path": {"max_k": 50},
    "kernel_hill": TOP,
    "moment_estimator": TOP,
    "pickands": TOP,
    "truncated_pareto": TOP,
}
# Those with words for it have tests of their own.
FUNCTIONS = [
    name
    for name in TI.__all__
    if inspect.isfunction(getattr(TI, name))
    and next(iter(inspect.signature(getattr(TI, name)).parameters), "") == "samples"
    and not name.startswith(("assess_", "num_", "plot_"))
]
# Counts, and the draw at the threshold, which may be one of the finite ones.
NO_ESTIMATES = {"k", "interval_k", "threshold", "block_size", "num_blocks", "criterion"}
NO_ESTIMATES |= {"is_biased", "is_capped"}
# One infinite draw makes the logarithms' mean infinite, and the index zero.
ZERO = {"choose_k_by_bootstrap", "choose_k_by_distance", "extended_pareto", "hill"}
ZERO |= {"hill_drift", "hill_path", "kernel_hill"}
COUNTS_AS_LARGEST = {"pickands"}


def with_one(value):
    return DRAWS.at[7].set(value)


def call(name, draws):
    return getattr(TI, name)(draws, **ARGUMENTS.get(name, {}))


def estimates(result):
    """All fields but counts, by name."""
    if isinstance(result, dict):
        return {
            f"{law} {name}": x
            for law, fit in result.items()
            for name, x in estimates(fit).items()
        }
    if not hasattr(result, "_asdict"):
        return {"": result}
    found = {}
    for name, x in result._asdict().items():
        if hasattr(x, "_asdict"):
            found |= {f"{name} {inner}": y for inner, y in estimates(x).items()}
        elif name not in NO_ESTIMATES and not name.startswith("num_"):
            found[name] = x
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_nan_gives_nan(name):
    for field, x in estimates(call(name, with_one(jnp.nan))).items():
        assert np.isnan(x).all(), field


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_infinite_draw_gives_an_index_of_zero_or_nan(name):
    found = estimates(call(name, with_one(jnp.inf)))
    if name in COUNTS_AS_LARGEST:
        # A finite one in its place, farther out than all others, gives the same.
        expected = estimates(call(name, with_one(1e30)))
        np.testing.assert_array_equal(list(found.values()), list(expected.values()))
        return
    for field, x in found.items():
        if name in ZERO and field.split(" ")[-1] in ("estimate", "lower", "upper"):
            assert (np.asarray(x) == 0.0).all(), field
        elif name not in ZERO:
            assert np.isnan(x).all(), field


# These take absolute values, or all draws.
TAKE_BOTH_SIDES = {"characteristic_function", "finite_moment_test", "log_moment"}


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - TAKE_BOTH_SIDES))
def test_minus_infinity_is_a_small_draw(name):
    """Where only the largest draws count."""
    got = estimates(call(name, with_one(-jnp.inf)))
    expected = estimates(call(name, with_one(-1.0)))
    for field, x in got.items():
        np.testing.assert_array_equal(x, expected[field], err_msg=field)


def test_the_verdict_says_so():
    for value, word in ((jnp.nan, "NaN"), (jnp.inf, "infinite")):
        assessment = TI.assess_tail(with_one(value))
        assert assessment.verdict == "cannot tell"
        assert word in assessment.reasons[0]


def test_no_settings_from_norms_that_are_not_finite():
    for value, is_told in ((jnp.nan, np.isnan), (jnp.inf, np.isinf)):
        for noise, gradient in ((with_one(value), DRAWS), (DRAWS, with_one(value))):
            assert is_told(TI.propose_settings(noise, gradient, 0.1).max_norm)
