"""What every test and every example of the documentation runs under.

`pytest` reads this file before it collects anything, whatever part of the project the
test comes from, so that the settings below also hold for the doctests of the package,
of the pages under `docs/` and of the README.
"""

import functools
import gc
import os
import pathlib
from typing import ClassVar

# XLA reads its flags once, when the first device is asked for: set them before jax is
# imported. What the user has set comes last, hence wins.
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_force_host_platform_device_count=8",
        os.environ.get("XLA_FLAGS", ""),
    ]
).strip()

import hypothesis
import jax
import jax.numpy as jnp
import optax
import pytest

import heavytail_optax as hto

# An array of another rank is a mistake far more often than a wish: say `x[None]`.
jax.config.update("jax_numpy_rank_promotion", "raise")

# The same examples on every run and machine. Compiling takes seconds, so no deadline.
hypothesis.settings.register_profile(
    "derandomised",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("derandomised")


class ExampleNames:
    """Plugin with the names that every example may use without importing them."""

    @pytest.fixture(autouse=True, scope="session")
    @classmethod
    def add_example_names(cls, doctest_namespace):
        doctest_namespace.update(jax=jax, jnp=jnp, optax=optax, hto=hto)


class FewPrograms:
    """Plugin that forgets compiled programs before there are too many.

    JAX keeps them, and each holds some memory maps, of which Linux lets a process have
    65,530 by default. The next one ends it with a signal, in whatever test compiles then.
    Without this plugin one process would hold 180,000 after 86 % of the tests (measured on
    1 December 2026), and two processes half as many each.
    Looked at after every 20th test, which leaves each 1,700. A test may count what is
    compiled within it, but not what was before.
    """

    MAPS = pathlib.Path("/proc/self/maps")
    MOST = 30_000
    TESTS_BETWEEN = 20

    def __init__(self):
        self.tests_done = 0

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self):
        self.tests_done += 1
        if self.tests_done % self.TESTS_BETWEEN or not self.MAPS.exists():
            return
        if self.MAPS.read_bytes().count(b"\n") > self.MOST:
            jax.clear_caches()
            gc.collect()


class QuickPrograms:
    """Plugin under which XLA optimises the code of few programs.

    Most of the time of the tests is LLVM's. How a program is spread over devices, what
    it refuses, and what it returns up to a tolerance do not depend on how well its loops
    run. The last digits of tails, norms and random bits may: their programs are compiled
    as users have them, after all others. So are those of `experiments`, which are compared
    bit for bit with what other processes computed. `-p no:quick_programs` compiles all so.

    JAX has no default for the options of `jax.jit`: they enter where JAX makes them.
    Where that is no longer there, or XLA has no such options, all is compiled as ever.
    """

    OPTIONS: ClassVar = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
        "xla_cpu_use_fusion_emitters": False,
    }
    ROOT = pathlib.Path(__file__).resolve().parent.parent
    PLACES = (
        "README.md",
        "docs",
        "heavytail_optax",
        "tests/dynamics",
        "tests/flatness",
        "tests/laboratory",
        "tests/tail_index/test_centring.py",
        "tests/tail_index/test_not_finite.py",
        "tests/tail_index/test_proposed_settings.py",
        "tests/tail_index/test_sharded_draws.py",
        "tests/tail_index/test_ties.py",
        "tests/tail_index/test_tracking.py",
        "tests/tail_index/test_verdict.py",
        "tests/tails/test_tail_protocol.py",
        "tests/test_composition.py",
        "tests/test_contract.py",
        "tests/test_error_messages.py",
        "tests/test_examples.py",
        "tests/test_group_inflation.py",
        "tests/test_inflate_gradient_noise.py",
        "tests/test_inflated_grad.py",
        "tests/test_inflation_weights.py",
        "tests/test_multiple_devices.py",
        "tests/test_noise_traces.py",
        "tests/test_public_names.py",
        "tests/test_schedules.py",
        "tests/test_serialisation.py",
    )
    # Computes longer than it compiles, as the other tests of `tail_index` do.
    EXCEPT = ("tests/dynamics/test_rare_events.py",)

    def __init__(self):
        self.is_quick = False

    def options(self, *args, env_options_overrides=None, **kwargs):
        """The function of JAX, told of more options for quick tests."""
        own = self.OPTIONS if self.is_quick else {}
        given = {**own, **(env_options_overrides or {})}
        return self.make_options(*args, env_options_overrides=given, **kwargs)

    @functools.cached_property
    def is_possible(self):
        if jax.default_backend() != "cpu":
            return False
        try:
            jax.jit(jnp.sin).lower(1.0).compile(compiler_options=self.OPTIONS)
            from jax._src import compiler

            self.make_options = compiler.get_compile_options
        except (AttributeError, ImportError, jax.errors.JaxRuntimeError):
            return False
        compiler.get_compile_options = self.options
        return True

    def wants_quick(self, item):
        def is_in(names):
            return any(item.path.is_relative_to(self.ROOT / name) for name in names)

        return is_in(self.PLACES) and not is_in(self.EXCEPT)

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: not self.wants_quick(item))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        wanted = self.wants_quick(item) and self.is_possible
        if self.is_quick and not wanted:
            jax.clear_caches()
        self.is_quick = wanted


def pytest_configure(config):
    # What is defined in this file reaches the tests below this folder only.
    config.pluginmanager.register(ExampleNames(), "example_names")
    config.pluginmanager.register(FewPrograms(), "few_programs")
    config.pluginmanager.register(QuickPrograms(), "quick_programs")


def pytest_collection_modifyitems(config, items):
    """Leaves out the tests marked `slow`, unless `-m` speaks of them."""
    if "slow" in config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
