"""A part of the parameters has the diagonal block of the Hessian."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from heavytail_optax import flatness

PARAMS = {
    "layers": [
        {"kernel": jnp.linspace(-1.0, 1.0, 6).reshape(3, 2), "bias": jnp.ones(2)},
        {"kernel": jnp.linspace(0.5, 2.0, 4).reshape(2, 2), "bias": jnp.zeros(2)},
    ],
    "scale": jnp.asarray(0.7),
}
DATA = (jax.random.normal(jax.random.key(0), (16, 3)),)


def loss(params, x):
    for layer in params["layers"]:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"][None])
    return jnp.mean((params["scale"] * x) ** 2)


def block(names):
    """The trace of the block of the Hessian, by two derivatives of the whole loss."""
    total = 0.0
    leaves, structure = jax.tree.flatten(PARAMS)
    paths = jax.tree_util.tree_flatten_with_path(PARAMS)[0]
    for index, (path, leaf) in enumerate(paths):
        if jax.tree_util.keystr(path, simple=True, separator="/") not in names:
            continue

        def of_leaf(x, index=index):
            return loss(
                structure.unflatten([*leaves[:index], x, *leaves[index + 1 :]]), *DATA
            )

        hessian = jax.hessian(of_leaf)(leaf).reshape(leaf.size, leaf.size)
        total += float(jnp.trace(hessian))
    return total


def trace(part):
    """Exact: one product for each parameter."""
    flat, unravel = jax.flatten_util.ravel_pytree(part.params)
    hessian = jax.hessian(lambda x: part.loss_fn(unravel(x), *part.args))(flat)
    return float(jnp.trace(hessian))


def test_without_labels_each_layer_is_a_part():
    parts = flatness.by_part(loss, PARAMS, args=DATA)
    assert list(parts) == ["layers/0", "layers/1", "scale"]
    assert set(parts["layers/1"].params) == {"layers/1/kernel", "layers/1/bias"}
    for label, part in parts.items():
        assert part.loss_fn(part.params, *part.args) == loss(PARAMS, *DATA)
        np.testing.assert_allclose(trace(part), block(set(part.params)), rtol=1e-5)
        assert label == "scale" or all(n.startswith(label) for n in part.params)


@pytest.mark.parametrize(
    "labels",
    [
        lambda name: "kernel" if "kernel" in name else "other",
        {
            "layers": [{"kernel": "kernel", "bias": "other"}] * 2,
            "scale": "other",
        },
    ],
    ids=["function", "prefix"],
)
def test_parts_by_label(labels):
    parts = flatness.by_part(loss, PARAMS, labels=labels, args=DATA)
    kernels = {"layers/0/kernel", "layers/1/kernel"}
    assert set(parts["kernel"].params) == kernels
    assert set(parts["other"].params) == {
        *("layers/0/bias", "layers/1/bias", "scale"),
    }
    np.testing.assert_allclose(trace(parts["kernel"]), block(kernels), rtol=1e-5)


def test_a_predicate_makes_two_parts_and_one_label_the_whole():
    parts = flatness.by_part(
        loss, PARAMS, labels=lambda name: "bias" in name, args=DATA
    )
    assert set(parts) == {True, False} and len(parts[True].params) == 2
    whole = flatness.by_part(loss, PARAMS, labels="all", args=DATA)["all"]
    assert len(whole.params) == 5
    np.testing.assert_allclose(
        sum(trace(part) for part in parts.values()), trace(whole), rtol=1e-5
    )


def test_measures_take_a_part_and_reuse_its_program():
    part = flatness.by_part(loss, PARAMS, args=DATA)["layers/0"]
    values = flatness.hessian_eigenvalues(
        part.loss_fn, part.params, key=0, args=part.args, num_matvecs=8
    ).values
    flat, unravel = jax.flatten_util.ravel_pytree(part.params)
    hessian = jax.hessian(lambda x: part.loss_fn(unravel(x), *part.args))(flat)
    np.testing.assert_allclose(values[0], np.linalg.eigvalsh(hessian)[-1], rtol=1e-4)
    again = flatness.by_part(loss, PARAMS, args=DATA)["layers/0"]
    assert again.loss_fn == part.loss_fn and hash(again.loss_fn) == hash(part.loss_fn)


def test_losses_over_batches_have_parts_too():
    in_batches = flatness.mean_over_batches(loss, 5)
    parts = flatness.by_part(in_batches, PARAMS, args=DATA)
    part = parts["layers/1"]
    np.testing.assert_allclose(
        part.loss_fn(part.params, *part.args), loss(PARAMS, *DATA), rtol=1e-6
    )


def test_keys_with_slashes_stay_apart():
    params = {"a/b": {"w": jnp.ones(1)}, "a": {"b": {"w": jnp.ones(2)}}}

    def of_both(p):
        return jnp.sum(p["a/b"]["w"]) + jnp.sum(p["a"]["b"]["w"])

    for labels in (None, str):
        parts = flatness.by_part(of_both, params, labels=labels)
        sizes = [sum(x.size for x in part.params.values()) for part in parts.values()]
        assert sorted(sizes) == [1, 2]


def test_every_parameter_is_in_one_part_whatever_the_labels():
    parts = flatness.by_part(loss, PARAMS, labels=lambda name: float("nan"), args=DATA)
    names = [name for part in parts.values() for name in part.params]
    assert len(names) == len(set(names)) == 5


def test_modules_of_flax_and_equinox_have_their_layers():
    class Model(nnx.Module):
        def __init__(self):
            self.first = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
            self.last = nnx.Linear(3, 1, rngs=nnx.Rngs(1))

    graph, state = nnx.split(Model())

    def of_state(state):
        model = nnx.merge(graph, state)
        return jnp.sum(model.last(model.first(jnp.ones((1, 2)))) ** 2)

    with jax.numpy_rank_promotion("allow"):
        parts = flatness.by_part(of_state, state)
        assert {label: set(part.params) for label, part in parts.items()} == {
            "first": {"first/kernel", "first/bias"},
            "last": {"last/kernel", "last/bias"},
        }
        for part in parts.values():
            assert part.loss_fn(part.params, *part.args) == of_state(state)
    linear = eqx.nn.Linear(2, 3, key=jax.random.key(0))
    parts = flatness.by_part(lambda m: jnp.sum(m(jnp.ones(2))), linear)
    assert set(parts) == {"weight", "bias"}


def test_a_single_array_is_named_params():
    part = flatness.by_part(lambda x: jnp.sum(x**2), jnp.arange(3.0))
    assert list(part) == ["params"] == list(part["params"].params)
    np.testing.assert_allclose(trace(part["params"]), 6.0, rtol=1e-6)
    seen = []
    flatness.by_part(jnp.sum, jnp.ones(2), labels=lambda name: seen.append(name))
    assert seen == ["params"]


class Attention(NamedTuple):
    query: jax.Array
    value: jax.Array


def test_a_field_called_value_is_of_its_own_layer():
    params = {
        "block": {
            "attention": Attention(jnp.ones(2), jnp.ones(3)),
            "mlp": {"w": jnp.ones(4)},
        }
    }
    parts = flatness.by_part(lambda w: jnp.sum(w["block"]["mlp"]["w"] ** 2), params)
    sizes = {
        k: sum(x.size for x in jax.tree.leaves(each.params))
        for k, each in parts.items()
    }
    assert sizes == {"block/attention": 5, "block/mlp": 4}
