"""Every public result is shown in a few lines, whatever is in it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heavytail_optax as hto

NOT_RESULTS = {"Landscape", "OptaxProcess", "Process", "SgdProcess"}
RESULTS = {
    name: getattr(module, name)
    for module in (hto.flatness, hto.tail_index, hto.dynamics)
    for name in module.__all__
    if isinstance(getattr(module, name), type) and name not in NOT_RESULTS
}
MOST_LINES = 10


def fields(result_type):
    if dataclasses.is_dataclass(result_type):
        return [field.name for field in dataclasses.fields(result_type)]
    return list(result_type._fields)


def filled(result_type, value):
    return result_type(*[value] * len(fields(result_type)))


VALUES = {
    "array": np.linspace(0.0, 1.0, 500).reshape(5, 100),
    "sharded or not": jnp.zeros((100, 10), jnp.bfloat16),
    "numbers": jnp.arange(3.0),
    "number": 0.1 + 0.2,
    "none": None,
    "key": jax.random.key(0),
    "tree": {"w": np.zeros(500), "b": [np.zeros(500)] * 30},
    "text": "word " * 500,
    "function": jnp.sum,
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_a_few_lines_that_name_each_field(name, value):
    shown = repr(filled(RESULTS[name], value))
    assert shown.startswith(f"{name}(") and shown.endswith(")")
    assert all(f"{field}=" in shown for field in fields(RESULTS[name]))
    lines = shown.splitlines()
    assert len(lines) <= MOST_LINES and max(map(len, lines)) <= 88


@pytest.mark.parametrize("name", RESULTS)
def test_a_traced_result_is_shown_too(name):
    seen = []

    def show(x):
        seen.append(repr(filled(RESULTS[name], x)))
        return x

    jax.eval_shape(show, jnp.zeros(3))
    jax.vmap(show)(jnp.zeros((2, 3)))
    for shown in seen:
        assert shown.count("Traced<float32[3]>") == len(fields(RESULTS[name]))


def test_numbers_arrays_and_trees_are_told_apart():
    pair = hto.flatness.HessianTrace
    assert repr(pair(jnp.float32(0.5), 2)) == "HessianTrace(mean=0.5, standard_error=2)"
    few, many = np.array([[1.0, jnp.nan]]), np.zeros((2, 4), np.int32)
    shown = repr(pair(few, many))
    assert shown == "HessianTrace(mean=[[1, nan]], standard_error=int32[2,4])"
    shown = repr(pair({"w": many, "b": few}, pair(True, None)))
    inner = "HessianTrace(mean=True, standard_error=None)"
    assert shown.split() == (
        f"HessianTrace(mean=<dict of 2 leaves>, standard_error={inner})".split()
    )


def test_a_result_of_a_large_model_is_short():
    def loss(params):
        return sum(jnp.sum((i + 1.0) * x**2) for i, x in enumerate(params.values()))

    params = {f"layer {i}": jnp.ones(50) for i in range(20)}
    found = hto.flatness.hessian_eigenvalues(loss, params, key=0, num_eigenvalues=4)
    assert "vectors=<dict of 20 leaves>" in repr(found)
    parts = hto.flatness.by_part(loss, params)
    assert len(repr(parts["layer 0"])) < 150
    assert len(repr(parts["layer 0"].loss_fn)) < 150
