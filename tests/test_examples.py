"""The examples of the documentation run, and train."""

import pathlib
import runpy

import jax
import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "docs" / "examples"


@pytest.fixture(autouse=True)
def settings_of_a_user():
    with jax.numpy_rank_promotion("allow"):
        yield


def run(name, steps):
    return runpy.run_path(str(EXAMPLES / name))["main"](steps)


def test_every_example_is_tested_here():
    tested = {"several_devices.py", "adam_and_muon.py", "small_transformer.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested | set(CLASSIFIERS)


CLASSIFIERS = (
    "flax_nnx.py",
    "nnx_adamw.py",
    "linen_train_state.py",
    "equinox_model.py",
    "gradient_accumulation.py",
)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_learn(name):
    # One in ten is right by chance, with a standard deviation of 0.013.
    assert run(name, 150) > 0.6


def test_other_optimisers_learn():
    accuracies = run("adam_and_muon.py", 100)
    assert len(accuracies) == 8
    assert min(accuracies.values()) > 0.6, accuracies


def test_several_devices_learn_alike():
    accuracies = run("several_devices.py", 60)
    assert set(accuracies) == {"with_jit", "with_shard_map", "with_pmap"}
    assert min(accuracies.values()) > 0.6, accuracies
    # One Z for all devices in each, and the same split where devices split for themselves.
    assert accuracies["with_shard_map"] == accuracies["with_pmap"]


def test_a_transformer_learns():
    losses = run("small_transformer.py", 40)
    assert len(losses) == 2
    for first, last in losses.values():
        assert last < first - 0.5, losses
