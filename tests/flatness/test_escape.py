import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from callable_trees import Line

from heavytail_optax.flatness import (
    EscapeSettings,
    escape_profile,
    gradient_noise_direction,
    mean_over_batches,
)
from heavytail_optax.flatness._wilson import wilson_interval


def four_minima(x):
    """Minima with fields of known width; see `FIELDS`."""
    wells = (x + 1.6) * (x + 1.3) ** 2 * (x - 0.2) ** 2 * (x - 0.7) ** 2 * (x - 1.6)
    return (
        wells
        * (0.05 * jnp.abs(1.65 - x)) ** 0.6
        * (1.0 + 1.0 / (0.01 + 4.0 * (x - 0.5) ** 2))
        * (1.0 + 1.0 / (0.1 + 4.0 * (x + 1.5) ** 2))
        * (1.0 - 0.25 * jnp.exp(-5.0 * (x + 0.8) ** 2))
    )


# Minimum, and its distance to the nearest maximum.
FIELDS = ((-1.5115, 0.2115), (-0.6993, 0.6007), (0.4962, 0.2038), (1.3221, 0.6221))


def between_walls(x):
    return jnp.clip(x, -1.6, 1.6)


@pytest.mark.parametrize("jump_norm", [0.25, 0.5, 0.61, 0.63])
def test_jumps_out_of_minima_of_known_width(jump_norm):
    measured, expected = [], []
    for minimum, width in FIELDS:
        profile = escape_profile(
            four_minima,
            minimum,
            key=0,
            jump_norm=jump_norm,
            learning_rate=1e-3,
            flow_steps=1,
            descent_steps=4000,
            max_jumps=4,
            num_samples=32,
            project=between_walls,
        )
        measured.append(int(profile.fewest_jumps))
        expected.append(int(np.ceil(width / jump_norm)))
        np.testing.assert_allclose(profile.reference.params, minimum, atol=1e-3)
        assert profile.reference.gradient_norm < 1e-2
    assert measured == expected
    # As the theory has them for these jumps.
    table = {0.25: [1, 3, 1, 3], 0.5: [1, 2, 1, 2], 0.61: [1, 1, 1, 2], 0.63: [1] * 4}
    assert measured == table[jump_norm]


def wells(params, distance):
    """Two parabolas side by side: minima at 0 and twice the distance, `x[1]` apart."""
    x = params["x"]
    one = jnp.minimum(x[0] ** 2, (x[0] - 2.0 * distance) ** 2)
    return 0.5 * (one + 3.0 * x[1] ** 2)


ORIGIN = {"x": jnp.zeros(2)}
ALONG = {"x": jnp.array([2.0, 0.0])}
ACROSS = {"x": jnp.array([0.0, 0.5])}
from_origin = functools.partial(
    escape_profile,
    wells,
    ORIGIN,
    key=0,
    learning_rate=0.05,
    flow_steps=0,
    descent_steps=200,
    barrier_threshold=1e-3,
    num_samples=200,
)


@pytest.mark.parametrize("distance", [0.9, 1.1, 2.1, 4.9])
def test_straight_paths_along_a_vector(distance):
    """Half of them go the right way, and arrive after as many jumps as fit."""
    profile = from_origin(
        args=(distance,), jump_norm=1.0, direction=ALONG, repeat_direction=True
    )
    needed = int(np.ceil(distance))
    assert profile.fewest_jumps == needed
    escaped = np.asarray(profile.paths.escaped)
    assert not escaped[:, : needed - 1].any()
    # Once out, such a path stays out, and the others never are.
    assert (escaped[:, needed - 1 :] == escaped[:, -1:]).all()
    count = escaped[:, -1].sum()
    assert scipy.stats.binomtest(int(count), 200, 0.5).pvalue > 1e-6
    np.testing.assert_array_equal(profile.jumps, np.arange(1, 6))
    end = profile.paths.distances[escaped]
    np.testing.assert_allclose(end, 2.0 * distance, rtol=1e-3)
    np.testing.assert_allclose(profile.paths.distances[~escaped], 0.0, atol=1e-3)
    # The loss at the wall between the two; the straight way has a point there.
    np.testing.assert_allclose(
        profile.paths.barriers[escaped], distance**2 / 2, rtol=1e-3
    )
    np.testing.assert_allclose(profile.paths.losses, 0.0, atol=1e-5)


def test_a_vector_that_can_be_called_is_a_vector():
    """As the parameters of a model can, in Equinox and Flax NNX."""

    def bowl(params):
        return (params.slope - 1.0) ** 2 + (params.intercept + 2.0) ** 2

    profile = escape_profile(
        bowl,
        Line(jnp.asarray(1.0), jnp.asarray(-2.0)),
        key=0,
        jump_norm=0.5,
        learning_rate=0.1,
        direction=Line(jnp.asarray(3.0), jnp.asarray(-4.0)),
        max_jumps=1,
        num_samples=4,
        flow_steps=0,
        descent_steps=1,
        repeat_direction=True,
    )
    # A jump of that norm, whatever its direction, and one step of descent.
    np.testing.assert_allclose(profile.paths.distances, 0.5 * (1 - 2 * 0.1), rtol=1e-5)


def test_across_the_wall_and_back_by_the_flow():
    never = from_origin(args=(1.1,), jump_norm=1.0, direction=ACROSS)
    assert never.fewest_jumps == np.inf
    assert not never.paths.escaped.any()
    np.testing.assert_array_equal(never.lower, 0.0)
    # One jump is not enough, and the flow is back before the next one.
    back = from_origin(
        args=(1.1,), jump_norm=1.0, direction=ALONG, repeat_direction=True,
        flow_steps=100,
    )  # fmt: skip
    assert back.fewest_jumps == np.inf
    # Independent signs: after two jumps a quarter has gone the right way twice.
    walk = from_origin(args=(1.1,), jump_norm=1.0, direction=ALONG)
    assert walk.fewest_jumps == 2
    count = int(walk.paths.escaped[:, 1].sum())
    assert scipy.stats.binomtest(count, 200, 0.25).pvalue > 1e-6


def test_isotropic_directions():
    """A jump of norm 2 in the plane is beyond 1.1 for |angle| < arccos(0.55)."""
    profile = from_origin(args=(1.1,), jump_norm=2.0)
    share = np.arccos(1.1 / 2.0) / np.pi
    count = int(profile.paths.escaped[:, 0].sum())
    assert scipy.stats.binomtest(count, 200, share).pvalue > 1e-6
    # The check has teeth.
    assert scipy.stats.binomtest(count, 200, 0.55).pvalue < 1e-6


def noisy_wells(params, push):
    """The wells, with a force on every example that is zero in the mean."""
    return wells(params, 1.1) + jnp.mean(push @ params["x"])


@pytest.mark.parametrize(("axis", "expected"), [(0, 2), (1, np.inf)])
def test_gradient_noise(axis, expected):
    push = np.zeros((8, 2), np.float32)
    push[:, axis] = np.linspace(-1.0, 1.0, 8)
    profile = escape_profile(
        noisy_wells,
        ORIGIN,
        key=0,
        args=(jnp.asarray(push),),
        jump_norm=1.0,
        learning_rate=0.05,
        flow_steps=0,
        descent_steps=200,
        barrier_threshold=1e-3,
        num_samples=50,
        direction=gradient_noise_direction(noisy_wells, 2),
    )
    assert profile.fewest_jumps == expected


def test_gradient_noise_has_the_right_mean_and_covariance():
    values = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)

    def loss(params, data):
        return jnp.mean(data @ params)

    draw = gradient_noise_direction(loss, 2)
    assert draw == gradient_noise_direction(loss, 2)
    keys = jax.random.split(jax.random.key(0), 5000)
    noise = jax.vmap(lambda key: draw(key, jnp.zeros(3), jnp.asarray(values)))(keys)
    noise = np.asarray(noise, np.float64)
    error = noise.std(axis=0) / np.sqrt(len(noise))
    assert np.all(np.abs(noise.mean(0)) < 6 * error)
    # Without replacement: S^2 / n (1 - n / N).
    exact = np.cov(values.T) / 2 * (1 - 2 / 6)
    np.testing.assert_allclose(noise.T @ noise / len(noise), exact, atol=0.02)


def test_a_flat_valley():
    """Nothing brings `x[1]` back: the distance tells another solution, a barrier none."""

    def valley(params):
        return params["x"][0] ** 2

    measure = functools.partial(
        escape_profile, valley, ORIGIN, key=0, jump_norm=1.0, learning_rate=0.1,
        direction=ACROSS, max_jumps=1, num_samples=5,
    )  # fmt: skip
    assert measure().fewest_jumps == np.inf
    assert measure(return_tolerance=0.1).fewest_jumps == 1
    assert measure(barrier_threshold=None, return_tolerance=0.1).fewest_jumps == 1


def test_descent_that_diverges():
    def quartic(x):
        return x**4

    measure = functools.partial(
        escape_profile, quartic, 0.1, key=0, max_jumps=1, num_samples=5, jump_norm=10.0
    )
    profile = measure(learning_rate=0.1)
    assert profile.paths.escaped.all()
    assert not np.isfinite(profile.paths.losses).any()
    assert np.isfinite(profile.reference.loss)
    with pytest.raises(ValueError, match="`learning_rate` argument"):
        measure(learning_rate=1e4)


def test_batches_half_precision_and_jit():
    def loss(params, data):
        return jnp.mean(data) * wells(params, 1.1)

    @jax.jit
    def measure(params, data):
        return escape_profile(
            mean_over_batches(loss, 4),
            params,
            key=0,
            args=(data,),
            jump_norm=1.0,
            learning_rate=0.05,
            flow_steps=0,
            descent_steps=100,
            barrier_threshold=0.01,
            direction=ALONG,
            num_samples=20,
            max_jumps=3,
        )

    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), ORIGIN)
    profile = measure(half, jnp.ones(6))
    assert profile.fewest_jumps == 2
    assert profile.reference.params["x"].dtype == jnp.float32


def test_settings_are_in_the_result():
    profile = from_origin(args=(1.1,), jump_norm=1.0, direction=ALONG)
    assert profile.settings == EscapeSettings(
        1.0, 0.05, 5, 200, False, 0, 200, 1e-3, None, 21, 0.95
    )


def test_samples_at_once_changes_nothing():
    measure = functools.partial(from_origin, args=(1.1,), jump_norm=1.2)
    one, other = measure(direction=ALONG), measure(direction=ALONG, samples_at_once=30)
    np.testing.assert_array_equal(one.paths.escaped, other.paths.escaped)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilson_interval(confidence):
    for successes, trials in [(0, 7), (7, 7), (3, 10), (1, 1000)]:
        low, high = wilson_interval(jnp.asarray(successes), trials, confidence)
        exact = scipy.stats.binomtest(successes, trials).proportion_ci(
            confidence, method="wilson"
        )
        np.testing.assert_allclose([low, high], [exact.low, exact.high], atol=1e-5)
