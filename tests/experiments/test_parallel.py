"""A run on eight devices is the run on one, and really is shared out."""

import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.measures.flatness import MEASURES
from heavytail_optax.experiments.measures.measure import MeasureOptions
from heavytail_optax.experiments.methods import METHOD_NAMES
from heavytail_optax.experiments.models.networks import build_network
from heavytail_optax.experiments.parallel import (
    data_mesh,
    replicate,
    shard_over_devices,
)
from heavytail_optax.experiments.runs.grid import Run
from heavytail_optax.experiments.runs.measuring import trained_network
from heavytail_optax.experiments.runs.options import Machine
from heavytail_optax.experiments.runs.run import train_run
from heavytail_optax.experiments.storage.metrics_log import read_metrics
from heavytail_optax.experiments.terminal import Progress
from heavytail_optax.experiments.training.batches import random_streams
from heavytail_optax.experiments.training.trainer import build_trainer

METHOD = "independent"
MESH = data_mesh("all")
SHAPE = (16, 16, 1)
# Equal but for the order of sums: a few roundings of numbers of about one, over six
# steps, none of which the truncation lets go far.
CLOSE = {"rtol": 1e-5, "atol": 2e-6}


@pytest.fixture(scope="module")
def settings(tiny):
    """No batch is a multiple of eight, and the large one is passed in parts."""
    return replaced(
        tiny,
        batch_size=13,
        large_batch_size=97,
        augmentation="crop-flip",
        cooldown=0.2,
        sharpness_samples=2,
    )


def assert_close(ours, theirs):
    def check(x, y):
        np.testing.assert_allclose(x, y, **CLOSE)

    jax.tree.map(check, jax.device_get(ours), jax.device_get(theirs))


def steps_of(mesh, settings, dataset, method):
    """The compiled steps, the arguments for them, and the trainer."""
    trainer = build_trainer(replaced(settings, method=method), SHAPE, 10, mesh)
    keys, train = replicate(mesh, (random_streams(0), dataset.train))
    arguments = (trainer.init(keys), keys, train, np.int32(settings.training.steps))
    return trainer.take_steps.lower(*arguments).compile(), arguments, trainer


@pytest.mark.parametrize(
    "method",
    [
        name if name == METHOD else pytest.param(name, marks=pytest.mark.slow)
        for name in METHOD_NAMES
    ],
)
def test_eight_devices_take_the_steps_of_one(settings, tiny_dataset, method):
    take_steps, arguments, trainer = steps_of(MESH, settings, tiny_dataset, method)
    ours = take_steps(*arguments)
    leaves = jax.tree.leaves(ours)
    assert all(leaf.sharding.is_fully_replicated for leaf in leaves)
    assert all(len(leaf.sharding.device_set) == 8 for leaf in leaves)
    take_steps, arguments, trainer = steps_of(None, settings, tiny_dataset, method)
    theirs = take_steps(*arguments)
    assert_close(ours, theirs)
    # Another seed's run is farther away than the tolerance.
    others = trainer.init(random_streams(1)).params
    with pytest.raises(AssertionError):
        assert_close(ours.params, others)


def collectives(program):
    """Name and type of all that is sent between devices in a compiled program."""
    name = r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    found = re.findall(rf"= (.*?) ({name})(?:-start)?\(", program)
    return [(kind, re.sub(r"\{[\d,]*\}|/\*.*?\*/", "", type_)) for type_, kind in found]


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        pytest.param("sgd", [2], marks=pytest.mark.slow),
        # In the cool-down the small batch of 13, else all 123 images in two parts, as
        # 13 for each device at a time are the aim: 62, or 8 for each.
        (METHOD, [2, 8]),
    ],
)
def test_each_device_computes_its_part(settings, tiny_dataset, method, parts):
    compiled, arguments, _ = steps_of(MESH, settings, tiny_dataset, method)
    program = compiled.as_text()
    # Of the images only their losses are sent, and one gradient for each of the parts.
    found = collectives(program)
    sent = [type_ for kind, type_ in found if kind == "all-gather"]
    assert sorted(sent) == sorted(f"f32[{8 * part}]" for part in parts)
    reduced = [type_ for kind, type_ in found if kind == "all-reduce"]
    assert len(reduced) == len(parts) and len(found) == 2 * len(parts)
    for type_ in reduced:
        shapes = re.findall(r"f32\[([\d,]*)\]", type_)
        sizes = [np.prod([int(n) for n in shape.split(",")]) for shape in shapes]
        assert sum(sizes) == sum(
            leaf.size for leaf in jax.tree.leaves(arguments[0].params)
        )
    # Images times hidden units: those of a device's own images.
    hidden = {int(n) for n in re.findall(r"= f32\[(\d+),50\]\S* dot\(", program)}
    weights = {10, 50, arguments[0].params["dense1"]["kernel"].shape[0]}
    assert hidden - weights == set(parts) - weights


def test_the_check_sees_images_that_are_sent(tiny_dataset):
    """Control: a constraint on the batch, in place of `shard_over_devices`."""
    by_image = jax.sharding.NamedSharding(MESH, jax.P("data"))
    on_each = jax.sharding.NamedSharding(MESH, jax.P())

    def gather(images):
        own = jax.lax.with_sharding_constraint(images[::-1], by_image)
        return jax.lax.with_sharding_constraint(own, on_each)

    images = replicate(MESH, tiny_dataset.train.images[:16])
    program = jax.jit(gather).lower(images).compile().as_text()
    assert ("all-gather", "u8[16,16,16,1]") in collectives(program)


@pytest.mark.parametrize("number", [1, 8, 13])
def test_spread_is_the_function_with_its_gradient(number):
    def function(whole, batch):
        inputs, keys = batch
        noise = jax.vmap(jax.random.normal)(keys)
        return jnp.exp(inputs @ whole["w"]) + noise * whole["scale"]

    whole = {"w": jnp.arange(3.0) / 3, "scale": jnp.float32(0.5)}
    inputs = jax.random.normal(jax.random.key(0), (number, 3))
    batch = inputs, jax.random.split(jax.random.key(1), number)
    weights = jnp.linspace(-1.0, 2.0, number)

    def results(mesh):
        on_all = shard_over_devices(mesh, function)

        def total(whole):
            values = on_all(whole, batch)
            return (weights * values).sum(), values

        return jax.jit(jax.grad(total, has_aux=True))(whole)

    assert_close(results(MESH), results(None))


def test_without_a_mesh_nothing_is_changed():
    tree = {"w": np.ones(3)}
    assert replicate(None, tree) is tree
    assert shard_over_devices(None, collectives) is collectives


def run(directory, settings, dataset, devices, stops=False):
    """Runs from where it is, to the first evaluation if it stops."""
    run = Run(METHOD, directory, replaced(settings, method=METHOD))
    progress = Progress(Console(quiet=True))
    if stops:
        progress.stop.is_set = run.paths.metrics.exists
    state = train_run(run, dataset, progress, Machine(devices=devices))
    return read_metrics(run.paths.metrics), state


def test_a_run_goes_on_with_another_number_of_devices(settings, tiny_dataset, tmp_path):
    whole, _ = run(tmp_path / "whole", settings, tiny_dataset, 1)
    first, state = run(tmp_path / "first", settings, tiny_dataset, "all", stops=True)
    assert state is None
    assert [row.step for row in first] == [2]
    for name, devices in (("on one", 1), ("on eight", "all")):
        shutil.copytree(tmp_path / "first", tmp_path / name)
        rest, state = run(tmp_path / name, settings, tiny_dataset, devices)
        assert int(state.step) == settings.training.steps
        for ours, theirs in zip(rest, whole, strict=True):
            assert_close(ours._replace(seconds=0.0), theirs._replace(seconds=0.0))


@pytest.mark.slow
def test_sharpness_is_the_same_on_eight_devices(settings, tiny_dataset):
    _, init = build_network(settings.model, SHAPE, 10, settings.data.pixel_range)
    params, train = init(jax.random.key(0)), tiny_dataset.train
    arguments = MEASURES["expected"].arguments(settings, MeasureOptions())

    def measure(params, mesh=None):
        network = trained_network(settings, params, train, 10, mesh)
        found = MEASURES["expected"].compute(network, arguments, lambda *_: False)
        return found.scalars["expected_sharpness"]

    ours, theirs = measure(replicate(MESH, params), MESH), measure(params)
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert theirs[0] > 0


@pytest.mark.parametrize("devices", [0, -1, 9])
def test_a_number_of_devices_that_are_not_there_is_refused(devices):
    with pytest.raises(JobError, match=f"`devices`.*from 1 to 8.*Got {devices} "):
        data_mesh(devices)


def test_devices_asked_for():
    assert data_mesh(1) is None
    assert data_mesh(3).devices.tolist() == jax.devices()[:3]
    assert data_mesh("all").devices.tolist() == jax.devices()
