"""The verdict: heavy, light, neither, and that it says when it cannot tell."""

import jax
import jax.numpy as jnp
import numpy as np
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


BOUNDED = (jax.random.key(4), 5.0, 1.0, (10_000,))


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
    found = assess(law, k=100)
    index = found.index
    # Of the k^(3/4) largest.
    expected = hto.tail_index.extended_pareto(law, 32)
    np.testing.assert_allclose(index.lower, expected.lower, rtol=1e-3)
    np.testing.assert_allclose(index.upper, expected.upper, rtol=1e-3)
    estimate = hto.tail_index.hill(law, 100).estimate
    np.testing.assert_allclose(index.estimate, estimate, rtol=1e-3)
    np.testing.assert_allclose(index.corrected_estimate, expected.estimate, rtol=1e-3)
    numbers = [float(x) for x in (index.lower, index.upper, index.estimate)]
    words = "index {:.2f} to {:.2f} (Hill's estimate: {:.2f})".format(*numbers)
    assert words in found.sentence


def test_no_estimate_is_shown_beside_an_interval_that_leaves_it_out():
    shown = 0
    for seed in range(12):
        draws = jnp.abs(hto.tails.student_t(4.0).sample(jax.random.key(seed), (SIZE,)))
        found = assess(draws, k=400)
        index = found.index
        if index.is_biased:
            shown += 1
            assert found.verdict != "heavy-tailed"
            interval = f"{float(index.lower):.2f} to {float(index.upper):.2f}"
            beside = interval in found.sentence
            assert not (beside and f"{float(index.estimate):.2f}" in found.sentence)
    assert 0 < shown < 12


def test_the_sentence_says_what_was_found():
    (found,) = verdicts(hto.tails.pareto(1.5).sample, 400, 1)
    assert found.sentence.startswith("Heavy-tailed, as far as the 400 ")
    assert "they agree with a power law of index 1." in found.sentence
    assert " (Hill's estimate: 1." in found.sentence
    assert "the 400 largest of 5000 draws" in found.sentence
    assert found.sentence.endswith("whether its variance is finite cannot be told.")
    many = hto.tails.pareto(1.5).sample(jax.random.key(0), (1_000_000,))
    assert assess(many).sentence.endswith("its variance is infinite.")
    finite = hto.tails.pareto(3.0).sample(jax.random.key(0), (1_000_000,))
    assert assess(finite).sentence.endswith("its variance is finite.")
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
    assert "below 0, the value of an exponential tail: lighter" in found.reasons[-1]


def test_the_variance_of_a_stable_law_near_two_is_not_called_finite():
    """It is infinite, and Hill's estimate above two in most samples."""
    law = hto.tails.alpha_stable(1.9)
    said, above = 0, 0
    for seed in range(40):
        found = assess(jnp.abs(law.sample(jax.random.key(seed), (1200,))))
        said += "its variance is finite." in found.sentence
        above += bool(found.index.estimate > 2.0)
    assert above > 30
    assert said <= 4


FAR_APART = 10.0 ** np.random.default_rng(2).uniform(-30, 30, 400)
OF_NO_USE = {
    (
        "No generalised Pareto law could be fitted: the draws are too far apart for float32."
    ): jnp.asarray(FAR_APART, jnp.float32),
    "A draw is NaN.": jnp.ones(100).at[3].set(jnp.nan),
    "A draw is infinite.": jnp.ones(100).at[3].set(jnp.inf),
    "Only 0 of the largest draws are positive in float32, and 21 are needed.": -jnp.ones(
        100
    ),
    "The 21 largest draws are all equal, at 1: were they clipped?": jnp.ones(100),
    "With fewer than 30 of the largest draws no test has any power.": jnp.arange(100.0),
}


@pytest.mark.parametrize("reason", OF_NO_USE)
def test_nothing_can_be_made_of_some_draws(reason):
    found = assess(OF_NO_USE[reason], k=390 if "law" in reason else 20)
    assert found.verdict == "cannot tell"
    assert found.reasons[0] == reason
    assert "nan" not in found.sentence
    is_signed = bool((OF_NO_USE[reason] < 0.0).any())
    assert len(found.reasons) == 1 + is_signed


def test_negative_draws_are_told():
    draws = hto.tails.student_t(1.5).sample(jax.random.key(0), (2000,))
    reason = assess(draws, k=100).reasons[-1]
    assert reason.startswith(f"{int((draws < 0).sum())} draws are negative, and count")


def test_one_sample_at_a_time():
    with pytest.raises(ValueError, match=r"must be of shape \(n,\), one sample"):
        assess(jnp.ones((2, 100)))
    with pytest.raises(TypeError, match="not traced by `jit`"):
        jax.jit(lambda x: assess(x).k)(jnp.ones(100))


def test_of_the_largest_draws_zeros_are_no_draws():
    law = hto.tails.pareto(1.5).sample(jax.random.key(0), (3000,))
    largest = jnp.sort(law)[::-1][:300]
    padded = jnp.pad(largest, (0, 100))
    one, other = assess(padded, num_draws=3000, k=100), assess(law, k=100)
    assert one.sentence == other.sentence
    few = assess(jnp.pad(largest[:20], (0, 100)), num_draws=20, k=30)
    assert few.reasons[0].startswith("Only 20 of the largest draws are positive")
    with pytest.raises(ValueError, match="at least the samples that are not zero, 300"):
        assess(padded, num_draws=299)


def test_a_printed_assessment_is_short_and_has_what_matters():
    law = hto.tails.pareto(1.5).sample(jax.random.key(0), (1000,))
    light = jnp.abs(hto.tails.gaussian().sample(jax.random.key(0), (SIZE,)))
    for draws, is_heavy in ((law, True), (light, False)):
        found = assess(draws)
        assert (found.verdict == "heavy-tailed") == is_heavy
        lines = str(found).splitlines()
        assert 2 <= len(lines) <= 12
        assert max(map(len, lines)) <= 80
        text = " ".join(" ".join(lines).split())
        assert found.sentence in text
        assert all(reason in text for reason in found.reasons)
        # The index is that of a power law, so it is given only for one.
        number = f"Tail index: {float(found.index.corrected_estimate):.2f} ("
        assert (number in text) == is_heavy
        assert repr(found).startswith("TailAssessment(")
