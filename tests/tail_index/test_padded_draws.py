"""Numbers of draws are padded to few sizes: no new program, and the same results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heavytail_optax as hto

TI = hto.tail_index
CALLS = {
    "hill": lambda x, k: TI.hill(x, k),
    "extended_pareto": lambda x, k: TI.extended_pareto(x, k),
    "generalised_pareto": lambda x, k: TI.generalised_pareto(x, k),
    "truncated_pareto": lambda x, k: TI.truncated_pareto(x, k),
    "hill_drift": lambda x, k: TI.hill_drift(x, k),
    "compare_fits": lambda x, k: TI.compare_fits(
        x, k, alternatives=("exponential", "lognormal", "truncated_power_law")
    ),
    "choose_k_by_bootstrap": lambda x, k: TI.choose_k_by_bootstrap(
        x, key=0, max_k=17 * k, num_resamples=20
    ),
    "choose_k_by_distance": lambda x, k: TI.choose_k_by_distance(x, max_k=18 * k),
    "extremal_index": lambda x, k: TI.extremal_index(x, k),
    "assess_tail": lambda x, k: TI.assess_tail(x, k=k),
}


def draws(n):
    student = np.random.default_rng(n).standard_t(3.0, size=n)
    return jax.device_put(np.float32(np.abs(student)))


@pytest.fixture
def compilations():
    """A list that grows by one with each program that XLA compiles."""
    found = []

    def note(event, duration, **more):
        if event.endswith("backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield found
    jax.monitoring.unregister_event_duration_listener(note)


@pytest.mark.parametrize("name", CALLS)
def test_one_more_draw_compiles_nothing(name, compilations):
    call = CALLS[name]
    call(draws(2000), 50)
    del compilations[:]
    for n, k in ((2001, 50), (1901, 50), (2001, 52)):
        call(draws(n), k)
    assert not compilations
    jax.jit(lambda x: x - 3.0 * x)(draws(1999))  # the list does grow
    assert compilations


@pytest.mark.parametrize("name", [name for name in CALLS if name != "assess_tail"])
def test_as_without_padding(name):
    """Inside `jit` nothing is padded. Only the order of sums differs: float32's rounding.

    The likelihood of the generalised Pareto law is so flat at its maximum that rounding
    moves it by 1e-4 of its standard error.
    """
    call = CALLS[name]
    for sample in (draws(1500), jnp.minimum(draws(1500), 5.0)):
        got, expected = call(sample, 45), jax.jit(lambda x: call(x, 45))(sample)
        for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_sizes_are_few():
    """Two in each octave, and at most half as many again as are needed."""
    from heavytail_optax.tail_index._padded_draws import rounded_up

    sizes = [rounded_up(n) for n in range(1, 5000)]
    assert all(n <= size for n, size in enumerate(sizes, 1))
    assert all(size < 1.5 * n for n, size in enumerate(sizes, 1) if n > 64)
    assert len(set(sizes)) == 14
