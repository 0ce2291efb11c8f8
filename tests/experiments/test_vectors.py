"""Wide vectors: only where the processor has them, and nothing else is changed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax.experiments.devices import vectors


@pytest.fixture(autouse=True)
def _asked_anew():
    asked = vectors.vector_options
    asked.cache_clear()
    yield
    asked.cache_clear()


def product(x, y):
    return jnp.tanh(x @ y).sum(axis=0)


def test_results_agree_up_to_the_order_of_sums():
    x = jax.random.normal(jax.random.key(0), (64, 257))
    y = jax.random.normal(jax.random.key(1), (257, 33))
    found = vectors.compiled(product)(x, y)
    expected = np.tanh(np.asarray(x, float) @ np.asarray(y, float)).sum(axis=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=64 * 2e-6)


def test_options_of_jit_are_passed_on():
    x = jnp.arange(4.0)
    doubled = vectors.compiled(lambda x: 2 * x, donate_argnums=0)(x)
    assert x.is_deleted() and doubled.tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize("reason", ["no AVX-512", "unknown option", "said by the user"])
def test_nothing_is_asked_for_where_it_would_not_do(monkeypatch, reason):
    monkeypatch.setattr(vectors, "_has_avx512", lambda: reason != "no AVX-512")
    if reason == "unknown option":
        monkeypatch.setattr(vectors, "_OPTION", "xla_cpu_no_such_option")
    if reason == "said by the user":
        monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=256")
    assert vectors.vector_options() == {}
    assert vectors.device_name() == jax.devices()[0].device_kind
    assert vectors.compiled(lambda x: x + 1)(1) == 2


def test_the_width_is_part_of_what_a_run_records(monkeypatch):
    monkeypatch.setattr(
        vectors, "vector_options", lambda: {"xla_cpu_prefer_vector_width": 512}
    )
    kind = jax.devices()[0].device_kind
    assert vectors.device_name() == f"{kind}, 512-bit vectors"
