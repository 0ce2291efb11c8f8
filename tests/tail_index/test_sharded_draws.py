"""Draws spread over eight devices: the same answers as from one, on any kind of mesh."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from collectives import collectives

import heavytail_optax as hto

TI = hto.tail_index
KINDS = {
    "auto": jax.sharding.AxisType.Auto,
    "explicit": jax.sharding.AxisType.Explicit,
}
# Sums over shards are taken in another order, and regressions and searches make some
# hundred roundings of float32 of it. Whatever is lost or counted twice shows far above.
CLOSE = {"rtol": 3e-5, "atol": 3e-5}
DRAWS = jnp.abs(hto.tails.student_t(2.0).sample(jax.random.key(0), (1000,)))

# What a function needs beside the draws.
ARGUMENTS = {
    "choose_k_by_bootstrap": {"key": 0, "num_resamples": 3},
    "choose_k_by_distance": {"num_candidates": 20},
    "compare_fits": {"k": 50, "alternatives": ("exponential", "lognormal")},
    "extended_pareto": {"k": 50},
    "finite_moment_test": {"key": 0},
    "generalised_pareto": {"k": 50},
    "goodness_of_fit": {"k": 50, "key": 0, "num_simulations": 10},
    "hill": {"k": 50},
    "hill_drift": {"k": 50},
    "hill_path": {"max_k": 50},
    "kernel_hill": {"k": 50},
    "log_moment": {"block_size": 30},
    "moment_estimator": {"k": 50},
    "pickands": {"k": 50},
    "truncated_pareto": {"k": 50},
    "propose_settings": {"gradient_norms": DRAWS[::-1], "learning_rate": 0.1},
}
NEED_VALUES = {"assess_tail"}  # cannot be traced
LONG = {
    "assess_tail",
    "characteristic_function",
    "choose_k_by_bootstrap",
    "generalised_pareto",
}
PLOTS = {"plot_hill", "plot_mean_excess", "plot_moment", "plot_pareto_qq"}


def takes_draws(name):
    value = getattr(TI, name)
    if not inspect.isfunction(value):
        return False
    return next(iter(inspect.signature(value).parameters)) in ("samples", "noise_norms")


# All that the namespace has, so that a function is tested from the day that it is there.
FUNCTIONS = [name for name in TI.__all__ if takes_draws(name)]


def mesh_of(kind):
    return jax.make_mesh((8,), ("x",), axis_types=(KINDS[kind],))


def on_mesh(x, mesh, *spec):
    return jax.device_put(x, jax.NamedSharding(mesh, jax.P(*spec)))


def call(name, draws):
    result = getattr(TI, name)(draws, **ARGUMENTS.get(name, {}))
    if name not in PLOTS:
        return result
    points = [line.get_xydata() for line in result.lines]
    result.figure.clear()
    return points


def is_fit(node):
    return hasattr(node, "log_likelihood") and hasattr(node, "ratio")


def assert_same(got, expected):
    def check(x, y):
        if is_fit(y):
            # A difference of two sums has their rounding, and so has what follows.
            rounding = 3e-6 * abs(float(y.log_likelihood))
            # The ratio of the power law itself is 0.
            size = abs(float(y.ratio)) or 1.0
            in_errors = rounding * abs(float(y.normalised_ratio)) / size
            atol = {"ratio": rounding, "normalised_ratio": in_errors}
            atol["p_value"] = in_errors  # which has a slope of at most 0.8
            for field, own in zip(y._fields, y, strict=True):
                close = {**CLOSE, "atol": max(CLOSE["atol"], atol.get(field, 0.0))}
                np.testing.assert_allclose(getattr(x, field), own, **close)
        elif isinstance(y, str):
            assert x == y
        else:
            np.testing.assert_allclose(x, y, **CLOSE)

    jax.tree.map(check, got, expected, is_leaf=is_fit)


def test_all_that_takes_draws_is_found():
    assert {"hill", "propose_settings", "assess_tail", "plot_hill"} < set(FUNCTIONS)
    assert set(ARGUMENTS) | NEED_VALUES | PLOTS <= set(FUNCTIONS)
    assert "track_tail_index" not in FUNCTIONS


def cases():
    for name in FUNCTIONS:
        can_be_traced = name not in NEED_VALUES | PLOTS
        for kind in KINDS:
            for is_traced in (False, True) if can_be_traced else (False,):
                # What the case adds is XLA's own, and takes long to compile.
                is_new = kind == "explicit" and not is_traced
                is_slow = not is_new and (name in LONG or kind == "auto" and is_traced)
                marks = pytest.mark.slow if is_slow else ()
                yield pytest.param(name, kind, is_traced, marks=marks)


@pytest.mark.parametrize(("name", "kind", "is_traced"), list(cases()))
def test_sharded_draws_give_what_one_device_gives(name, kind, is_traced):
    draws = on_mesh(DRAWS, mesh_of(kind), "x")
    assert len(draws.sharding.device_set) == 8
    given = functools.partial(call, name)
    got = jax.jit(given)(draws) if is_traced else given(draws)
    assert_same(got, call(name, DRAWS))
    arrays = [x for x in jax.tree.leaves(got) if isinstance(x, jax.Array)]
    assert all(x.is_fully_replicated for x in arrays)


def test_that_the_tolerance_sees_a_lost_shard():
    with pytest.raises(AssertionError):
        assert_same(call("hill", DRAWS[:-125]), call("hill", DRAWS))


def test_within_the_context_of_a_mesh():
    with jax.set_mesh(mesh_of("explicit")):
        draws = jax.device_put(DRAWS, jax.P("x"))
        for given in (draws, DRAWS, np.asarray(DRAWS)):
            assert_same(
                call("moment_estimator", given), call("moment_estimator", DRAWS)
            )
            got = jax.jit(functools.partial(call, "propose_settings"))(given)
            assert_same(got, call("propose_settings", DRAWS))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "k"), [("hill", 1000), ("hill", 90_000), ("moment_estimator", 1000)]
)
def test_many_draws_stay_where_they_are(name, k, kind):
    size = 2**20
    sharding = jax.NamedSharding(mesh_of(kind), jax.P("x"))
    draws = jax.ShapeDtypeStruct((size,), jnp.float32, sharding=sharding)
    program = jax.jit(lambda draws: getattr(TI, name)(draws, k)).lower(draws).compile()
    sent = [n for each in collectives(program.as_text()).values() for n in each]
    assert 0 < max(sent) <= size // 16


BATCH = DRAWS.reshape(8, 125)


@pytest.mark.parametrize("spec", [("x", "y"), ("x", None), (None, ("x", "y"))])
def test_a_batch_over_a_grid_of_devices(spec):
    kinds = (jax.sharding.AxisType.Explicit,) * 2
    grid = jax.make_mesh((4, 2), ("x", "y"), axis_types=kinds)
    padded = jnp.pad(BATCH, ((0, 0), (0, 3)))
    batch = on_mesh(padded, grid, *spec)
    k = jnp.arange(10, 18)
    assert_same(TI.hill(batch, k), TI.hill(padded, k))
    assert_same(
        TI.moment_estimator(batch.T, 20, axis=0), TI.moment_estimator(padded, 20)
    )
    assert_same(
        TI.moment_estimator(batch, 20, axis=None),
        TI.moment_estimator(padded, 20, axis=None),
    )
    mapped = jax.jit(jax.vmap(lambda draws: TI.moment_estimator(draws, 20)))
    assert_same(mapped(batch), TI.moment_estimator(padded, 20))
    slope = jax.grad(lambda draws: TI.hill(draws, 20).estimate.sum())
    with jax.set_mesh(grid):
        slopes = slope(batch)
    assert_same(slopes, slope(padded))
    assert slopes.sharding.spec == jax.P(*spec)


IN_SHARD_MAP = [name for name in FUNCTIONS if name not in NEED_VALUES | PLOTS]


@pytest.mark.parametrize("name", IN_SHARD_MAP)
def test_each_device_reads_its_own_draws_in_shard_map(name):
    def each(batch):
        arguments = ARGUMENTS.get(name, {}).copy()
        if name == "propose_settings":
            arguments["gradient_norms"] = batch[0, ::-1]
            batch = batch[0]
        got = jax.tree.leaves(getattr(TI, name)(batch, **arguments))
        # The k of a path are no draws' and the same on all devices.
        return [x[None] if x.ndim == 0 else x for x in got if x.shape[:1] != (50,)]

    mesh = mesh_of("explicit")
    mapped = jax.shard_map(each, mesh=mesh, in_specs=jax.P("x"), out_specs=jax.P("x"))
    got = jax.jit(mapped)(on_mesh(BATCH, mesh, "x"))
    expected = each(BATCH[3:4])
    assert_same([np.asarray(x)[3:4] for x in got], expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["gradient_noise", "differences"])
@pytest.mark.parametrize("measure", ["norm", "coordinates", "projection"])
def test_noise_of_sharded_parameters_is_tracked(measure, source, kind):
    params = {"w": DRAWS[:96].reshape(8, 12), "b": DRAWS[96:112]}
    key = 0 if measure == "projection" else None
    tracker = TI.track_tail_index(3, source=source, measure=measure, key=key)

    def track(params):
        def step(state, factor):
            noise = jax.tree.map(lambda x: factor * x, params)
            updates, state = tracker.update(noise, state, gradient_noise=noise)
            return state, updates

        return jax.lax.scan(step, tracker.init(params), jnp.arange(1.0, 8.0) ** 2)[0]

    expected = track(params)
    mesh = mesh_of(kind)
    with jax.set_mesh(mesh):
        sharded = {
            "w": on_mesh(params["w"], mesh, "x"),
            "b": on_mesh(params["b"], mesh, "x"),
        }
        assert_same(jax.jit(track)(sharded), expected)
