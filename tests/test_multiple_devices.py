"""Eight devices: replicas agree, shards differ, and norms are those of the whole tree."""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sharding
from collectives import collectives
from transformations import DISTINCT

import heavytail_optax as hto

EACH = pytest.mark.parametrize("case", DISTINCT, ids=lambda case: case.name)
EPS = float(jnp.finfo(jnp.float32).eps)
TAIL = hto.tails.symmetric_pareto(1.4)

# Two leaves to shard and one to replicate.
UPDATES = {
    "w": jnp.linspace(-2.0, 3.0, 48).reshape(8, 6),
    "b": jnp.linspace(1.0, 2.0, 16),
    "shared": jnp.asarray([0.5, -1.5, 2.5]),
}


def mesh_of(shape, names, kind=jax.sharding.AxisType.Auto):
    return jax.make_mesh(shape, names, axis_types=(kind,) * len(names))


LINE = mesh_of((8,), ("x",))
GRID = mesh_of((4, 2), ("x", "y"))
SPECS = {"w": jax.P("x"), "b": jax.P("x"), "shared": jax.P()}
AXES = {"w": "x", "b": "x", "shared": None}


@functools.cache
def first_update(case):
    """The transformation and its update, one compiled function for the tests of a case."""
    transformation = case.make()

    @jax.jit
    def update(updates, state):
        return case.update(transformation, updates, state, updates)

    return transformation, update


def assert_close(got, expected):
    """Equal but for the order in which a norm is summed: a few roundings of it."""

    def check(x, y):
        size = float(np.max(np.abs(y), initial=0))
        np.testing.assert_allclose(x, y, rtol=0, atol=8 * EPS * size)

    jax.tree.map(check, got, expected)


def elementwise_only(case):
    """Whether no norm over devices enters, so that results agree bit for bit."""
    return case.factory in (
        hto.add_heavy_tailed_noise,
        hto.inflate_gradient_noise,
        hto.inflate_preconditioned_noise,
    ) and (case.arguments.get("direction", "elementwise") == "elementwise")


@EACH
def test_results_do_not_depend_on_the_sharding_under_jit(case):
    transformation, update = first_update(case)
    expected = update(UPDATES, transformation.init(UPDATES))
    compare = chex.assert_trees_all_equal if elementwise_only(case) else assert_close

    auto = {
        name: jax.device_put(x, jax.NamedSharding(LINE, SPECS[name]))
        for name, x in UPDATES.items()
    }
    got, state = update(auto, transformation.init(auto))
    compare((got, state), expected)

    grid = mesh_of((4, 2), ("x", "y"), jax.sharding.AxisType.Explicit)
    specs = {"w": jax.P("x", "y"), "b": jax.P(("x", "y")), "shared": jax.P(None)}
    with jax.set_mesh(grid):
        explicit = {
            name: jax.device_put(x, jax.NamedSharding(grid, specs[name]))
            for name, x in UPDATES.items()
        }
        got, state = update(explicit, transformation.init(explicit))
        assert {name: x.sharding.spec for name, x in got.items()} == specs
    compare((got, state), expected)


@EACH
def test_replicas_take_the_same_step_under_pmap(case):
    transformation, update = first_update(case)

    def step(updates, state):
        mean = jax.lax.pmean(updates, "devices")
        return case.update(transformation, mean, state, mean)

    # Every device has a gradient of its own; sums of such fractions are exact.
    offsets = jnp.arange(8.0) - 3.5
    exact = jax.tree.map(lambda x: jnp.round(x * 64) / 64, UPDATES)
    each = jax.tree.map(
        lambda x: x[None] + offsets.reshape((8,) + (1,) * x.ndim), exact
    )
    state = transformation.init(exact)
    states = jax.tree.map(lambda x: jnp.stack([x] * 8), state)
    got, next_states = jax.pmap(step, axis_name="devices")(each, states)
    first = jax.tree.map(lambda x: x[0], (got, next_states))
    for replica in range(1, 8):
        chex.assert_trees_all_equal(
            jax.tree.map(lambda x, i=replica: x[i], (got, next_states)), first
        )
    assert_close(first, update(exact, state))


@EACH
def test_replicas_take_the_same_step_in_shard_map(case):
    transformation, update = first_update(case)
    offsets = jnp.arange(8.0) - 3.5
    exact = jax.tree.map(lambda x: jnp.round(x * 64) / 64, UPDATES)
    each = jax.tree.map(
        lambda x: x[None] + offsets.reshape((8,) + (1,) * x.ndim), exact
    )
    state = transformation.init(exact)

    @jax.jit
    @jax.shard_map(mesh=LINE, in_specs=(jax.P("x"), jax.P()), out_specs=jax.P())
    def step(own, state):
        mean = jax.lax.pmean(jax.tree.map(lambda x: x[0], own), "x")
        return case.update(transformation, mean, state, mean)

    assert_close(step(each, state), update(exact, state))


# Inside shard_map


def sharded(transformation, mesh, specs):
    """The first update, in shard_map, of parameters sharded as `specs` says."""

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=(specs,), out_specs=(specs, jax.P()))
    def update(updates):
        return transformation.update(updates, transformation.init(updates))

    return update


def norm64(tree):
    return np.sqrt(
        sum(np.sum(np.asarray(x, np.float64) ** 2) for x in jax.tree.leaves(tree))
    )


def test_truncation_of_sharded_and_replicated_leaves():
    max_norm = 0.5
    truncation = hto.truncate_update_norm(max_norm, axis_name=AXES)
    got, state = sharded(truncation, LINE, SPECS)(UPDATES)
    whole = hto.truncate_update_norm(max_norm)
    expected, expected_state = whole.update(UPDATES, whole.init(UPDATES))
    assert_close(got, expected)
    assert_close(state, expected_state)
    np.testing.assert_allclose(norm64(got), max_norm, rtol=4 * EPS)
    # Counting the replicated leaf once a device, as one psum over all leaves would,
    # gives another norm; the tolerance tells them apart.
    wrong = {**UPDATES, "shared": jnp.tile(UPDATES["shared"], 8)}
    assert abs(norm64(wrong) / norm64(UPDATES) - 1) > 0.01
    np.testing.assert_allclose(state.update_norm, norm64(UPDATES), rtol=4 * EPS)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_truncation_in_shard_map_neither_overflows_nor_underflows(size):
    updates = jax.tree.map(lambda x: x * jnp.float32(size), UPDATES)
    max_norm = 0.5 * size
    truncation = hto.truncate_update_norm(max_norm, axis_name=AXES)
    got, state = sharded(truncation, LINE, SPECS)(updates)
    np.testing.assert_allclose(norm64(got), max_norm, rtol=8 * EPS)
    assert state.num_truncated == 1


def test_an_infinity_on_one_shard_is_seen_by_all():
    updates = {**UPDATES, "w": UPDATES["w"].at[5, 2].set(-jnp.inf)}
    truncation = hto.truncate_update_norm(0.5, axis_name=AXES)
    got, state = sharded(truncation, LINE, SPECS)(updates)
    # Beside an infinity, what is finite vanishes, to the precision of float32.
    expected = {
        **jax.tree.map(jnp.zeros_like, UPDATES),
        "w": jnp.zeros((8, 6)).at[5, 2].set(-0.5),
    }
    for name, x in got.items():
        np.testing.assert_allclose(x, expected[name], rtol=EPS, atol=EPS)
    assert state.num_truncated == 1


def test_a_bound_of_zero_is_no_update_on_any_shard():
    updates = {**UPDATES, "w": UPDATES["w"].at[5, 2].set(-jnp.inf)}
    truncation = hto.truncate_update_norm(jnp.zeros(()), axis_name=AXES)
    for given in (UPDATES, updates):
        got, state = sharded(truncation, LINE, SPECS)(given)
        assert all(bool((x == 0.0).all()) for x in got.values())
        assert state.num_truncated == 1


class Pair(NamedTuple):
    first: Any
    second: Any


def test_a_prefix_that_is_a_named_tuple_is_not_a_tuple_of_names():
    """A name for each leaf, as one name for all says."""
    updates = Pair(UPDATES["w"], UPDATES["b"])
    specs = Pair(jax.P("x"), jax.P("x"))
    for make in (
        functools.partial(hto.truncate_update_norm, 0.5),
        functools.partial(hto.add_heavy_tailed_noise, TAIL, 1.0, key=0),
    ):
        got, expected = (
            sharded(make(axis_name=axis_name), LINE, specs)(updates)
            for axis_name in (Pair("x", "x"), "x")
        )
        chex.assert_trees_all_equal(got, expected)
    partly = hto.truncate_update_norm(0.5, axis_name=Pair("x", None))
    replicated = Pair(UPDATES["w"], UPDATES["shared"])
    specs = Pair(jax.P("x"), jax.P())
    _, state = sharded(partly, LINE, specs)(replicated)
    np.testing.assert_allclose(state.update_norm, norm64(replicated), rtol=4 * EPS)


GRID_SPECS = {"w": jax.P("x", "y"), "b": jax.P(("x", "y")), "shared": jax.P()}


def test_truncation_over_a_grid_of_devices():
    axes = {"w": ("x", "y"), "b": ("x", "y"), "shared": None}
    truncation = hto.truncate_update_norm(0.5, axis_name=axes)
    got, state = sharded(truncation, GRID, GRID_SPECS)(UPDATES)
    np.testing.assert_allclose(state.update_norm, norm64(UPDATES), rtol=4 * EPS)
    np.testing.assert_allclose(norm64(got), 0.5, rtol=4 * EPS)
    # One axis for one leaf, both for another.
    mixed = {"w": jax.P("x"), "b": jax.P("y"), "shared": jax.P(("x", "y"))}
    updates = {**UPDATES, "shared": jnp.linspace(0.0, 4.0, 8)}
    mixed_axes = {"w": "x", "b": "y", "shared": ("x", "y")}
    truncation = hto.truncate_update_norm(0.5, axis_name=mixed_axes)
    got, state = sharded(truncation, GRID, mixed)(updates)
    np.testing.assert_allclose(state.update_norm, norm64(updates), rtol=4 * EPS)
    np.testing.assert_allclose(norm64(got), 0.5, rtol=4 * EPS)


def test_truncation_needs_one_all_reduce():
    truncation = hto.truncate_update_norm(0.5, axis_name=AXES)
    program = sharded(truncation, LINE, SPECS).lower(UPDATES).compile().as_text()
    # Four sums: of squares by class of size, and the number of infinite entries.
    assert collectives(program) == {"all-reduce": [4]}


def test_truncation_of_sharded_leaves_under_pmap():
    truncation = hto.truncate_update_norm(0.5, axis_name=AXES)
    shards = {
        "w": UPDATES["w"].reshape(8, 1, 6),
        "b": UPDATES["b"].reshape(8, 2),
        "shared": jnp.stack([UPDATES["shared"]] * 8),
    }
    got, state = jax.pmap(
        lambda x: truncation.update(x, truncation.init(x)), axis_name="x"
    )(shards)
    whole = hto.truncate_update_norm(0.5)
    expected, expected_state = jax.jit(
        lambda x: whole.update(x, whole.init(x))
    )(UPDATES)  # fmt: skip
    got = {
        "w": got["w"].reshape(8, 6),
        "b": got["b"].reshape(16),
        "shared": got["shared"][3],
    }
    assert_close(got, expected)
    assert_close(jax.tree.map(lambda x: x[5], state), expected_state)


def test_elementwise_noise_of_shards_and_of_replicas():
    noise = hto.add_heavy_tailed_noise(TAIL, 1.0, key=0, axis_name=AXES)
    zeros = jax.tree.map(jnp.zeros_like, UPDATES)

    # Replicated leaves are returned by every device, to compare them.
    @jax.jit
    @jax.shard_map(mesh=LINE, in_specs=(SPECS,), out_specs=jax.P("x"))
    def update(updates):
        new, _ = noise.update(updates, noise.init(updates))
        return new["w"], new["b"], new["shared"][None]

    w, b, shared = (np.asarray(x) for x in update(zeros))
    assert len({row.tobytes() for row in w}) == 8
    assert len({row.tobytes() for row in b.reshape(8, 2)}) == 8
    assert len({row.tobytes() for row in shared}) == 1
    # What is replicated has the noise that it has on one device.
    alone = hto.add_heavy_tailed_noise(TAIL, 1.0, key=0)
    expected, _ = jax.jit(alone.update)(zeros, alone.init(zeros))
    np.testing.assert_array_equal(shared[0], expected["shared"])


def test_elementwise_noise_over_a_grid_of_devices():
    axes = {"w": ("x", "y"), "b": "x", "shared": None}
    specs = {"w": jax.P("x", "y"), "b": jax.P("x"), "shared": jax.P()}
    noise = hto.add_heavy_tailed_noise(TAIL, 1.0, key=0, axis_name=axes)
    got, _ = sharded(noise, GRID, specs)(jax.tree.map(jnp.zeros_like, UPDATES))
    blocks = np.asarray(got["w"]).reshape(4, 2, 2, 3).swapaxes(1, 2).reshape(8, 6)
    assert len({block.tobytes() for block in blocks}) == 8
    assert len({block.tobytes() for block in np.asarray(got["b"]).reshape(4, 4)}) == 4


def test_without_axis_name_every_shard_draws_the_same():
    """Why `axis_name` is there: what the tests above would see if it did nothing."""
    noise = hto.add_heavy_tailed_noise(TAIL, 1.0, key=0)
    got, _ = sharded(noise, LINE, SPECS)(jax.tree.map(jnp.zeros_like, UPDATES))
    assert len({row.tobytes() for row in np.asarray(got["w"])}) == 1


@pytest.mark.parametrize("mesh", ["line", "grid"])
def test_isotropic_noise_has_the_norm_of_one_draw(mesh):
    mesh, specs, axes = {
        "line": (LINE, SPECS, AXES),
        "grid": (
            GRID,
            GRID_SPECS,
            {"w": ("x", "y"), "b": ("x", "y"), "shared": None},
        ),
    }[mesh]
    zeros = jax.tree.map(jnp.zeros_like, UPDATES)

    def make(**kwargs):
        return hto.add_heavy_tailed_noise(
            TAIL, 0.25, key=3, direction="isotropic", **kwargs
        )

    got, _ = sharded(make(axis_name=axes), mesh, specs)(zeros)
    # |Z| does not depend on the tree: one element shows it.
    one = jnp.zeros(1)
    alone, _ = jax.jit(make().update)(one, make().init(one))
    np.testing.assert_allclose(norm64(got), abs(float(alone[0])), rtol=8 * EPS)
    assert len({row.tobytes() for row in np.asarray(got["w"])}) == 8


def test_the_optimiser_in_shard_map_bounds_the_whole_step():
    optimizer = hto.truncated_heavy_tailed_sgd(
        0.5, 0.25, TAIL, 1.0, key=0, momentum=0.9, axis_name=AXES
    )

    @jax.jit
    @jax.shard_map(mesh=LINE, in_specs=(SPECS,), out_specs=(SPECS, jax.P("x")))
    def first_step(params):
        state = optimizer.init(params)
        updates, state = optimizer.update(params, state, params)
        return updates, optax.tree.get(state, "update_norm")[None]

    updates, norms = first_step(UPDATES)
    assert len(set(np.asarray(norms).tolist())) == 1
    assert norms[0] > 0.25
    np.testing.assert_allclose(norm64(updates), 0.25, rtol=4 * EPS)


# Tail inflation and the laboratory, with examples and parameters spread over devices


SPREAD = {"in": jax.P(None, "model"), "out": jax.P("model", None)}
INPUTS = jax.random.normal(jax.random.key(1), (16, 3))
TARGETS = jnp.sin(jnp.arange(32.0)).reshape(16, 2)
LAYERS = {
    "in": jax.random.normal(jax.random.key(2), (3, 64)),
    "out": jnp.linspace(-1.0, 1.0, 128).reshape(64, 2),
}


def predict(params, inputs):
    hidden = jnp.tanh(inputs @ params["in"])
    return jnp.sum(hidden[:, :, None] * params["out"][None], axis=1)


def losses_and_outputs(params, batch):
    inputs, targets = batch
    outputs = predict(params, inputs)
    return jnp.mean((outputs - targets) ** 2, axis=-1), outputs


def tripled(x):
    """Three examples of each one, on the same device."""
    return jnp.stack([x, 2.0 * x, -x], axis=1).reshape(-1, *x.shape[1:])


def inflated(scheme, num_batches, **settings):
    """A case: the tail-inflated gradient, with LB three times as large as SB."""
    grad_fn = hto.tail_inflated_value_and_grad(
        *(losses_and_outputs, hto.tails.pareto(1.4), 0.5),
        scheme=scheme,
        has_aux=True,
        **settings,
    )

    def case(params, batch):
        batches = [batch] * num_batches
        if num_batches > 1:
            batches[-1] = jax.tree.map(tripled, batch)
        return grad_fn(jax.random.key(3), params, *batches)

    return case


def without_value(params, batch):
    grad_fn = hto.tail_inflated_grad(losses_and_outputs, TAIL, 0.5, has_aux=True)
    return grad_fn(jax.random.key(3), params, batch)


def masked(params, batch):
    grad_fn = hto.tail_inflated_value_and_grad(
        losses_and_outputs, TAIL, 0.5, has_aux=True
    )
    mask = batch[1][:, 0] > 0.0
    return grad_fn(jax.random.key(3), params, batch, masks=(mask,))


def balanced_weights(params, batch):
    return hto.balanced_inflation_weights(2.0, small=batch[1][:, 0] > 0.0, key=0)


def weights(function):
    def case(params, batch):
        return function(2.0, small=batch[1][:, 0] > 0.0, large=batch[1][:, 1] > 0.0)

    return case


def by_groups(params, batch):
    """A gradient of each pair of examples, inflated by the factor of the pair."""
    factors = hto.group_inflation_factors(3.0, num_groups=8, key=0)
    pairs = jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), batch)

    def mean_loss(params, factors, pairs):
        losses, _ = jax.vmap(losses_and_outputs, in_axes=(None, 0))(params, pairs)
        return jnp.mean(factors * jnp.mean(losses, axis=1))

    return jax.grad(mean_loss)(params, factors, pairs)


def with_noise(params, batch):
    grad_fn = hto.value_grad_and_noise(losses_and_outputs, has_aux=True)
    return grad_fn(jax.random.key(3), params, batch)


def of_half(params, batch):
    """The update by noise of the gradient, that of half of the batch less the other."""
    transformation = hto.inflate_gradient_noise(hto.tails.pareto(1.4), 0.5, key=0)

    def gradient(sign):
        signs = jnp.where(batch[1][:, 0] > 0.0, 1.0, sign)
        return jax.grad(
            lambda params: jnp.mean(signs * losses_and_outputs(params, batch)[0])
        )(params)

    state = transformation.init(params)
    return transformation.update(
        gradient(1.0), state, params, gradient_noise=gradient(-1.0)
    )


INFLATION = {
    **{
        f"tail_inflated_value_and_grad/{scheme}_{size}": inflated(
            scheme, num_batches, microbatch_size=size
        )
        for scheme, num_batches in (("independent", 3), ("shared", 2), ("balanced", 1))
        for size in (None, 8, 5)
    },
    "tail_inflated_value_and_grad/gated": inflated(
        *("independent", 3), inflate_above=0.3, microbatch_size=8
    ),
    "tail_inflated_value_and_grad/masked": masked,
    "tail_inflated_grad": without_value,
    "balanced_inflation_weights": balanced_weights,
    "shared_inflation_weights": weights(hto.shared_inflation_weights),
    "independent_inflation_weights": weights(hto.independent_inflation_weights),
    "group_inflation_factors": by_groups,
    "inflate_gradient_noise": of_half,
    "value_grad_and_noise": with_noise,
}


def test_every_public_function_is_in_a_table():
    transformations = {case.factory.__name__ for case in DISTINCT}
    # Settings hold no arrays; the other has a test of its own below.
    others = {"adaptive_max_norm", "summary"}
    tables = sharding.names_of(INFLATION) | transformations | others
    assert sharding.public_functions(hto) <= tables
    assert sharding.names_of(LABORATORY) == sharding.public_functions(hto.dynamics)


def check_inflation(name, kind, parts, *, compiled, set_mesh):
    """Equal but for rounding, of which the largest weights are 3 to 10 times a mean's."""
    mesh = sharding.make_mesh(kind)
    batch = (INPUTS, TARGETS)
    arguments = (
        sharding.place(mesh, LAYERS, SPREAD if "params" in parts else jax.P()),
        sharding.place(mesh, batch, jax.P("data" if "data" in parts else None)),
    )
    case = INFLATION[name]
    got, sent = sharding.run(
        case, arguments, mesh, compiled=compiled, set_mesh=set_mesh
    )
    sharding.assert_equal_up_to(64 * EPS, got, jax.jit(case)(LAYERS, batch))
    return sent


@pytest.mark.parametrize("name", INFLATION)
def test_inflation_on_an_explicit_mesh(name):
    """Neither parameters nor examples are put together, masks excepted."""
    sent = check_inflation(
        *(name, "explicit", ("params", "data")), compiled=True, set_mesh=False
    )
    sent.pop("all-reduce", None)
    largest = max((size for sizes in sent.values() for size in sizes), default=0)
    assert largest <= INPUTS.shape[0], sent


@pytest.mark.parametrize(
    "name",
    [
        "tail_inflated_value_and_grad/shared_None",
        "tail_inflated_value_and_grad/balanced_5",
    ],
)
def test_inflation_on_an_explicit_mesh_without_jit(name):
    check_inflation(
        *(name, "explicit", ("params", "data")), compiled=False, set_mesh=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["set", "jit", "jit_set"])
@pytest.mark.parametrize("kind", sharding.KINDS)
@pytest.mark.parametrize("parts", [("params",), ("data",), ("params", "data")])
@pytest.mark.parametrize("name", INFLATION)
def test_inflation_however_sharded(name, parts, kind, mode):
    compiled, set_mesh = mode.startswith("jit"), mode.endswith("set")
    check_inflation(name, kind, parts, compiled=compiled, set_mesh=set_mesh)


def values_at(landscape):
    """A case: what a landscape says of points on the line, or of pairs of them."""

    def case(line, plane):
        points = line if landscape.dimension is None else plane
        return (
            jax.vmap(landscape.value)(points),
            jax.vmap(landscape.gradient)(points),
            landscape.field_of(points),
            landscape.values_at(points),
        )

    return case


FIELD = hto.dynamics.quadratic(1.0, 0.3, 0.4)
SQUARE = hto.dynamics.product_landscape([FIELD, hto.dynamics.quadratic(2.0, 0.4, 0.6)])
STEPS = hto.dynamics.sgd_process(1e-2, 0.5, TAIL, 0.5)
LAW = {"tail": TAIL, "scale": 0.5, "max_norm": 0.25}


def optimizer_of_a_chain(key):
    return hto.truncated_heavy_tailed_sgd(1e-2, 0.5, TAIL, 0.5, key=key, momentum=0.5)


def simulated(landscape, process, take):
    def case(line, plane):
        start = (line, plane)[take]
        result = hto.dynamics.simulate(
            *(landscape, process), key=0, start=start, num_steps=50, num_chains=64
        )
        return result.field_counts, result.positions

    return case


def exits(line, plane):
    result = hto.dynamics.first_exit_times(
        *(SQUARE, STEPS, 0), key=0, num_exits=64, max_steps=500, start=plane
    )
    return result.times, result.destinations


LABORATORY = {
    "exit_rates": lambda line, plane: hto.dynamics.exit_rates(FIELD, **LAW).rates,
    "exponential_p_value": lambda line, plane: hto.dynamics.exponential_p_value(
        line + 1.0, num_draws=50
    ),
    "first_exit_times": exits,
    "four_minima": values_at(hto.dynamics.four_minima()),
    "jumps_to_leave": lambda line, plane: hto.dynamics.jumps_to_leave(
        SQUARE, key=0, max_norm=0.25, num_samples=64
    ),
    "landscape_on_line": values_at(
        hto.dynamics.landscape_on_line(lambda x: x**2, minima=[0.0], maxima=[])
    ),
    "markov_chain": lambda line, plane: (
        hto.dynamics.markov_chain(
            hto.dynamics.exit_rates(hto.dynamics.four_minima(), **LAW), within=0
        ).generator
    ),
    "occupation": lambda line, plane: tuple(
        hto.dynamics.occupation((jnp.abs(plane) * 100).astype(int) + 1, 100)
    ),
    "optax_process": simulated(
        FIELD, hto.dynamics.optax_process(optimizer_of_a_chain), 0
    ),
    "product_landscape": values_at(SQUARE),
    "quadratic": values_at(FIELD),
    "random_mixture": lambda line, plane: (
        hto.dynamics.random_mixture(key=0, dimension=2, num_minima=2).minima
    ),
    "rare_exit_rate": lambda line, plane: (
        hto.dynamics.rare_exit_rate(
            FIELD, 0, key=0, learning_rate=1e-4, num_samples=64, **LAW
        ).rate
    ),
    "sgd_process": simulated(SQUARE, STEPS, 1),
    "simulate": simulated(FIELD, STEPS, 0),
    "wells_landscape": values_at(hto.dynamics.wells_landscape([-0.3, 0.8], [0.0])),
}


@pytest.mark.parametrize("name", LABORATORY)
def test_laboratory_on_an_explicit_mesh(name):
    """Its chains are on one device: points may come from any, and a mesh may be set."""
    line = jnp.linspace(-0.2, 0.2, 64)
    plane = jnp.stack([line, -line], axis=1)
    expected = LABORATORY[name](line, plane)
    mesh = sharding.make_mesh("explicit")
    spread = sharding.place(mesh, (line, plane), jax.P("data"))
    got, _ = sharding.run(LABORATORY[name], spread, mesh, compiled=False, set_mesh=True)
    sharding.assert_equal_up_to(16 * EPS, got, expected)


def test_adaptive_bound_and_summary_on_an_explicit_mesh():
    truncation = hto.truncate_update_norm(hto.adaptive_max_norm(0.1))

    def summarised(updates):
        _, state = truncation.update(updates, truncation.init(updates))
        return hto.summary(state)

    mesh = sharding.make_mesh("explicit")
    updates = INPUTS[:, 0]
    with jax.set_mesh(mesh):
        got = summarised(sharding.place(mesh, updates, jax.P("data")))
    expected = summarised(updates)
    assert got.keys() == expected.keys()
    for name, value in got.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6)
    wanted = 4.0 * jnp.linalg.norm(updates)
    np.testing.assert_allclose(got["max_norm"], wanted, rtol=1e-6)
