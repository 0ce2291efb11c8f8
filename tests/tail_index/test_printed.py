"""A result that is printed says its numbers; a batch and a traced one say what they are."""

import jax
import jax.numpy as jnp
import pytest

import heavytail_optax as hto

TI = hto.tail_index
DRAWS = hto.tails.pareto(1.5).sample(jax.random.key(0), (2, 1000))
NORMS = jnp.minimum(DRAWS, 4.0)


def noise_scale(norms):
    return TI.gradient_noise_scale(
        norms, 0.6 * norms, small_batch_size=1, large_batch_size=8
    )


# The function, and the fields whose numbers are printed.
RESULTS = {
    "extremal index": (
        lambda x: TI.extremal_index(x, 50),
        lambda r: [f"{x:.2f}" for x in (r.estimate, r.lower, r.upper)],
    ),
    "moment": (
        lambda x: TI.finite_moment_test(x, key=0),
        lambda r: [f"{r.p_value:.2g}"],
    ),
    "end": (
        lambda x: TI.truncated_pareto(x, 50),
        lambda r: [f"{r.estimate:.2f}", f"{r.end:.4g}", f"{r.p_value:.2g}"],
    ),
    "settings": (
        lambda x: TI.propose_settings(x, 0.1 * x, 0.1),
        lambda r: [f"{r.max_norm:.4g}", f"{r.typical_noise_norm:.4g}", "3 %", "1.4"],
    ),
    "noise scale": (
        noise_scale,
        lambda r: [f"{x:.4g}" for x in (r.noise_scale, r.lower, r.upper)],
    ),
}


@pytest.mark.parametrize("draws", [DRAWS, NORMS], ids=["draws", "capped"])
@pytest.mark.parametrize("name", RESULTS)
def test_the_numbers_are_printed(name, draws):
    function, numbers = RESULTS[name]
    found = function(draws[0])
    text = str(found)
    assert "\n" not in text and "Array" not in text
    assert all(number in text for number in numbers(found))
    batch = jax.vmap(function)(draws)
    assert str(batch) == repr(batch)
    traced = []
    jax.jit(lambda x: traced.append(str(function(x))))(draws[0])
    assert "Traced" in traced[0] or "Tracer" in traced[0]


def test_a_verdict_has_the_error_as_every_table_has_it():
    found = TI.assess_tail(DRAWS[0])
    gamma, error = found.pareto.gamma, found.pareto.gamma_standard_error
    text = " ".join(str(found).split())
    assert f"gamma = {gamma:.2f} ± {error:.2f}" in text and "+-" not in text
