"""What every transformation keeps to, whoever wraps, scans, shards or donates it."""

import dataclasses
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from key_implementations import EVERY
from transformations import DISTINCT, RANDOM, TRANSFORMATIONS, Transformation

import heavytail_optax as hto

EACH = pytest.mark.parametrize("case", TRANSFORMATIONS, ids=lambda case: case.name)
EACH_DISTINCT = pytest.mark.parametrize("case", DISTINCT, ids=lambda case: case.name)
EACH_FACTORY = pytest.mark.parametrize(
    "case",
    {case.factory: case for case in reversed(TRANSFORMATIONS) if case.numbers}.values(),
    ids=lambda case: case.factory.__name__,
)
EACH_RANDOM_FACTORY = pytest.mark.parametrize(
    "case",
    {case.factory: case for case in reversed(RANDOM)}.values(),
    ids=lambda case: case.factory.__name__,
)
EACH_RANDOM = pytest.mark.parametrize("case", RANDOM, ids=lambda case: case.name)

KEY = jax.random.key(0)
SHAPES = {"w": (2, 3), "b": (3,)}


def updates_of(dtype=jnp.float32):
    return {
        "w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3).astype(dtype),
        "b": jnp.asarray([0.5, -0.25, 0.125], dtype),
    }


@functools.cache
def compiled(case: Transformation):
    """The transformation and its update, compiled once for all tests of the case."""
    transformation = case.make()

    @jax.jit
    def update(updates, state, params):
        return case.update(transformation, updates, state, params)

    return transformation, update


def run(case, updates=None):
    """One compiled update from a fresh state."""
    transformation, update = compiled(case)
    updates = updates_of() if updates is None else updates
    return update(updates, transformation.init(updates), updates)


def types(tree):
    """Structure, shapes, dtypes (weak types and shardings included) of a tree."""
    return jax.tree.map(jax.typeof, tree)


def is_finite(tree):
    return all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(tree))


def assert_equal(got, expected):
    """Bit for bit."""
    chex.assert_trees_all_equal(got, expected, strict=True)


def assert_rounded_alike(got, expected):
    """Equal up to the few roundings that XLA may fuse or reorder."""

    def check(x, y):
        ulp = jnp.finfo(x.dtype).eps if jnp.issubdtype(x.dtype, jnp.inexact) else 0
        size = np.max(np.abs(y), initial=0)
        np.testing.assert_allclose(x, y, rtol=0, atol=4 * float(ulp) * float(size))

    assert types(got) == types(expected)
    jax.tree.map(check, got, expected)


def differ(one, other):
    """Whether no leaf of the one equals that of the other."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(bool((x != y).any()) for x, y in pairs)


# Trees and dtypes


def nnx_state():
    model = nnx.eval_shape(lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    return nnx.state(model, nnx.Param)


TREES = {
    **{
        dtype: {key: jax.ShapeDtypeStruct(s, dtype) for key, s in SHAPES.items()}
        for dtype in ("float16", "bfloat16", "float32", "float64")
    },
    "mixed": [
        jax.ShapeDtypeStruct((2,), dtype) for dtype in ("float16", "float32", "float64")
    ],
    "scalar": jax.ShapeDtypeStruct((), "float32"),
    "no_elements": {"w": jax.ShapeDtypeStruct((0, 3), "float32")},
    "none_and_masked": {
        "w": jax.ShapeDtypeStruct((2,), "float32"),
        "none": None,
        "masked": optax.MaskedNode(),
    },
    "only_none": {"none": None},
    "empty": {},
    "nnx_state": nnx_state(),
}


@pytest.mark.parametrize("tree", TREES)
@EACH
def test_structure_and_types_are_kept(case, tree):
    with jax.enable_x64("float64" in tree or tree == "mixed"):
        updates = TREES[tree]
        transformation = case.make()
        state = jax.eval_shape(transformation.init, updates)
        got, next_state = jax.eval_shape(
            lambda u, s: case.update(transformation, u, s, u), updates, state
        )
    assert jax.tree.structure(got) == jax.tree.structure(updates)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(got)] == [
        (x.shape, x.dtype) for x in jax.tree.leaves(updates)
    ]
    # Weak types count: with them `lax.scan` would see another carry.
    assert next_state == state


@EACH_DISTINCT
def test_every_dtype_is_computed(case):
    with jax.enable_x64(True):
        updates = {
            dtype: jnp.asarray([0.5, -0.25], dtype)
            for dtype in ("float16", "bfloat16", "float32", "float64")
        }
        got, _ = run(case, updates)
        assert types(got) == types(updates)
        assert is_finite(got)
        assert differ(got, updates) == case.changes_updates


@EACH
def test_empty_trees_pass_and_are_counted(case):
    transformation = case.make()
    updates = {"none": None, "masked": optax.MaskedNode()}
    state = transformation.init(updates)
    got, next_state = case.update(transformation, updates, state, updates)
    assert got == updates
    assert is_finite(next_state)
    count = next(name for name in case.fields if name.endswith("_count"))
    assert optax.tree.get(next_state, count) == 1


@EACH
def test_complex_leaves(case):
    updates = {"z": jnp.asarray([3.0 + 4.0j, 0.0], jnp.complex64)}
    transformation = case.make()
    state = transformation.init(updates)
    if not case.accepts_complex:
        with pytest.raises(TypeError, match="`updates`.*must be a pytree of floating"):
            case.update(transformation, updates, state, updates)
        return
    got, next_state = case.update(transformation, updates, state, updates)
    assert got["z"].dtype == jnp.complex64
    expected = 0.5 * np.asarray([0.6 + 0.8j, 0.0])
    np.testing.assert_allclose(got["z"], expected, rtol=4 * jnp.finfo(jnp.float32).eps)
    assert next_state.update_norm == 5.0


# Compilation


@EACH_DISTINCT
def test_it_compiles_once(case):
    transformation = case.make()

    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(updates, state):
        return case.update(transformation, updates, state, updates)

    updates, state = updates_of(), transformation.init(updates_of())
    for _ in range(3):
        updates, state = step(updates, state)
    assert step._cache_size() == 1


@EACH_DISTINCT
def test_eager_equals_compiled_and_unknown_arguments_are_ignored(case):
    transformation, _ = compiled(case)
    updates = updates_of()
    eager = case.update(
        transformation,
        updates,
        transformation.init(updates),
        updates,
        value=jnp.ones(()),
        an_argument_of_another_transformation="unknown",
    )
    assert_rounded_alike(run(case), eager)


@EACH_DISTINCT
def test_a_scan_equals_a_loop(case):
    transformation, update = compiled(case)
    updates = updates_of()

    @jax.jit
    def scanned(state):
        def body(state, _):
            new, state = case.update(transformation, updates, state, updates)
            return state, new

        return jax.lax.scan(body, state, length=3)

    final, history = scanned(transformation.init(updates))
    state, steps = transformation.init(updates), []
    for _ in range(3):
        new, state = update(updates, state, updates)
        steps.append(new)
    assert_rounded_alike(history, jax.tree.map(lambda *xs: jnp.stack(xs), *steps))
    assert_rounded_alike(final, state)


@EACH
def test_init_needs_shapes_only(case):
    transformation = case.make()
    abstract = jax.eval_shape(updates_of)
    state = transformation.init(updates_of())
    if "momentum" not in case.arguments:  # `optax.trace` needs arrays
        assert_equal(transformation.init(abstract), state)
    got = jax.eval_shape(transformation.init, abstract)
    assert got == jax.eval_shape(lambda: state)


@EACH_DISTINCT
def test_donating_the_state_leaves_the_key_of_the_user_alive(case):
    keys = {"key": jax.random.key(7)} if case.is_random else {}
    transformation = case.make(**keys)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, updates):
        new, state = case.update(transformation, updates, state, updates)
        return state, new

    first = transformation.init(updates_of())
    state, new = step(first, updates_of())
    for name in case.fields:
        if name.endswith(("count", "key")):
            assert optax.tree.get(first, name).is_deleted(), name
    step(state, updates_of())
    # The key, and with it the transformation, can be used again.
    again = step(transformation.init(updates_of()), updates_of())
    assert_equal(again[1], new)
    for key in keys.values():
        assert jax.random.key_data(key).tolist() == [0, 7]


@EACH
def test_explicit_sharding_is_kept(case):
    kinds = (jax.sharding.AxisType.Explicit,) * 2
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=kinds)
    transformation = case.make()
    with jax.set_mesh(mesh):
        updates = {
            "both": jnp.ones((4, 2), out_sharding=jax.P("x", "y")),
            "one": jnp.ones((3, 8), out_sharding=jax.P(None, ("x", "y"))),
            "replicated": jnp.ones(3, out_sharding=jax.P()),
        }
        state = transformation.init(updates)
        got, next_state = jax.eval_shape(
            lambda u, s: case.update(transformation, u, s, u), updates, state
        )
        specs = jax.tree.map(lambda x: x.sharding.spec, got)
        assert specs == {
            "both": jax.P("x", "y"),
            "one": jax.P(None, ("x", "y")),
            "replicated": jax.P(None),
        }
        assert next_state == jax.eval_shape(lambda x: x, state)


# States


FOREIGN = {
    "none": None,
    "no_state": (),
    "empty_state": optax.EmptyState(),
    "masked": optax.MaskedNode(),
    "adam": optax.scale_by_adam().init(updates_of()),
    "chain": optax.sgd(0.1, momentum=0.9).init(updates_of()),
    "dictionary": {"count": jnp.zeros((), jnp.int32)},
    "array": jnp.zeros(3),
    **{case.factory.__name__: case.make().init(updates_of()) for case in DISTINCT},
}
NO_STATE = (
    r"The `state` argument of `\w+\.update` must be the state that `init` returned"
)


@EACH
def test_a_missing_or_foreign_state_is_named(case):
    """As Optax's own test of `clip_by_global_norm` passes none."""
    transformation = case.make()
    for name, state in FOREIGN.items():
        if name == case.factory.__name__:
            continue
        with pytest.raises(TypeError, match=NO_STATE):
            case.update(transformation, updates_of(), state, updates_of())
        with pytest.raises(TypeError, match=NO_STATE):
            jax.eval_shape(
                lambda u, s=state: case.update(transformation, u, s, u), updates_of()
            )


@EACH_DISTINCT
def test_a_state_of_numpy_arrays_is_accepted(case):
    """As a checkpoint may be read."""
    transformation, update = compiled(case)
    state = jax.tree.map(np.asarray, transformation.init(updates_of()))
    assert_equal(update(updates_of(), state, updates_of()), run(case))


# Keys


@EACH_RANDOM_FACTORY
def test_all_kinds_of_keys(case):
    (name,) = (field for field in case.fields if field.endswith("_key"))
    updates = updates_of()
    legacy = jax.random.PRNGKey(5)
    for key in (
        *(5, np.int64(5), np.uint32(5), jax.random.key(5)),
        jnp.asarray(5),  # what `optax.inject_hyperparams` makes of a seed
        *(legacy, np.asarray(legacy)),
    ):
        state = case.make(key=key).init(updates)
        assert_equal(optax.tree.get(state, name), legacy)


@pytest.mark.parametrize(
    "make", [hto.add_heavy_tailed_noise, hto.inflate_gradient_noise]
)
def test_keys_of_other_implementations(make):
    updates = jnp.ones(3)
    keys = [jax.random.key(5, impl=impl) for impl in EVERY]
    keys.append(jax.random.PRNGKey(5))
    transformations = [make(hto.tails.symmetric_pareto(1.4), 0.1, key=k) for k in keys]

    @jax.jit
    def first_updates():
        return [
            each.update(updates, each.init(updates), gradient_noise=updates)[0]
            for each in transformations
        ]

    *typed, legacy = first_updates()
    assert_equal(legacy, typed[EVERY.index("threefry2x32")])
    assert all(map(is_finite, typed))
    for one, other in itertools.combinations([updates, *typed], 2):
        assert differ(one, other)


@EACH_RANDOM
def test_noise_is_a_function_of_key_and_step(case):
    transformation, update = compiled(case)
    updates = updates_of()
    state = transformation.init(updates)
    first, after = update(updates, state, updates)
    assert_equal(update(updates, state, updates)[0], first)
    assert differ(update(updates, after, updates)[0], first)
    other_key = case.make(key=1).init(updates)
    assert differ(update(updates, other_key, updates)[0], first)
    for name in case.fields:
        if name.endswith("_key"):
            assert_equal(optax.tree.get(after, name), optax.tree.get(state, name))


@EACH_RANDOM
def test_init_copies_the_key(case):
    state = case.make(key=KEY).init(updates_of())
    (name,) = (field for field in case.fields if field.endswith("_key"))
    kept = optax.tree.get(state, name)
    assert kept.dtype == jnp.uint32
    assert (
        kept.unsafe_buffer_pointer()
        != jax.random.key_data(KEY).unsafe_buffer_pointer()
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TailOfKeys:
    """Not a law: what it draws is the key, 24 bits of each of its words."""

    tail_index = 1.0
    right_tail_weight = 0.5
    is_centred = True

    def sample(self, key, shape=(), dtype=jnp.float32, *, out_sharding=None):
        del out_sharding
        words = (jax.random.key_data(key) >> 8).astype(dtype)  # exact in float32
        return jnp.resize(words, shape)

    def tail_probability(self, x):
        return 1.0 / jnp.maximum(x, 1.0)


def test_keys_of_the_noise_are_not_among_those_the_user_derives():
    words = functools.partial(TailOfKeys().sample, shape=(2,))

    @jax.jit
    def keys_of_noise():
        """Of the first steps, for each leaf; the inflation has one a step."""
        zeros = [jnp.zeros(2), jnp.zeros(2)]
        ones = [jnp.ones(2), jnp.ones(2)]
        elementwise, inflation = [], []
        for make, keys in (
            (hto.add_heavy_tailed_noise, elementwise),
            (hto.inflate_gradient_noise, inflation),
        ):
            transformation = make(TailOfKeys(), 1.0, key=KEY)
            state = transformation.init(zeros)
            for _ in range(3):
                new, state = transformation.update(zeros, state, gradient_noise=ones)
                keys += new
        return jnp.stack(elementwise), jnp.stack(inflation)

    @jax.jit
    def keys_of_user():
        """The key, its splits, and its folds of up to two small numbers."""
        few, many = jnp.arange(50), jnp.arange(1000)
        fold_in = jax.vmap(jax.random.fold_in, (None, 0))
        once = fold_in(KEY, few)
        twice = jax.vmap(lambda key: fold_in(key, few))(once)
        splits = jax.vmap(lambda key: jax.random.split(key, 2))(once)
        derived = [KEY[None], jax.random.split(KEY, 1000), fold_in(KEY, many)]
        derived += [twice.ravel(), splits.ravel()]
        return jax.vmap(words)(jnp.concatenate(derived))

    elementwise, inflation = (set(map(tuple, x.tolist())) for x in keys_of_noise())
    user = set(map(tuple, keys_of_user().tolist()))
    assert len(elementwise) == 6  # three steps, two leaves
    assert not elementwise & user
    assert len(inflation) == 3
    assert not {first for first, _ in inflation} & {first for first, _ in user}
    # Without a tag, step 1 and leaf 0 would have taken these; the check sees them.
    untagged = jax.random.fold_in(jax.random.fold_in(KEY, 1), 0)
    assert tuple(words(untagged).tolist()) in user
    assert tuple(words(jax.random.split(KEY, 5)[3]).tolist()) in user


# Settings: constants, arrays, schedules, hyperparameters


def settings(case, kind):
    """The numbers of a case as floats, arrays or schedules of the same value."""
    make = {
        "float": float,
        "numpy": np.float32,
        "array": jnp.asarray,
        "schedule": lambda value: lambda count: jnp.asarray(value),
        "float_schedule": lambda value: lambda count: value,
        "partial": lambda value: jax.tree_util.Partial(lambda v, _: v, value),
    }[kind]
    return {name: make(case.arguments[name]) for name in case.numbers}


@EACH_FACTORY
def test_constants_arrays_and_schedules_are_the_same(case):
    kinds = ("numpy", "array", "schedule", "float_schedule", "partial")
    transformations = [case.make(**settings(case, kind)) for kind in kinds]
    updates = updates_of()

    @jax.jit
    def first_updates(updates):
        return [
            case.update(each, updates, each.init(updates), updates)[0]
            for each in transformations
        ]

    for got in first_updates(updates):
        assert_rounded_alike(got, run(case)[0])


@EACH_FACTORY
def test_inject_hyperparams(case):
    transformations = [
        optax.inject_hyperparams(case.factory)(
            **(case.arguments | settings(case, kind)),
            **({"key": 0} if case.is_random else {}),
        )
        for kind in ("float", "array", "schedule")
    ]
    updates = updates_of()
    states = [each.init(updates) for each in transformations]

    @jax.jit
    def first_updates(states):
        return [
            case.update(each, updates, state, updates)
            for each, state in zip(transformations, states, strict=True)
        ]

    expected, _ = run(case)
    for (got, next_state), state in zip(first_updates(states), states, strict=True):
        assert_rounded_alike(got, expected)
        assert jax.eval_shape(lambda s=next_state: s) == jax.eval_shape(
            lambda s=state: s
        )
    # A hyperparameter changed in the state acts without compiling again.
    name = case.numbers[-1]
    states[0].hyperparams[name] = jnp.float32(case.arguments[name] / 2)
    changed = first_updates(states)[0][0]
    halved = case.make(**{name: case.arguments[name] / 2})
    step = jax.jit(lambda: case.update(halved, updates, halved.init(updates), updates))
    assert_rounded_alike(changed, step()[0])
    assert first_updates._cache_size() == 1


def annealed(count):
    return hto.tails.symmetric_pareto(1.2 + 0.1 * count)


@EACH_RANDOM_FACTORY
def test_the_tail_may_be_annealed(case):
    """Step t of a schedule of tails is step t of the tail it gives then."""
    steps = (0, 3)
    updates = updates_of()
    annealing = case.make(tail=annealed)

    @jax.jit
    def at_steps():
        pairs = []
        for step in steps:
            constant = case.make(tail=hto.tails.symmetric_pareto(1.2 + 0.1 * step))
            states = [
                optax.tree.set(each.init(updates), **{case.fields[0]: jnp.int32(step)})
                for each in (annealing, constant)
            ]
            pairs.append(
                [
                    case.update(each, updates, state, updates)[0]
                    for each, state in zip((annealing, constant), states, strict=True)
                ]
            )
        return pairs

    (first, first_expected), (last, last_expected) = at_steps()
    assert_rounded_alike(first, first_expected)
    assert_rounded_alike(last, last_expected)
    assert differ(first, last)


def test_schedules_see_the_step():
    """Settings of step t are those that the schedules give at t, from zero."""
    tail = hto.tails.symmetric_pareto(1.4)
    zeros = jnp.zeros(3)
    noise = hto.add_heavy_tailed_noise(tail, lambda count: 0.5**count, key=0)
    unit = hto.add_heavy_tailed_noise(tail, 1.0, key=0)
    truncation = hto.truncate_update_norm(lambda count: 0.5**count)

    @jax.jit
    def step(noise_state, truncation_state):
        noisy, noise_state = noise.update(zeros, noise_state)
        expected, _ = unit.update(zeros, noise_state._replace(
            noise_count=noise_state.noise_count - 1
        ))  # fmt: skip
        cut, truncation_state = truncation.update(jnp.ones(3), truncation_state)
        norm = optax.tree.norm(cut)
        return (noisy, expected, norm), noise_state, truncation_state

    noise_state, truncation_state = noise.init(zeros), truncation.init(zeros)
    for t in range(3):
        (noisy, expected, norm), noise_state, truncation_state = step(
            noise_state, truncation_state
        )
        # A power of two: the product is exact.
        np.testing.assert_array_equal(noisy, 0.5**t * expected)
        np.testing.assert_allclose(norm, 0.5**t, rtol=4 * jnp.finfo(jnp.float32).eps)


LAYERS = {"body": {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}, "head": jnp.ones(3)}


# Scales, and the factors of the leaves in the order of the tree: body b, body w, head.
# All are powers of two, so that every product is exact.
SCALES = {
    "number": (2.0, (2.0, 2.0, 2.0)),
    "prefix": ({"body": 0.0, "head": 2.0}, (0.0, 0.0, 2.0)),
    "nested": ({"body": {"w": 2.0, "b": 0.5}, "head": 0.0}, (0.5, 2.0, 0.0)),
    "schedules_and_arrays": (
        {"body": lambda count: 2.0 + count, "head": jnp.asarray(0.5)},
        (2.0, 2.0, 0.5),
    ),
    "schedule_that_is_a_pytree": (
        {"body": jax.tree_util.Partial(lambda x, _: 2.0 * x, 1.0), "head": 0.5},
        (2.0, 2.0, 0.5),
    ),
}


@pytest.mark.parametrize("direction", ["elementwise", "isotropic", "inflation"])
def test_scale_by_layer(direction):
    def make(scale):
        tail = hto.tails.symmetric_pareto(1.4)
        if direction == "inflation":
            return hto.inflate_gradient_noise(tail, scale, key=0)
        return hto.add_heavy_tailed_noise(tail, scale, key=0, direction=direction)

    def noise(scale):
        zeros = jax.tree.map(jnp.zeros_like, LAYERS)
        transformation = make(scale)
        state = transformation.init(zeros)
        return transformation.update(zeros, state, gradient_noise=LAYERS)[0]

    @jax.jit
    def noises():
        return noise(1.0), {name: noise(scale) for name, (scale, _) in SCALES.items()}

    unit, by_name = noises()
    leaves, structure = jax.tree.flatten(unit)
    assert all((leaf != 0).all() for leaf in leaves)
    for name, (_, factors) in SCALES.items():
        expected = [c * z for c, z in zip(factors, leaves, strict=True)]
        assert_equal(by_name[name], jax.tree.unflatten(structure, expected))


@pytest.mark.parametrize("direction", ["elementwise", "isotropic"])
def test_no_scale_is_no_noise_however_large_the_draws(direction):
    """One draw of index 0.05 in 84 is the largest float32: zero times it is zero."""
    tail = hto.tails.symmetric_pareto(0.05)
    updates = jnp.ones(1)

    @jax.vmap
    def noisy(key):
        transformation = hto.add_heavy_tailed_noise(
            tail, 0.0, key=key, direction=direction
        )
        return transformation.update(updates, transformation.init(updates))[0]

    got = jax.jit(noisy)(jax.random.split(KEY, 2000))
    np.testing.assert_array_equal(got, np.ones((2000, 1)))


# Under the wrappers of Optax


@EACH
def test_state_fields_are_found_in_a_chain(case):
    chain = optax.chain(optax.scale_by_adam(), case.make(), optax.scale(1.0))
    state = chain.init(updates_of())
    for name in case.fields:
        value = optax.tree.get(state, name)
        assert value is not None
        leaves = jax.tree.leaves(value)
        assert all(jnp.isfinite(x).all() for x in leaves)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@EACH_DISTINCT
def test_state_stays_finite_whatever_the_updates(case, bad):
    updates = updates_of()
    updates["b"] = updates["b"].at[1].set(bad)
    got, state = run(case, updates)
    if "trace" in case.fields:  # the momentum of `optax.trace` holds what it was given
        state = (state[0], state[-1])
    truncates = "num_truncated" in case.fields
    if truncates and np.isnan(bad):
        # The log shows it; the next step has the norm of its own update.
        assert jnp.isnan(optax.tree.get(state, "update_norm"))
        state = optax.tree.set(state, update_norm=jnp.zeros(()))
    assert is_finite(state)
    if np.isnan(bad):
        # A truncated update is NaN throughout: nothing of the step can be trusted.
        assert jnp.isnan(got["b"][1])
        assert bool(jnp.isnan(got["w"]).all()) == truncates
        assert bool(jnp.isnan(got["w"]).any()) == truncates
    elif truncates:
        assert is_finite(got)
        assert optax.tree.get(state, "num_truncated") == 1
    else:
        assert got["b"][1] == bad


@EACH_DISTINCT
def test_multi_steps_counts_one_step_for_k_gradients(case):
    wrapped = optax.MultiSteps(case.make(), every_k_schedule=2)
    updates = updates_of()
    other = jax.tree.map(lambda x: 3.0 * x, updates)

    @jax.jit
    def two_steps():
        state = wrapped.init(updates)
        first, state = case.update(wrapped, updates, state, updates)
        second, state = case.update(wrapped, other, state, updates)
        return first, second, state

    first, second, state = two_steps()
    assert_equal(first, jax.tree.map(jnp.zeros_like, updates))
    mean = jax.tree.map(lambda x: 2.0 * x, updates)
    transformation, update = compiled(case)
    expected, expected_state = update(mean, transformation.init(updates), updates)
    assert_rounded_alike(second, expected)
    assert_rounded_alike(state.inner_opt_state, expected_state)


def changed(got, updates):
    return {name: bool((got[name] != updates[name]).any()) for name in updates}


@EACH_DISTINCT
def test_masked_leaves_pass_untouched(case):
    wrapped = optax.masked(
        case.make(), {"w": True, "b": False}, mask_compatible_extra_args=True
    )
    updates = updates_of()
    got, _ = jax.jit(
        lambda: case.update(wrapped, updates, wrapped.init(updates), updates)
    )()
    assert changed(got, updates) == {"w": case.changes_updates, "b": False}


@EACH_DISTINCT
def test_partition_by_label(case):
    wrapped = optax.partition(
        {"acts": case.make(), "passes": optax.identity()},
        {"w": "passes", "b": "acts"},
        mask_compatible_extra_args=True,
    )
    updates = updates_of()
    got, _ = jax.jit(
        lambda: case.update(wrapped, updates, wrapped.init(updates), updates)
    )()
    assert changed(got, updates) == {"w": False, "b": case.changes_updates}


@EACH_DISTINCT
def test_apply_if_finite_refuses_nan_and_goes_on(case):
    wrapped = optax.apply_if_finite(case.make(), max_consecutive_errors=5)
    updates = updates_of()
    bad = {"w": updates["w"], "b": updates["b"].at[1].set(jnp.nan)}

    @jax.jit
    def step(updates, state):
        return case.update(wrapped, updates, state, updates)

    state = wrapped.init(updates)
    refused, after = step(bad, state)
    assert_equal(refused, jax.tree.map(jnp.zeros_like, updates))
    assert_equal(after.inner_state, state.inner_state)
    assert int(after.total_notfinite) == 1
    # The next step draws what the refused one drew.
    got, _ = step(updates, after)
    assert_rounded_alike(got, run(case)[0])


# `optax.contrib.sam` passes no extra arguments on.
WITHOUT_EXTRA_ARGS = [case for case in DISTINCT if not case.extra_args({})]


@pytest.mark.parametrize("opaque", [False, True], ids=["transparent", "opaque"])
@pytest.mark.parametrize("case", WITHOUT_EXTRA_ARGS, ids=lambda case: case.name)
def test_sam_counts_one_step_a_synchronisation(case, opaque):
    """After one period, outer state and parameters are those of one outer step."""
    transformation, update = compiled(case)
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    sam = optax.contrib.sam(transformation, ascent, opaque_mode=opaque)
    params = updates_of()

    @jax.jit
    def step(params, state):  # the gradient of |x|^2 / 2 is x
        updates, state = sam.update(params, state, params, grad_fn=lambda p, _: p)
        return optax.apply_updates(params, updates), state

    got, state = params, sam.init(params)
    for _ in range(1 if opaque else 2):
        got, state = step(got, state)
    norm = optax.tree.norm(params)
    adversarial = jax.tree.map(lambda x: x + 0.05 * x / norm, params)
    outer, expected_state = update(adversarial, transformation.init(params), params)
    assert_rounded_alike(state.opt_state, expected_state)
    assert_rounded_alike(got, optax.apply_updates(params, outer))


@EACH_DISTINCT
def test_schedule_free(case):
    transformation, update = compiled(case)
    wrapped = optax.contrib.schedule_free(transformation, learning_rate=0.1, b1=0.9)
    params = updates_of()

    @jax.jit
    def step(params, state):
        return case.update(wrapped, params, state, params)

    state = wrapped.init(params)
    updates, next_state = step(params, state)
    inner, expected = update(params, transformation.init(params), params)
    assert_rounded_alike(next_state.base_optimizer_state, expected)
    assert_rounded_alike(next_state.z, optax.apply_updates(params, inner))
    assert types(next_state) == types(state)
    assert is_finite(updates)
