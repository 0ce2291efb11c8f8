import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from key_implementations import each_implementation
from statistical_checks import (
    FALSE_ALARM_RATE,
    bonferroni,
    counts_p_value,
    independence_p_value,
    law_p_value,
    means_p_value,
)

import heavytail_optax as hto
from heavytail_optax._dtypes import saturate
from heavytail_optax._noise import _leaf_keys

PARETO = hto.tails.symmetric_pareto(1.4)


def noise_of(tail, scale, zeros, *, steps=1, **arguments):
    """What is added to zero gradients in the last of some steps."""
    transformation = hto.add_heavy_tailed_noise(tail, scale, **({"key": 0} | arguments))
    update = jax.jit(transformation.update)
    state = transformation.init(zeros)
    for _ in range(steps):
        noise, state = update(zeros, state)
    return noise


def ranks(noise, alpha=1.4, scale=1.0):
    """Signed uniforms in (0, 1) from symmetric Pareto noise."""
    size = np.abs(np.asarray(noise, float)) / scale
    return 0.5 + 0.5 * np.sign(noise) * np.clip(1 - size**-alpha, 0.0, 1.0)


@pytest.mark.parametrize(
    "tail, cdf",
    [
        (hto.tails.student_t(1.4), scipy.stats.t(1.4).cdf),
        (hto.tails.gaussian(), scipy.stats.norm.cdf),
        (hto.tails.alpha_stable(1.0), scipy.stats.cauchy.cdf),
    ],
)
def test_elementwise_noise_has_the_law_of_the_tail(tail, cdf):
    noise = np.asarray(noise_of(tail, 0.25, jnp.zeros((1000, 200))))
    assert law_p_value(noise, lambda x: cdf(x / 0.25)) > FALSE_ALARM_RATE
    # Negative control: a scale off by five percent.
    assert law_p_value(1.05 * noise, lambda x: cdf(x / 0.25)) < FALSE_ALARM_RATE


def test_elementwise_pareto_noise_is_added_to_the_gradient():
    gradient = jnp.linspace(-2.0, 2.0, 10**5)
    noise = noise_of(PARETO, 0.5, jnp.zeros(10**5))
    noisy = noise_of(PARETO, 0.5, gradient)
    np.testing.assert_array_equal(noisy, gradient + noise)
    size = np.abs(noise) / 0.5
    p_values = [
        law_p_value(size, lambda x: 1 - np.maximum(x, 1) ** -1.4),
        counts_p_value(np.count_nonzero(noise > 0), 10**5, 0.5),
    ]
    assert bonferroni(p_values) > FALSE_ALARM_RATE


DIMENSIONS = 6


def _zeros():
    return {"a": jnp.zeros((2, 2)), "b": jnp.zeros(()), "c": jnp.zeros((1,))}


@functools.cache
def small_noises(direction, num_draws=10**5):
    """Noise on six parameters in three leaves, for many keys: (draws, 6)."""

    def one(key):
        transformation = hto.add_heavy_tailed_noise(
            PARETO, 0.5, key=key, direction=direction
        )
        noise, _ = transformation.update(_zeros(), transformation.init(_zeros()))
        return jnp.concatenate([x.ravel() for x in jax.tree.leaves(noise)])

    keys = jax.random.split(jax.random.key(31), num_draws)
    return np.asarray(jax.jit(jax.vmap(one))(keys)).astype(float)


def direction_p_value(noise):
    """Moments of a uniform direction: means, second moments, fourth moments."""
    units = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    d = DIMENSIONS
    pairs = [(i, j) for i in range(d) for j in range(i, d)]
    seconds = [units[:, i] * units[:, j] for i, j in pairs]
    fourths = [units[:, i] ** 2 * units[:, j] ** 2 for i, j in pairs]
    samples = np.stack([*units.T, *seconds, *fourths], axis=1)
    expected = [0.0] * d
    expected += [(i == j) / d for i, j in pairs]
    expected += [(3.0 if i == j else 1.0) / (d * (d + 2)) for i, j in pairs]
    return means_p_value(samples, np.asarray(expected))


def beta_cdf(x):
    """Law of a coordinate of a uniform direction in six dimensions."""
    return scipy.stats.beta.cdf((1 + x) / 2, (DIMENSIONS - 1) / 2, (DIMENSIONS - 1) / 2)


def test_isotropic_noise_has_norm_and_direction():
    noise = small_noises("isotropic")
    norm = np.linalg.norm(noise, axis=1) / 0.5
    units = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    p_values = [
        law_p_value(norm, lambda x: 1 - np.maximum(x, 1) ** -1.4),
        direction_p_value(noise),
        law_p_value(units[:, 4], beta_cdf),
        independence_p_value(1 - norm**-1.4, beta_cdf(units[:, 0])),
    ]
    assert bonferroni(p_values) > FALSE_ALARM_RATE


def test_elementwise_noise_is_not_isotropic():
    # Negative control: large jumps go along the axes.
    assert direction_p_value(small_noises("elementwise")) < FALSE_ALARM_RATE


def test_elementwise_draws_are_independent_across_leaves():
    u = ranks(small_noises("elementwise"), scale=0.5)
    p_values = [
        independence_p_value(u[:, i], u[:, j])
        for i in range(DIMENSIONS)
        for j in range(i)
    ]
    assert bonferroni(p_values) > FALSE_ALARM_RATE
    # Negative control: the draws of isotropic noise share their size.
    v = np.argsort(np.argsort(np.abs(small_noises("isotropic")), 0), 0) / len(u)
    assert independence_p_value(v[:, 0], v[:, 5]) < FALSE_ALARM_RATE


def test_independent_across_leaves_and_steps_and_keys():
    zeros = {"a": jnp.zeros(10**5), "b": jnp.zeros(10**5)}
    first, second = (noise_of(PARETO, 1.0, zeros, steps=n) for n in (1, 2))
    other = noise_of(PARETO, 1.0, zeros, key=1)
    pairs = [
        (first["a"], first["b"]),
        (first["a"], second["a"]),
        (first["b"], second["a"]),
        (first["a"], other["a"]),
        (first["a"][1:], first["a"][:-1]),
    ]
    p_values = [independence_p_value(ranks(x), ranks(y)) for x, y in pairs]
    assert bonferroni(p_values) > FALSE_ALARM_RATE
    # Negative control: one in twenty draws of the next step is that of this step.
    repeated = np.where(np.arange(10**5) % 20 == 0, first["a"], second["a"])
    p_value = independence_p_value(ranks(first["a"]), ranks(repeated))
    assert p_value < FALSE_ALARM_RATE


@each_implementation
def test_key_of_a_leaf_is_a_function_of_its_index_alone(implementation):
    key = jax.random.key(3, impl=implementation)
    few, many = _leaf_keys(key, [()] * 2), _leaf_keys(key, [()] * 5)
    data = [jax.random.key_data(leaf_key) for leaf_key in many]
    np.testing.assert_array_equal(jax.random.key_data(few[1]), data[1])
    assert len({np.asarray(x).tobytes() for x in data}) == 5
    if implementation == "threefry2x32":
        expected = jax.random.key_data(jax.random.fold_in(key, 4))
        np.testing.assert_array_equal(data[4], expected)


def test_independent_of_the_users_own_keys():
    """The user's `split` and `fold_in` of the same key give other numbers."""
    key = jax.random.key(7)
    noise = np.asarray(noise_of(PARETO, 1.0, jnp.zeros(1000), key=key))
    users = [key, *jax.random.split(key, 4), jax.random.fold_in(key, 0)]
    for own in users:
        assert not np.any(noise == np.asarray(PARETO.sample(own, (1000,))))


@pytest.mark.parametrize("direction", ["elementwise", "isotropic"])
def test_scale_by_layer(direction):
    zeros = {"a": jnp.zeros(5), "b": (jnp.zeros(3), jnp.zeros(2))}
    one = noise_of(PARETO, 1.0, zeros, direction=direction)
    scales = {"a": 0.5, "b": (2.0, 0.0)}
    got = noise_of(PARETO, scales, zeros, direction=direction)
    np.testing.assert_array_equal(got["a"], 0.5 * one["a"])
    np.testing.assert_array_equal(got["b"][0], 2.0 * one["b"][0])
    np.testing.assert_array_equal(got["b"][1], 0.0)
    prefix = noise_of(
        PARETO, {"a": 0.5, "b": jnp.asarray(2.0)}, zeros, direction=direction
    )
    np.testing.assert_array_equal(prefix["b"][1], 2.0 * one["b"][1])


def test_schedules_of_the_scale_and_of_the_tail():
    zeros = jnp.zeros(10**5)
    one = [noise_of(PARETO, 1.0, zeros, steps=n) for n in (1, 2)]

    def scale(step):
        return 0.5 / (1.0 + step)

    for n in (1, 2):
        got = noise_of(PARETO, scale, zeros, steps=n)
        np.testing.assert_allclose(got, 0.5 / n * one[n - 1], rtol=1e-6)
        alpha = 1.0 + 0.5 * n
        annealed = noise_of(
            lambda step: hto.tails.symmetric_pareto(1.5 + 0.5 * step),
            1.0,
            zeros,
            steps=n,
        )
        p_value = law_p_value(
            np.abs(annealed), lambda x, a=alpha: 1 - np.maximum(x, 1) ** -a
        )
        assert p_value > FALSE_ALARM_RATE


@pytest.mark.parametrize("direction", ["elementwise", "isotropic"])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_noise_saturates_and_never_is_infinite(dtype, direction):
    tail = hto.tails.symmetric_pareto(0.05)  # most draws exceed float16
    largest = float(jnp.finfo(dtype).max)
    for sign in (-1.0, 1.0):
        gradient = jnp.full((1000,), sign * largest, dtype)
        noisy = noise_of(tail, 1.0, gradient, direction=direction)
        assert noisy.dtype == dtype
        noisy = np.asarray(noisy.astype(jnp.float32), float)
        assert np.all(np.isfinite(noisy))
        if direction == "elementwise":
            assert np.any(noisy == sign * largest)


def test_infinite_and_nan_gradients_stay():
    noisy = noise_of(PARETO, 1.0, jnp.asarray([jnp.inf, -jnp.inf, jnp.nan, 0.0]))
    np.testing.assert_array_equal(noisy[:3], [jnp.inf, -jnp.inf, jnp.nan])
    assert np.isfinite(noisy[3])


def test_saturating_cast():
    x = jnp.asarray([1e30, -1e30, jnp.inf, -jnp.inf, jnp.nan, 1.0])
    got = np.asarray(saturate(x, jnp.float16), float)
    np.testing.assert_array_equal(
        got, [65504.0, -65504.0, 65504.0, -65504.0, np.nan, 1.0]
    )


def test_half_precision_noise_is_drawn_in_single_precision():
    """Rounded to float16 only at the end: the same numbers as in float32."""
    wide = noise_of(PARETO, 0.5, jnp.zeros(1000))
    half = noise_of(PARETO, 0.5, jnp.zeros(1000, jnp.float16))
    np.testing.assert_array_equal(half, saturate(wide, jnp.float16))


def test_state_counts_steps():
    transformation = hto.add_heavy_tailed_noise(PARETO, 1.0, key=5)
    state = transformation.init(jnp.zeros(2))
    np.testing.assert_array_equal(
        state.noise_key, jax.random.key_data(jax.random.key(5))
    )
    for step in range(3):
        assert optax.tree.get(state, "noise_count") == step
        _, state = transformation.update(jnp.zeros(2), state)


def test_traced_negative_scale_gives_nan():
    got = jax.jit(lambda scale: noise_of(PARETO, scale, jnp.zeros(3)))(-1.0)
    assert np.all(np.isnan(got))


LAWS = [
    PARETO,
    hto.tails.student_t(1.4),
    hto.tails.alpha_stable(1.4),
    hto.tails.gaussian(),
]


# `test_one_cpu.py` runs this file where these two hold.
on_one_cpu = pytest.mark.skipif(
    jax.default_backend() != "cpu" or jax.device_count() > 1,
    reason="on one CPU: elsewhere flattening may gather, and drawing twice saves memory",
)


@on_one_cpu
@pytest.mark.parametrize("direction", ["elementwise", "isotropic"])
@pytest.mark.parametrize("tail", LAWS, ids=lambda tail: type(tail).__name__)
def test_noise_is_the_same_for_every_shape(tail, direction):
    flat = noise_of(tail, 0.1, jnp.zeros(4200), direction=direction)
    for shape in ((2100, 2), (600, 7), (3, 2, 700), (1, 4200)):
        shaped = noise_of(tail, 0.1, jnp.zeros(shape), direction=direction)
        np.testing.assert_array_equal(shaped.ravel(), flat)


def flops(transformation, shape=(500, 2)):
    """Operations of a compiled update, as the compiler counts them."""
    zeros = jnp.zeros(shape)
    update = jax.jit(lambda g, state: transformation.update(g, state, zeros))
    compiled = update.lower(zeros, transformation.init(zeros)).compile()
    return compiled.cost_analysis()["flops"]


@on_one_cpu
@pytest.mark.parametrize("direction", ["elementwise", "isotropic"])
def test_noise_is_drawn_once_however_often_it_is_read(direction):
    noise = hto.add_heavy_tailed_noise(PARETO, 0.1, key=0, direction=direction)
    adam = optax.adam(0.1)  # reads the gradient twice
    chained, alone = flops(optax.chain(noise, adam)), flops(noise)
    assert chained < 1.05 * (alone + flops(adam))
    # Negative control: a second draw would be seen.
    assert chained + 0.9 * alone > 1.05 * (alone + flops(adam))


def test_draws_of_a_users_own_tail_have_the_shape_of_the_leaf():
    shapes = []

    class Recording(type(PARETO)):
        def sample(self, key, shape=(), dtype=jnp.float32, *, out_sharding=None):
            shapes.append(shape)
            return super().sample(key, shape, dtype, out_sharding=out_sharding)

    noise_of(Recording(1.4), 0.1, jnp.zeros((3, 2)))
    assert set(shapes) == {(3, 2)}
