"""What every tail of the package has in common."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from statistical_checks import FALSE_ALARM_RATE, counts_p_value

import heavytail_optax as hto
from heavytail_optax.tails import Tail

TAILS = (
    hto.tails.pareto(1.4),
    hto.tails.lomax(1.4),
    hto.tails.symmetric_pareto(1.4),
    hto.tails.student_t(1.4),
    hto.tails.gaussian(),
    hto.tails.alpha_stable(1.4, 0.5),
)
WITH_A_PARAMETER = (
    hto.tails.pareto,
    hto.tails.lomax,
    hto.tails.symmetric_pareto,
    hto.tails.student_t,
    hto.tails.alpha_stable,
)
every_tail = pytest.mark.parametrize("tail", TAILS, ids=str)
every_factory = pytest.mark.parametrize(
    "factory", WITH_A_PARAMETER, ids=lambda factory: factory.__name__
)

# The tail is a pytree: its parameters are traced, and one program serves them all.
tail_probability = jax.jit(lambda tail, x: tail.tail_probability(x))
POINTS = np.asarray(
    [-np.inf, -1.0, 0.0, 0.1, 0.5, 1.0, 1.5, 4.0, 50.0, 1e6, np.inf, np.nan], np.float32
)


@every_tail
def test_is_a_tail_a_value_and_a_pytree(tail):
    assert isinstance(tail, Tail) and not callable(tail)
    copy = dataclasses.replace(tail)
    assert tail == copy and hash(tail) == hash(copy)
    assert jax.tree.unflatten(*jax.tree.flatten(tail)[::-1]) == tail
    assert len(jax.tree.leaves(tail)) == len(dataclasses.fields(tail))
    for field in dataclasses.fields(tail):
        assert f"{field.name}={getattr(tail, field.name)}" in repr(tail)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(tail, field.name, 2.0)
    assert 0.0 <= tail.right_tail_weight <= 1.0


def test_two_laws_are_never_of_one_structure():
    """Else `jit` may run the program of another law: jax 0.10 compares the field names
    of dataclasses alone."""
    structures = [jax.tree.structure(tail) for tail in TAILS]
    for i, structure in enumerate(structures):
        assert [structure == other for other in structures].index(True) == i
        assert sum(structure == other for other in structures) == 1


def test_integer_and_float_parameters_are_equal():
    for factory in WITH_A_PARAMETER:
        assert factory(2) == factory(2.0) and hash(factory(2)) == hash(factory(2.0))
        assert factory(2) != factory(1.9)


@every_tail
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_draws_are_finite_and_at_most_the_largest(tail, dtype):
    draws = tail.sample(jax.random.key(0), (100, 200), dtype)
    assert draws.dtype == dtype and draws.shape == (100, 200)
    size = np.abs(np.asarray(draws.astype(jnp.float32)))
    assert np.all(np.isfinite(size)) and size.max() <= tail.largest_draw(dtype)


@every_tail
def test_half_precision_is_rounded_single_precision(tail):
    wide = tail.sample(3, (1000,))
    largest = np.float32(65504.0)
    expected = np.clip(np.asarray(wide), -largest, largest).astype(np.float16)
    np.testing.assert_array_equal(tail.sample(3, (1000,), jnp.float16), expected)


@every_tail
def test_scalar_by_default_and_the_same_for_every_kind_of_key(tail):
    draw = tail.sample(5)
    assert draw.shape == () and draw.dtype == jnp.float32
    assert draw == tail.sample(jax.random.key(5)) == tail.sample(jax.random.PRNGKey(5))
    assert draw == tail.sample(jnp.asarray(5))
    assert draw != tail.sample(6)
    assert tail.sample(0, (0, 3)).shape == (0, 3)


@every_tail
def test_double_precision(tail):
    with jax.enable_x64(True):
        draws = np.asarray(tail.sample(1, (10**4,), jnp.float64))
        coarse = np.asarray(tail.sample(1, (10**4,), jnp.float32))
    assert draws.dtype == np.float64
    # The same draws, in digits that single precision lacks. What is left of a draw near
    # zero is the rounding of the terms it is a difference of.
    assert np.mean(draws.astype(np.float32) == draws) < 0.05
    np.testing.assert_allclose(draws, coarse, rtol=1e-4, atol=1e-5)


@every_tail
def test_jit_gives_the_same_draws(tail):
    sample = functools.partial(tail.sample, shape=(1000,))
    eager, compiled = sample(jax.random.key(2)), jax.jit(sample)(jax.random.key(2))
    # Fused, the same arithmetic may round differently.
    np.testing.assert_allclose(compiled, eager, rtol=2e-5, atol=1e-6)


@every_factory
def test_vmap_over_the_parameter(factory):
    alphas = jnp.asarray([0.8, 1.0, 1.7])
    tails = jax.vmap(factory)(alphas)
    draws = jax.jit(jax.vmap(lambda tail: tail.sample(4, (50,))))(tails)
    for alpha, row in zip(alphas, draws, strict=True):
        one = factory(float(alpha))
        np.testing.assert_allclose(row, one.sample(4, (50,)), rtol=1e-4, atol=1e-5)
    if factory is hto.tails.alpha_stable:
        return  # test_stable_integral.py does; it takes seconds to compile
    probabilities = jax.vmap(tail_probability, (0, None))(tails, POINTS)
    for alpha, probability in zip(alphas, probabilities, strict=True):
        one = factory(float(alpha))
        expected = tail_probability(one, POINTS)
        np.testing.assert_allclose(probability, expected, rtol=1e-4)


@every_factory
def test_traced_parameter_that_is_bad_gives_nan(factory):
    for bad in (-1.0, 0.0, jnp.nan):
        draws = jax.jit(lambda alpha: factory(alpha).sample(0, (10,)))(bad)
        assert np.all(np.isnan(draws))
        tail = jax.jit(factory)(bad)
        assert np.all(np.isnan(tail_probability(tail, POINTS)[POINTS > 1.0]))


def test_traced_stable_parameters_out_of_range_give_nan():
    for alpha, beta in ((2.5, 0.0), (1.5, 1.5)):
        draws = jax.jit(lambda *law: hto.tails.alpha_stable(*law).sample(0, (10,)))
        assert np.all(np.isnan(draws(alpha, beta)))


@every_tail
def test_tail_probability_is_a_survival_function(tail):
    p = np.asarray(tail_probability(tail, POINTS))
    assert np.isnan(p[-1]) and p[-2] == 0.0 and p[-3] < 1e-6
    assert np.all(p[:3] == 1.0) and np.all(np.diff(p[:-1]) <= 1e-6)
    assert np.all((p[:-1] >= 0.0) & (p[:-1] <= 1.0 + 1e-6))
    assert jax.eval_shape(tail.tail_probability, jnp.ones((2, 3))).shape == (2, 3)


@every_tail
def test_tail_index_is_the_slope_of_the_tail(tail):
    with jax.enable_x64(True):
        p = np.asarray(tail_probability(tail, np.asarray([1e8, 1e9])))
    if np.isinf(tail.tail_index):
        assert np.all(p == 0.0)
    else:
        slope = np.log10(p[0] / p[1])
        assert slope == pytest.approx(tail.tail_index, abs=1e-6)


@every_tail
def test_right_tail_weight_is_the_share_of_large_draws(tail):
    draws = np.asarray(tail.sample(8, (10**6,)))
    far = np.quantile(np.abs(draws), 0.999)
    right = np.count_nonzero(draws > far)
    both = np.count_nonzero(np.abs(draws) > far)
    # The share of a skewed stable law tends to its limit as x^-alpha: by one percent.
    share = tail.right_tail_weight
    nearby = [share] if share in (0.5, 1.0) else np.linspace(share - 0.01, share + 0.01)
    assert max(counts_p_value(right, both, p) for p in nearby) > FALSE_ALARM_RATE


@every_tail
def test_one_signed_tails_are_not_centred(tail):
    assert tail.is_centred == (not isinstance(tail, type(TAILS[0]) | type(TAILS[1])))


@every_tail
def test_gradient_with_respect_to_the_parameters_is_finite(tail):
    if not jax.tree.leaves(tail):
        return
    tail = jax.tree.map(jnp.asarray, tail)
    gradient = jax.jit(jax.grad(lambda tail: jnp.sum(jnp.tanh(tail.sample(0, (100,))))))
    slopes = jax.tree.leaves(gradient(tail))
    assert all(np.isfinite(slope) and slope != 0.0 for slope in slopes)


@every_tail
@pytest.mark.parametrize("compile_it", [False, True])
def test_explicit_sharding_of_the_draws_is_kept(tail, compile_it):
    """Elementwise, on eight devices, with the values of one device."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    sharding = jax.NamedSharding(mesh, jax.P("d"))

    def draw(key):
        return tail.sample(key, (16, 3), jnp.float32, out_sharding=sharding)

    expected = tail.sample(jax.random.key(7), (16, 3))
    with jax.set_mesh(mesh):
        draws = (jax.jit(draw) if compile_it else draw)(jax.random.key(7))
    assert jax.typeof(draws).sharding.spec == jax.P("d", None)
    # Two programs, which round differently.
    np.testing.assert_allclose(draws, expected, rtol=1e-5)
