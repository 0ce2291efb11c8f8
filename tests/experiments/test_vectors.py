"""Wide vectors: only where the processor has them, and nothing else is changed."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heavytail_optax._wide_vectors import program_of_the_host
from heavytail_optax.experiments import programs
from heavytail_optax.experiments.data.dataset import describe_dataset
from heavytail_optax.experiments.runs.grid import Run
from heavytail_optax.experiments.runs.run import check_run
from heavytail_optax.experiments.storage import run_directory

JIT = jax.jit
NARROW = "--xla_cpu_prefer_vector_width=256"
CPU = pathlib.Path("/proc/cpuinfo")
HAS_AVX512 = CPU.exists() and "avx512f" in CPU.read_text("utf-8").split()
needs_avx512 = pytest.mark.skipif(
    not HAS_AVX512 or jax.default_backend() != "cpu",
    reason="The processor has no AVX-512.",
)


@pytest.fixture(autouse=True)
def _asked_anew():
    asked = programs.vector_options
    asked.cache_clear()
    yield
    asked.cache_clear()


def product(x, y):
    return jnp.tanh(x @ y).sum(axis=0)


def test_results_agree_up_to_the_order_of_sums():
    x = jax.random.normal(jax.random.key(0), (64, 257))
    y = jax.random.normal(jax.random.key(1), (257, 33))
    found = programs.compiled(product)(x, y)
    expected = np.tanh(np.asarray(x, float) @ np.asarray(y, float)).sum(axis=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=64 * 2e-6)


def test_options_of_jit_are_passed_on():
    x = jnp.arange(4.0)
    doubled = programs.compiled(lambda x: 2 * x, donate_argnums=0)(x)
    assert x.is_deleted() and doubled.tolist() == [0, 2, 4, 6]


def test_programs_of_the_library_that_only_the_host_calls_have_the_same(monkeypatch):
    seen = {}

    def recorded(function, **options):
        seen.update(options)
        return JIT(function, **options)

    wanted = programs.vector_options()
    times = program_of_the_host(lambda x, by: by * x, static_argnames="by")
    monkeypatch.setattr(jax, "jit", recorded)
    assert times(jnp.arange(3.0), by=2).tolist() == [0, 2, 4]
    assert seen["compiler_options"] == wanted and seen["static_argnames"] == "by"


def with_an_unknown_option(function, compiler_options):
    unknown = {"xla_cpu_no_such_option": 512} if compiler_options else {}
    return JIT(function, compiler_options=unknown)


@pytest.mark.parametrize("reason", ["no AVX-512", "unknown option", "said by the user"])
def test_nothing_is_asked_for_where_it_would_not_do(monkeypatch, reason):
    flags = "flags : fpu " + ("avx512f " if reason != "no AVX-512" else "") + "avx2\n"
    monkeypatch.setattr(pathlib.Path, "read_text", lambda *_, **__: flags)
    if reason == "unknown option":
        monkeypatch.setattr(jax, "jit", with_an_unknown_option)
    if reason == "said by the user":
        monkeypatch.setenv("XLA_FLAGS", NARROW)
    assert programs.vector_options() == {}
    assert programs.device_name() == jax.devices()[0].device_kind
    assert programs.compiled(lambda x: x + 1)(1) == 2


@needs_avx512
def test_512_bits_are_asked_for_and_recorded_where_they_are(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert programs.vector_options() == {"xla_cpu_prefer_vector_width": 512}
    kind = jax.devices()[0].device_kind
    assert programs.device_name() == f"{kind}, 512-bit vectors"


@needs_avx512
@pytest.mark.parametrize("is_other", [True, False])
def test_a_run_that_goes_on_with_another_width_says_so(
    tiny, tiny_dataset, tmp_path, monkeypatch, is_other
):
    monkeypatch.setenv("XLA_FLAGS", NARROW if is_other else "")
    then = programs.device_name()
    monkeypatch.delenv("XLA_FLAGS")
    programs.vector_options.cache_clear()
    now = programs.device_name()
    run, notes = Run("sgd", tmp_path, tiny), []
    run_directory.write_config(
        run.paths.config,
        tiny,
        preset="corrupted-digits",
        sources={},
        data=describe_dataset(tiny_dataset),
        command="",
        device=then,
    )
    check_run(run, tiny_dataset, notes.append)
    assert len(notes) == is_other
    if is_other:
        assert f"device {then} -> {now}" in notes[0] and "last digits" in notes[0]
