import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from stable_reference import (
    ALPHAS,
    BETAS,
    expansion_of_tail,
    log_characteristic_function,
    reference_cdf,
    tail_constant,
)
from stable_tail_values import POINTS, TAILS
from statistical_checks import (
    FALSE_ALARM_RATE,
    bonferroni,
    cells_p_value,
    count_above,
    counts_p_value,
    law_p_value,
    means_p_value,
    survival_p_value,
)
from word_sources import eager_sample, use_extreme_words

import heavytail_optax as hto
from heavytail_optax._random import exponential_from_words
from heavytail_optax.tails import _alpha_stable
from heavytail_optax.tails._stable_map import (
    stable_constants,
    stable_draw,
    symmetric_stable_draw,
)

NUM_DRAWS = 10**6
LEVELS = np.asarray([1e-1, 1e-2, 1e-3, 1e-4, 1e-5])


@functools.lru_cache(maxsize=4)
def draws_of(alpha, beta, num_draws=NUM_DRAWS, seed=1):
    """A sample, by a program that is compiled for all parameters together."""
    sample = _compiled_sampler(num_draws)
    return np.asarray(sample(jax.random.key(seed), alpha, beta)).astype(float)


@functools.cache
def _compiled_sampler(num_draws):
    return jax.jit(
        lambda key, alpha, beta: hto.tails.alpha_stable(alpha, beta).sample(
            key, (num_draws,)
        )
    )


def edges_of(alpha, beta):
    """Edges of cells none of which is unlikely."""
    shift = 0.0 if alpha in (1.0, 2.0) else beta * np.tan(0.5 * np.pi * alpha)
    around = [-20.0, -8.0, -3.0, -1.5, -0.7, -0.2, 0.0, 0.2, 0.7, 1.5, 3.0, 8.0, 20.0]
    candidates = np.asarray(around) + shift
    cdf = reference_cdf(candidates, alpha, beta)
    edges, last = [], 0.0
    for x, p in zip(candidates, cdf, strict=True):
        if p - last > 1e-3 and 1.0 - p > 1e-3:
            edges.append((x, p))
            last = p
    return np.transpose(edges)


def cells_of(draws, edges):
    return np.histogram(draws, np.concatenate([[-np.inf], edges, [np.inf]]))[0]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("beta", BETAS)
def test_law_of_a_million_draws(alpha, beta):
    draws = draws_of(alpha, beta)
    edges, cdf = edges_of(alpha, beta)
    assert len(edges) >= 5
    p_values = [
        cells_p_value(cells_of(draws, edges), np.diff([0.0, *cdf, 1.0])),
        survival_of(draws, alpha, beta),
        characteristic_function_p_value(draws[: NUM_DRAWS // 4], alpha, beta),
    ]
    assert bonferroni(p_values) > FALSE_ALARM_RATE


@jax.jit
def _tail_probability(x, alpha, beta):
    return hto.tails.alpha_stable(alpha, beta).tail_probability(x)


def survival_of(draws, alpha, beta):
    """Far tail, where the quadrature (tested on its own) is the reference."""
    if alpha == 2.0:
        at = np.sqrt(2.0) * scipy.stats.norm.isf(LEVELS / 2)
    else:
        at = (tail_constant(alpha) / LEVELS) ** (1.0 / alpha)
    with jax.enable_x64(True):
        probabilities = _tail_probability(at, alpha, beta)
    return survival_p_value(np.abs(draws), at, np.asarray(probabilities))


def characteristic_function_p_value(draws, alpha, beta):
    """Means of cos(uZ) and sin(uZ), with their standard errors."""
    u = np.asarray([0.05, 0.3, 1.0, 2.0])
    phi = np.exp(log_characteristic_function(u, alpha, beta))
    angles = draws[:, None] * u
    samples = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    # The draws are rounded to float32, those of a shifted law by 4e-6.
    return means_p_value(samples, np.concatenate([phi.real, phi.imag]), tolerance=1e-5)


@pytest.mark.parametrize("wrong", [(1.2 * 1.02, 0.0), (1.2, 0.02)])
def test_wrong_parameters_are_found(wrong):
    # Negative control: alpha off by two percent, and beta by 0.02.
    draws = draws_of(*wrong)
    edges, cdf = edges_of(1.2, 0.0)
    p_value = cells_p_value(cells_of(draws, edges), np.diff([0.0, *cdf, 1.0]))
    assert p_value < FALSE_ALARM_RATE
    p_value = characteristic_function_p_value(draws, 1.2, 0.0)
    assert p_value < FALSE_ALARM_RATE


def test_closed_laws():
    p_values = [
        law_p_value(draws_of(2.0, 0.0), scipy.stats.norm(scale=np.sqrt(2.0)).cdf),
        law_p_value(draws_of(1.0, 0.0), scipy.stats.cauchy.cdf),
        law_p_value(draws_of(0.5, 1.0), scipy.stats.levy.cdf),
    ]
    assert bonferroni(p_values) > FALSE_ALARM_RATE
    assert draws_of(0.5, 1.0).min() > 0.0


@pytest.mark.parametrize("alpha", [0.5, 1.2, 1.9])
def test_quantiles_of_scipy(alpha):
    for beta in BETAS:
        p = np.asarray([0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
        quantiles = scipy.stats.levy_stable.ppf(p, alpha, beta)
        draws = draws_of(alpha, beta)
        counts = [np.count_nonzero(draws <= x) for x in quantiles]
        assert counts_p_value(counts, NUM_DRAWS, p) > FALSE_ALARM_RATE


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.4])
@pytest.mark.parametrize("beta", [-0.5, 0.0, 1.0])
def test_share_of_the_right_tail(alpha, beta):
    tail = hto.tails.alpha_stable(alpha, beta)
    draws = draws_of(alpha, beta)
    # The share tends to its limit as fast as 1/x, or x^-alpha: far out, where 1000 are.
    at = (tail_constant(alpha) / 1e-3) ** (1.0 / alpha)
    right, both = np.count_nonzero(draws > at), np.count_nonzero(np.abs(draws) > at)
    share = tail.right_tail_weight
    error = 5.0 * np.sqrt(share * (1.0 - share) / both) + 0.02
    assert abs(right / both - share) < error


def importance_sample(alpha, beta, thresholds, num_draws=10**6):
    """`P(|Z| > x)` and its standard error, from draws of which half are extreme.

    The distance of the angle from its edge is drawn log-uniformly from 2^-110 up and
    the draws weighted by the ratio of the densities.
    """
    keys = jax.random.split(jax.random.key(5), 4)
    reach = 110.0 * np.log(2.0)
    uniform = jnp.exp(-reach * jax.random.uniform(keys[0], (num_draws,)))
    side = jax.random.rademacher(keys[1], (num_draws,), jnp.float32)
    words = (jax.random.bits(key, (num_draws,)) for key in keys[2:])
    exponential = exponential_from_words(*words, jnp.float32)
    law = stable_constants(jnp.float32(alpha), jnp.float32(beta))
    draws = stable_draw(law, side, jnp.float32(0.5 * np.pi) * uniform, exponential)
    weights = np.asarray(uniform, float) * reach
    above = np.abs(np.asarray(draws, float)[:, None]) > thresholds
    terms = np.where(above, weights[:, None], 0.0)
    return terms.mean(0), terms.std(0) / np.sqrt(num_draws)


@pytest.mark.parametrize("alpha", [0.5, 0.9, 0.99, 1.0, 1.01, 1.2, 1.5, 1.9])
@pytest.mark.parametrize("beta", [-1.0, 0.0, 0.5])
def test_far_tail_of_the_map(alpha, beta):
    """To 1e12, by importance sampling: as far as no sample of the law gets."""
    x = 10.0 ** np.asarray([5.0, 6.0, 8.0, 10.0, 12.0])
    got, error = importance_sample(alpha, beta, x)
    expected = tail_constant(alpha) * x**-alpha
    # The next term of the expansion.
    tolerance = expected * 20.0 * x ** -min(alpha, 1.0)
    if beta != 0.0 and 0.0 < abs(alpha - 1.0) < 0.05:
        tolerance *= 40.0
    z = np.maximum(np.abs(got - expected) - tolerance, 0.0) / error
    assert bonferroni(2.0 * scipy.stats.norm.sf(z)) > FALSE_ALARM_RATE
    # Half the draws of a law with alpha < 1 are large by their exponential.
    assert np.all(error < (0.06 if alpha < 0.6 else 0.02) * expected)


def test_wrong_constant_of_the_far_tail_is_found():
    # Negative control: alpha off by two percent.
    x = 10.0 ** np.asarray([5.0, 12.0])
    got, error = importance_sample(1.2 * 1.02, 0.0, x)
    z = np.abs(got - tail_constant(1.2) * x**-1.2) / error
    assert bonferroni(2.0 * scipy.stats.norm.sf(z)) < FALSE_ALARM_RATE


def textbook_draw(alpha, beta, side, edge, exponential):
    """Chambers-Mallows-Stuck as printed, in extended precision; alpha is not one."""
    real = np.longdouble
    alpha, beta, pi = real(alpha), real(beta), real("3.14159265358979323846264338")
    angle = side * (pi / 2 - edge.astype(real))
    t = beta * np.tan(pi * alpha / 2)
    start = np.arctan(t) / alpha
    turn = alpha * (angle + start)
    ratio = np.cos(angle - turn) / exponential.astype(real)
    return (
        (1 + t**2) ** (1 / (2 * alpha))
        * np.sin(turn)
        / np.sin(edge.astype(real)) ** (1 / alpha)
        * ratio ** ((1 - alpha) / alpha)
    )


@pytest.mark.parametrize("dtype, rtol", [(np.float32, 3e-5), (np.float64, 1e-11)])
def test_map_is_that_of_the_textbook(dtype, rtol):
    rng = np.random.default_rng(0)
    size = 2000
    side = rng.choice([-1.0, 1.0], size)
    edge = (np.pi / 2 * 10.0 ** -rng.uniform(0, 4, size)).astype(dtype)
    exponential = rng.exponential(size=size).astype(dtype)
    for alpha in (0.3, 0.5, 0.9, 1.1, 1.2, 1.5, 1.9):
        for beta in (-1.0, 0.0, 0.5):
            alpha = float(dtype(alpha))
            expected = textbook_draw(alpha, beta, side, edge, exponential)
            with jax.enable_x64(dtype == np.float64):
                law = stable_constants(
                    jnp.asarray(alpha, dtype), jnp.asarray(beta, dtype)
                )
                got = stable_draw(
                    law,
                    jnp.asarray(side, dtype),
                    jnp.asarray(edge, dtype),
                    jnp.asarray(exponential, dtype),
                )
            # Where a draw crosses zero its error is that of the terms of the sum.
            representable = np.abs(expected) < 1e38
            scale = np.abs(expected) + 1.0 + np.abs(float(law.shift))
            error = np.abs(np.asarray(got) - expected) / scale
            assert np.max(error[representable]) < rtol * max(1.0, 1.0 / alpha)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9, 1.0, 1.001, 1.4, 1.9, 1.9999, 2.0])
def test_symmetric_map_is_the_general_one_at_both_edges(alpha):
    """In float32, against the general map in float64."""
    rng = np.random.default_rng(1)
    size = 4000
    edge = (np.pi / 2 * 10.0 ** -rng.uniform(0, 19, size)).astype(np.float32)
    exponential = (10.0 ** rng.uniform(-19, 1.6, size)).astype(np.float32)
    side = rng.choice([-1.0, 1.0], size).astype(np.float32)
    alpha = np.float32(alpha)
    got = symmetric_stable_draw(jnp.asarray(alpha), side, edge, exponential)
    with jax.enable_x64(True):
        law = stable_constants(jnp.float64(alpha), jnp.float64(0.0))
        arguments = [jnp.asarray(x, float) for x in (side, edge, exponential)]
        expected = np.asarray(stable_draw(law, *arguments))
    assert np.array_equal(np.sign(got), side)
    normal = (np.abs(expected) > 1e-36) & (np.abs(expected) < 1e36)
    # Where the angle is near zero, as near as float32 holds pi/2 - edge.
    normal &= edge < 1.5
    got, expected = np.asarray(got, float)[normal], expected[normal]
    terms = (np.abs(np.log(edge)) + np.abs(np.log(exponential)) + 1.0)[normal]
    error = np.abs(got / expected - 1.0) / (terms / alpha)
    assert normal.sum() > 100 and np.max(error) < 8 * np.finfo(np.float32).eps


@pytest.mark.parametrize("beta", [-1.0, 0.0, 0.5, 1.0])
def test_continuous_through_alpha_one(beta):
    """Around one, the draws of the S0 parameterisation move as fast as alpha does."""
    rng = np.random.default_rng(1)
    size = 2000
    with jax.enable_x64(True):
        side = jnp.asarray(rng.choice([-1.0, 1.0], size))
        edge = jnp.asarray(np.pi / 2 * 10.0 ** -rng.uniform(0, 12, size))
        exponential = jnp.asarray(rng.exponential(size=size))

        def s0(alpha):
            law = stable_constants(jnp.asarray(alpha), jnp.asarray(beta))
            return stable_draw(law, side, edge, exponential) - law.shift

        def s1(alpha):
            law = stable_constants(jnp.asarray(alpha), jnp.asarray(beta))
            return stable_draw(law, side, edge, exponential)

        at_one = s0(1.0)
        logs = 1.0 + jnp.log(2.0 + jnp.abs(at_one)) ** 2
        for distance in (1e-3, 1e-5, 1e-7, 1e-9, -1e-9, -1e-7, -1e-5, -1e-3):
            moved = jnp.abs(s0(1.0 + distance) - at_one)
            # The subtraction of the shift costs `1 / distance` roundings.
            bound = 30.0 * abs(distance) * (1.0 + jnp.abs(at_one)) * logs
            rounding = 1e-15 * abs(beta) / abs(distance)
            assert jnp.all(moved < bound + rounding)
            if beta == 0.0:
                moved = jnp.abs(s1(1.0 + distance) - s1(1.0))
                assert jnp.all(moved < bound)


def test_symmetric_law_near_one_in_single_precision():
    """No loss of digits at the alphas next to one."""
    cauchy = draws_of(1.0, 0.0)
    for alpha in (1.0 - 2**-24, 1.0 + 2**-23, 1.0 - 1e-5, 1.0 + 1e-5):
        near = draws_of(alpha, 0.0)
        scale = (1.0 + np.abs(cauchy)) * (1.0 + np.log1p(np.abs(cauchy))) ** 2
        assert np.max(np.abs(near - cauchy) / scale) < 1e-5 + 10 * abs(alpha - 1.0)


EXTREME_ALPHAS = (
    *(1e-3, 0.02, 0.1, 0.3, 0.5, 0.9, 0.99, 0.999, 1 - 2**-24),
    *(1.0, 1 + 2**-23, 1.001, 1.01, 1.2, 1.5, 1.9, 1.99, 1.9999, 2.0),
)


def test_no_word_gives_nan_or_more_than_the_largest_draw(monkeypatch):
    shape = use_extreme_words(monkeypatch, _alpha_stable)
    sample = jax.jit(
        lambda alpha, beta: hto.tails.alpha_stable(alpha, beta).sample(0, shape)
    )
    for alpha in EXTREME_ALPHAS:
        for beta in (-1.0, -0.3, 0.0, 1.0):
            size = np.abs(np.asarray(sample(alpha, beta)))
            assert np.all(np.isfinite(size)), (alpha, beta)
            largest = hto.tails.alpha_stable(alpha, beta).largest_draw()
            np.testing.assert_allclose(
                size.max(), largest, rtol=3e-4, err_msg=f"{alpha} {beta}"
            )


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_saturates(dtype, monkeypatch):
    shape = use_extreme_words(monkeypatch, _alpha_stable)
    tail = hto.tails.alpha_stable(0.8)
    draws = eager_sample(tail, 0, shape, dtype)
    assert np.all(np.isfinite(draws))
    np.testing.assert_allclose(np.abs(draws).max(), tail.largest_draw(dtype), rtol=1e-2)


def test_double_precision_keeps_its_digits():
    # The law and more distinct values than float32 has.
    with jax.enable_x64(True):
        draws = hto.tails.alpha_stable(1.2, 0.5).sample(1, (10**5,), jnp.float64)
    draws = np.asarray(draws)
    assert draws.dtype == np.float64
    assert np.mean(draws.astype(np.float32) == draws) < 0.01
    edges, cdf = edges_of(1.2, 0.5)
    p_value = cells_p_value(cells_of(draws, edges), np.diff([0.0, *cdf, 1.0]))
    assert p_value > FALSE_ALARM_RATE


def test_centred_where_the_docstring_says():
    is_centred = {
        (alpha, beta): hto.tails.alpha_stable(alpha, beta).is_centred
        for alpha in (0.5, 1.0, 1.5, 2.0)
        for beta in (0.0, 0.5)
    }
    assert [pair for pair, value in is_centred.items() if not value] == [
        (0.5, 0.5),
        (1.0, 0.5),
    ]
    assert hto.tails.alpha_stable(2.0).tail_index == np.inf
    assert hto.tails.alpha_stable(jnp.asarray(2.0)).tail_index == np.inf
    assert hto.tails.alpha_stable(1.5).tail_index == 1.5


FAR_THRESHOLDS = (tail_constant(1.2) / 10.0 ** -np.arange(2.0, 8.0)) ** (1 / 1.2)
# SciPy's quadrature gives zero from 1e-4 on.
FAR_PROBABILITIES = expansion_of_tail(FAR_THRESHOLDS, 1.2)


@pytest.mark.slow
def test_survival_of_two_hundred_million_draws():
    tail = hto.tails.alpha_stable(1.2)
    counts = count_above(tail.sample, 4, FAR_THRESHOLDS, num_chunks=200)
    assert counts_p_value(counts, 200 * 2**20, FAR_PROBABILITIES) > FALSE_ALARM_RATE


@pytest.mark.slow
def test_truncated_angle_is_found():
    # Negative control: an angle from a 23-bit uniform, as is usual.
    def coarse(key, shape):
        keys = jax.random.split(key)
        angle = np.pi * (jax.random.uniform(keys[0], shape) - 0.5)
        w = jax.random.exponential(keys[1], shape)
        body = jnp.sin(1.2 * angle) / jnp.cos(angle) ** (1 / 1.2)
        return body * (jnp.cos(0.2 * angle) / w) ** (-0.2 / 1.2)

    counts = count_above(coarse, 4, FAR_THRESHOLDS, num_chunks=200)
    assert counts_p_value(counts, 200 * 2**20, FAR_PROBABILITIES) < FALSE_ALARM_RATE


@pytest.mark.parametrize("dtype, rtol", [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_tail_probabilities_hold_what_is_promised(dtype, rtol):
    """Down to alpha 0.001, and on both sides of 1; rounding of x counts next to it."""
    rows = np.asarray(TAILS)
    alpha, beta = rows[:, :2, None].transpose(1, 0, 2)
    shift = np.where(alpha == 1.0, 0.0, np.abs(beta * np.tan(0.5 * np.pi * alpha)))
    eps = np.finfo(dtype).eps
    with jax.enable_x64(dtype == np.float64):
        got = jax.jit(
            jax.vmap(lambda a, b, x: hto.tails.alpha_stable(a, b).tail_probability(x))
        )(
            *(
                jnp.asarray(np.broadcast_to(v, (len(rows), 4)).ravel(), dtype)
                for v in (alpha, beta, np.asarray(POINTS))
            )
        )
    error = np.abs(np.asarray(got, float).reshape(-1, 4) / rows[:, 2:] - 1.0)
    # alpha itself is rounded, which moves a skewed law by a part of its shift.
    allowed = rtol + 8.0 * eps * shift / np.abs(1.0 - alpha + (alpha == 1.0))
    assert (error < allowed).all(), rows[(error >= allowed).any(axis=1)][:, :2]


def test_values_of_high_precision_at_small_alpha():
    """By mpmath with 40 digits, to the digits shown."""
    cases = (
        (0.1, 0.0, 1.0, 0.6111066170013, 1e-12),
        (0.1, 0.9, 0.154244, 0.68366483019777, 1e-12),
        (0.02, 0.5, 10.0, 0.61099098, 1e-7),
        (0.2, 0.99, 1000.0, 0.2047340683055, 1e-12),
    )
    probability = jax.jit(  # one program for all
        lambda alpha, beta, x: hto.tails.alpha_stable(alpha, beta).tail_probability(x)
    )
    with jax.enable_x64(True):
        for alpha, beta, x, expected, rtol in cases:
            got = probability(alpha, beta, x)
            np.testing.assert_allclose(got, expected, rtol=rtol)
