"""The verdict: heavy, light, neither, and that it says when it cannot tell."""

import jax
import jax.numpy as jnp
import pytest

import heavytail_optax as hto

assess = hto.tail_index.assess_tail
SIZE = 5000


def lognormal(key, shape):
    return jnp.exp(jax.random.normal(key, shape))


LAWS = {
    "pareto": (hto.tails.pareto(1.5).sample, "heavy-tailed"),
    "stable": (hto.tails.alpha_stable(1.5).sample, "heavy-tailed"),
    "gaussian": (hto.tails.gaussian().sample, "not heavy-tailed"),
    "exponential": (jax.random.exponential, "not heavy-tailed"),
    "lognormal": (lognormal, "not a power law"),
}


def verdicts(sample, k, num):
    return [
        assess(jnp.abs(sample(jax.random.key(seed), (SIZE,))), k=k)
        for seed in range(num)
    ]


@pytest.mark.parametrize("name", LAWS)
def test_verdicts(name):
    sample, expected = LAWS[name]
    found = verdicts(sample, 400, 8)
    words = [each.verdict for each in found]
    assert words.count(expected) >= 6, words
    # The opposite is never said.
    opposite = {"heavy-tailed": "not heavy-tailed"}.get(expected, "heavy-tailed")
    assert opposite not in words
    for each in found:
        assert each.sentence.endswith(".")
        assert each.reasons
        assert all(reason.endswith(".") for reason in each.reasons)


def test_an_index_in_words():
    law = hto.tails.pareto(1.5).sample(jax.random.key(0), (1000,))
    index = hto.tail_index.hill(law, 100)
    numbers = [float(x) for x in (index.estimate, index.lower, index.upper)]
    expected = "{:.2f} ({:.2f} to {:.2f})".format(*numbers)
    assert f" index of {expected} " in assess(law, k=100).sentence.replace(
        "index 1", "index of 1"
    )
    # The interval that allows for bias leaves the estimate out.
    light = jnp.abs(jax.random.normal(jax.random.key(0), (10_000,)))
    assert "(biased; " in assess(light).sentence
    # The estimate that allows for bias is below zero.
    bounded = jnp.exp(jax.random.beta(jax.random.key(4), 5.0, 1.0, (10_000,)))
    assert "(no index fits)" in assess(bounded, k=9000).sentence


def test_the_sentence_says_what_was_found():
    (found,) = verdicts(hto.tails.pareto(1.5).sample, 400, 1)
    assert found.sentence.startswith("Heavy-tailed: a power law of index 1.")
    assert "the 400 largest of 5000 draws" in found.sentence
    assert found.sentence.endswith("its variance is infinite.")
    (found,) = verdicts(hto.tails.gaussian().sample, 400, 1)
    assert "means nothing" in found.sentence
    assert any("moves with k" in reason for reason in found.reasons)
    assert any("exponential tail fits better" in reason for reason in found.reasons)


def test_too_few_draws_cannot_tell():
    draws = hto.tails.pareto(1.5).sample(jax.random.key(0), (100,))
    found = assess(draws)
    assert found.verdict == "cannot tell"
    assert found.k == 20


@pytest.mark.slow
def test_the_largest_draws_suffice():
    draws = hto.tails.pareto(1.5).sample(jax.random.key(0), (SIZE,))
    largest = jnp.sort(draws)[-500:]
    whole, part = assess(draws), assess(largest, num_draws=SIZE)
    assert part.sentence == whole.sentence
    assert part.k == whole.k == 260


def test_bounded_draws_are_lighter_than_exponential():
    draws = jax.random.uniform(jax.random.key(0), (SIZE,))
    found = assess(draws, k=400)
    assert found.verdict == "not heavy-tailed"
    assert "the draws are bounded." in found.reasons[-1]
