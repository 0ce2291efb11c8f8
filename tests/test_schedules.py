"""Settings by layer and by step: which nodes are schedules, and the ends of schedules."""

import dataclasses
import functools
import itertools
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from callable_trees import Line
from flax import nnx

import heavytail_optax as hto

TAIL = hto.tails.symmetric_pareto(1.4)
LARGEST = float(np.finfo(np.float32).max)


# Trees of scales that can be called


class Net(nnx.Module):
    def __init__(self, rngs):
        self.encoder = nnx.Linear(2, 3, rngs=rngs)
        self.head = nnx.Linear(3, 1, rngs=rngs)


def nnx_params():
    return nnx.state(Net(nnx.Rngs(0)), nnx.Param)


def equinox_params():
    """Its other fields, the activations among them, are None."""
    model = eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0))
    return eqx.filter(model, eqx.is_array)


def equinox_sequence():
    """With layers that can be called and hold nothing, or None."""
    layers = [
        eqx.nn.Linear(2, 3, key=jax.random.key(0)),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.Identity(),
        eqx.nn.Linear(3, 1, key=jax.random.key(1)),
    ]
    return eqx.filter(eqx.nn.Sequential(layers), eqx.is_array)


def numbers_like(params, values):
    """The tree with these numbers for its leaves, in turn."""
    leaves, structure = jax.tree.flatten(params)
    chosen = itertools.islice(itertools.cycle(values), len(leaves))
    return jax.tree.unflatten(structure, list(chosen))


def constant(value):
    return lambda count: value


def partial(value):
    return jax.tree_util.Partial(lambda v, count: v + 0.0 * count, jnp.asarray(value))


# Powers of two, so that products are exact.
BY_LEAF = (0.0, 0.5, 2.0, 0.25)


class Case(NamedTuple):
    """Scales, and the factors of the leaves in the order of the tree."""

    params: Any
    scale: Any
    factors: tuple[float, ...]


@functools.cache
def cases():
    line = Line(jnp.asarray([3.0, -4.0]), jnp.asarray([0.5]))
    nets, mlp, sequence = nnx_params(), equinox_params(), equinox_sequence()
    one_up = eqx.tree_at(
        lambda m: m.layers[0], numbers_like(mlp, (2.0,)), constant(0.0)
    )
    return {
        "dataclass": Case(line, Line(0.0, 0.5), (0.0, 0.5)),
        "dataclass_of_schedules": Case(
            line, Line(constant(2.0), partial(0.5)), (2.0, 0.5)
        ),
        "dataclass_in_a_tree": Case(
            {"a": line, "b": line},
            {"a": Line(0.0, 2.0), "b": partial(0.25)},
            (0.0, 2.0, 0.25, 0.25),
        ),
        # Each of its leaves is an `nnx.Param`, which can be called.
        "nnx_state": Case(nets, numbers_like(nets, BY_LEAF), BY_LEAF),
        "nnx_one_level_up": Case(
            nets, nnx.State({"encoder": 0.0, "head": 0.5}), (0.0, 0.0, 0.5, 0.5)
        ),
        "nnx_pure": Case(
            nnx.to_pure_dict(nets),
            {"encoder": 0.0, "head": constant(0.5)},
            (0.0, 0.0, 0.5, 0.5),
        ),
        "equinox": Case(mlp, numbers_like(mlp, BY_LEAF), BY_LEAF),
        "equinox_one_level_up": Case(mlp, one_up, (0.0, 0.0, 2.0, 2.0)),
        "equinox_arrays": Case(
            mlp, jax.tree.map(jnp.asarray, numbers_like(mlp, BY_LEAF)), BY_LEAF
        ),
        "equinox_sequence": Case(sequence, numbers_like(sequence, BY_LEAF), BY_LEAF),
        "none_where_there_is_none": Case(
            {"a": jnp.ones(2), "b": None, "c": optax.MaskedNode()},
            {"a": 0.5, "b": None, "c": None},
            (0.5,),
        ),
    }


MAKE = {
    "elementwise": functools.partial(hto.add_heavy_tailed_noise, key=0),
    "isotropic": functools.partial(
        hto.add_heavy_tailed_noise, key=0, direction="isotropic"
    ),
    "inflation": functools.partial(hto.inflate_gradient_noise, key=0),
}


def noise(make, scale, params):
    """What is added to a gradient of zero."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    ones = jax.tree.map(jnp.ones_like, params)
    transformation = make(TAIL, scale)
    state = transformation.init(zeros)
    return transformation.update(zeros, state, zeros, gradient_noise=ones)[0]


@pytest.mark.parametrize("kind", ["elementwise", "inflation"])
def test_what_jax_flattens_is_a_tree_of_scales(kind):
    make = MAKE[kind]

    @jax.jit
    def noises():
        return {
            name: (noise(make, 1.0, case.params), noise(make, case.scale, case.params))
            for name, case in cases().items()
        }

    for name, (unit, got) in noises().items():
        assert jax.tree.structure(got) == jax.tree.structure(unit), name
        pairs = zip(*map(jax.tree.leaves, (unit, got)), strict=True)
        for factor, (one, scaled) in zip(cases()[name].factors, pairs, strict=True):
            assert (one != 0).all(), name
            np.testing.assert_array_equal(scaled, factor * one, err_msg=name)


def test_a_none_above_a_leaf_is_named():
    updates = {"a": jnp.ones(2), "b": jnp.ones(2)}
    transformation = hto.add_heavy_tailed_noise(TAIL, {"a": 0.1, "b": None}, key=0)
    with pytest.raises(TypeError, match="every leaf of the updates. Got None"):
        transformation.update(updates, transformation.init(updates))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recorder(Line):
    """Keeps what it was called with."""

    calls: ClassVar[list[Any]] = []

    def __call__(self, x):
        self.calls.append(x)
        return super().__call__(x)


def squared_losses(params, batch):
    return (batch - params) ** 2


SINGLE = {
    "learning_rate": lambda value: hto.truncated_heavy_tailed_sgd(
        value, 0.5, TAIL, 0.1, key=0
    ),
    "tail": lambda value: hto.add_heavy_tailed_noise(value, 0.1, key=0),
    "scale": lambda value: hto.tail_inflated_value_and_grad(
        squared_losses, TAIL, value
    ),
}


@pytest.mark.parametrize("argument", SINGLE)
def test_a_single_setting_is_no_pytree_that_can_be_called(argument):
    recorder = Recorder(0.1, 0.2)
    with pytest.raises(TypeError, match=f"`{argument}`.*Got Recorder, a pytree"):
        SINGLE[argument](recorder)
    assert recorder.calls == []
    # Wrapped, it is a schedule; and so is a `Partial`, pytree that it is.
    SINGLE[argument](lambda count: recorder(count))
    SINGLE[argument](jax.tree_util.Partial(lambda x, count: x * count, 0.1))


# The ends of what a schedule or an array may be


def made_by(kind, value):
    """An array or a schedule, as no number may be at the ends."""
    return {
        "array": lambda: jnp.asarray(value),
        "schedule": lambda: lambda count: jnp.asarray(value),
        "schedule_of_numbers": lambda: lambda count: value,
    }[kind]()


KINDS = pytest.mark.parametrize("kind", ["array", "schedule", "schedule_of_numbers"])
UPDATES = {"w": jnp.asarray([3.0, -4.0]), "b": jnp.asarray([[0.0, 12.0]])}


def sgd(**changes):
    """Plain gradient descent with a learning rate of one, but for the changes."""
    good = {"learning_rate": 1.0, "max_norm": jnp.inf, "tail": TAIL, "scale": 0.0}
    return hto.truncated_heavy_tailed_sgd(**(good | changes), key=0)


def first_update(make, value):
    transformation = make(value)
    state = transformation.init(UPDATES)
    got, _ = transformation.update(UPDATES, state, UPDATES, gradient_noise=UPDATES)
    return got


# The factor on the updates that is right at an end.
ENDS = {
    "max_norm_0": (hto.truncate_update_norm, 0.0, 0.0),
    "max_norm_infinite": (hto.truncate_update_norm, np.inf, 1.0),
    "elementwise_scale_0": (lambda c: MAKE["elementwise"](TAIL, c), 0.0, 1.0),
    "isotropic_scale_0": (lambda c: MAKE["isotropic"](TAIL, c), 0.0, 1.0),
    "inflation_scale_0": (lambda c: MAKE["inflation"](TAIL, c), 0.0, 1.0),
    "sgd_learning_rate_0": (lambda eta: sgd(learning_rate=eta), 0.0, 0.0),
    "sgd_scale_0": (lambda c: sgd(scale=c), 0.0, -1.0),
    "sgd_max_norm_0": (lambda b: sgd(max_norm=b), 0.0, 0.0),
    "sgd_max_norm_infinite": (lambda b: sgd(max_norm=b), np.inf, -1.0),
}


@KINDS
@pytest.mark.parametrize(("make", "end", "factor"), ENDS.values(), ids=ENDS)
def test_ends_of_schedules_give_their_limit(make, end, factor, kind):
    got = first_update(make, made_by(kind, end))
    for name, x in UPDATES.items():
        np.testing.assert_array_equal(got[name], factor * x)


def to_zero_but_for_rounding(count):
    """As `optax.linear_schedule(1.0, 0.0, n)` comes out where products are fused."""
    return jnp.where(count < 2, 0.5, -5e-8)


ENDING = {
    "max_norm": (hto.truncate_update_norm, 0.0),
    "scale": (lambda c: MAKE["elementwise"](TAIL, c), 1.0),
    "inflation_scale": (lambda c: MAKE["inflation"](TAIL, c), 1.0),
    "sgd_learning_rate": (lambda eta: sgd(learning_rate=eta), 0.0),
}


@pytest.mark.parametrize(("make", "factor"), ENDING.values(), ids=ENDING)
def test_a_schedule_that_misses_zero_by_rounding_ends_at_zero(make, factor):
    transformation = make(to_zero_but_for_rounding)
    state = transformation.init(UPDATES)

    @jax.jit
    def late_update(state):
        return transformation.update(UPDATES, state, UPDATES, gradient_noise=UPDATES)

    for _ in range(4):
        got, state = late_update(state)
    for name, x in UPDATES.items():
        np.testing.assert_array_equal(got[name], factor * x)


def test_traced_momentum_and_weight_decay_of_zero_are_none():
    for name in ("momentum", "weight_decay"):
        got = first_update(lambda x, name=name: sgd(**{name: x}), jnp.asarray(0.0))
        for key, x in UPDATES.items():
            np.testing.assert_array_equal(got[key], -x)


@KINDS
def test_the_largest_scale_gives_finite_noise(kind):
    for name in ("elementwise", "isotropic", "inflation"):
        got = first_update(lambda c, n=name: MAKE[n](TAIL, c), made_by(kind, LARGEST))
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(got)), name


def test_a_scale_infinite_in_float32_gives_nan_with_64_bits():
    """As a number it is refused: the noise itself may be of float32."""
    with jax.enable_x64(True):
        updates = jnp.ones(3, jnp.float32)
        transformation = hto.add_heavy_tailed_noise(TAIL, jnp.asarray(1e300), key=0)
        got, _ = transformation.update(updates, transformation.init(updates))
        assert np.isnan(got).all()


def test_a_traced_gate_at_zero_inflates_every_step():
    """Also where W is the least of its law, of which the share below is zero."""

    class One:
        """A tail whose draws are all the least that there is."""

        tail_index, right_tail_weight, is_centred = 1.4, 1.0, False

        def sample(self, key, shape=(), dtype=jnp.float32, *, out_sharding=None):
            return jnp.ones(shape, dtype)

        def tail_probability(self, x):
            return hto.tails.pareto(1.4).tail_probability(x)

    batch = jnp.asarray([1.0, 2.0, 5.0])

    @jax.jit
    def grad(gate):
        grad_fn = hto.tail_inflated_value_and_grad(
            squared_losses, One(), 0.5, inflate_above=gate
        )
        return grad_fn(3, 0.0, batch)[1]

    always = hto.tail_inflated_value_and_grad(squared_losses, One(), 0.5)(
        3, 0.0, batch
    )[1]
    plain = hto.tail_inflated_value_and_grad(squared_losses, One(), 0.0)(3, 0.0, batch)[
        1
    ]
    np.testing.assert_allclose(grad(0.0), always, rtol=1e-6)
    np.testing.assert_allclose(grad(0.5), plain, rtol=1e-6)
    assert abs(always - plain) > 0.1
