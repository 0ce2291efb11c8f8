import math

import jax
import numpy as np
import pytest

from heavytail_optax.experiments.data.dataset import Split
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.measures.flatness import MEASURES
from heavytail_optax.experiments.measures.flatness.sharpness import SampleBlock, pool
from heavytail_optax.experiments.measures.measure import MeasureOptions, read_record
from heavytail_optax.experiments.models.networks import build_network
from heavytail_optax.experiments.runs.grid import Run
from heavytail_optax.experiments.runs.measuring import (
    measure_run,
    measured_otherwise,
    trained_network,
)
from heavytail_optax.experiments.runs.result import read_result
from heavytail_optax.experiments.runs.run import cached_loader, carry_out
from heavytail_optax.experiments.training.batches import random_streams
from heavytail_optax.experiments.training.evaluation import evaluate


@pytest.fixture(scope="module")
def settings(tiny):
    return replaced(tiny, method="sgd", sharpness_samples=20)


@pytest.fixture(scope="module")
def network(settings, tiny_dataset):
    shape = tiny_dataset.train.images.shape[1:]
    predict, init = build_network(settings.model, shape, 10, settings.data.pixel_range)
    return predict, jax.jit(init)(random_streams(0).weights)


def measure_expected(settings, params, train, tick=lambda done, total: False):
    network = trained_network(settings, params, train, 10)
    arguments = MEASURES["expected"].arguments(settings, MeasureOptions())
    found = MEASURES["expected"].compute(network, arguments, tick)
    return None if found is None else found.scalars["expected_sharpness"]


def test_blocks_are_pooled_to_the_mean_of_all_samples():
    values = np.random.default_rng(0).pareto(3.0, 47)
    blocks = [
        SampleBlock(len(part), part.mean(), np.std(part, ddof=1) / len(part) ** 0.5)
        for part in np.split(values, [10, 20, 33])
    ]
    mean, error = pool(blocks)
    np.testing.assert_allclose(mean, values.mean(), rtol=1e-12)
    np.testing.assert_allclose(error, np.std(values, ddof=1) / 47**0.5, rtol=1e-12)


def test_it_is_the_mean_change_of_the_training_loss(settings, tiny_dataset, network):
    # Two estimates with independent noise: more than five standard errors of their
    # difference apart once in 1.7 million keys.
    predict, params = network
    loss = jax.jit(lambda params: evaluate(predict, params, tiny_dataset.train).loss)
    rng = np.random.default_rng(1)
    start = float(loss(params))

    def reference(stddev):
        changes = []
        for _ in range(200):
            moved = jax.tree.map(
                lambda x: np.float32(x + rng.normal(0.0, stddev, x.shape)), params
            )
            changes.append(abs(float(loss(moved)) - start))
        return np.mean(changes), np.std(changes, ddof=1) / 200**0.5

    def measured(**values):
        asked = replaced(settings, sharpness_samples=100, **values)
        return measure_expected(asked, params, tiny_dataset.train)

    def is_far(one, other):
        return abs(one[0] - other[0]) > 5 * math.hypot(one[1], other[1])

    assert not is_far(measured(), reference(0.01))
    assert is_far(measured(), reference(0.02))
    # Another seed, other noise; the same one, the same.
    assert measured(seed=1) != measured() == measured()


def test_it_shows_that_it_is_at_work_and_can_be_stopped(
    settings, tiny_dataset, network
):
    _, params = network
    seen = []

    def tick(done, total):
        seen.append((done, total))
        return len(seen) == 4

    train = tiny_dataset.train
    assert measure_expected(settings, params, train, tick) is not None
    assert seen == [(0, 20), (10, 20)]
    assert measure_expected(settings, params, train, tick) is None
    assert seen == [(0, 20), (10, 20)] * 2


def test_a_loss_that_is_not_finite_has_no_sharpness(settings, tiny_dataset, network):
    _, params = network
    params = jax.tree.map(lambda x: x * np.float32(np.nan), params)
    assert math.isnan(measure_expected(settings, params, tiny_dataset.train)[0])


def test_it_is_measured_on_as_many_images_as_asked_for(
    settings, tiny_dataset, network, tmp_path
):
    _, params = network
    train, names = tiny_dataset.train, ("expected",)
    settings = replaced(settings, measured_images=20)
    run = Run("sgd", tmp_path, settings, names)
    whole = trained_network(settings, params, train, 10)
    assert measure_run(run, whole, MeasureOptions(), names, Recorder())
    record = read_record(run.paths.measurements)
    assert record["expected"].arguments["images"] == 20
    every_fifth = Split(train.images[::5], train.labels[::5])
    found = record["expected"].outcome.scalars["expected_sharpness"]
    assert found == measure_expected(settings, params, every_fifth)
    assert found != measure_expected(settings, params, train)
    # What is there is only said to differ if it does.
    assert not measured_otherwise(settings, record, MeasureOptions(), names)
    (line,) = measured_otherwise(settings, record, MeasureOptions(images=10), names)
    assert "images 20" in line and "images 10" in line
    (line,) = measured_otherwise(settings, record, MeasureOptions(images=1000), names)
    assert "images 20" in line


class Recorder:
    """What a run reports; stops it, if asked to, once it is being measured."""

    def __init__(self, stops=False):
        self.steps, self.parts, self.stops = [], [], stops
        self.stop = self

    def is_set(self):
        return self.stops and bool(self.parts)

    def start(self, label, steps, step):
        pass

    def advance(self, label, chunk, metrics):
        self.steps.append(chunk.step)

    def measuring(self, label, measure, done, total):
        if self.is_set():
            return True
        self.parts.append((label, measure, done, total))
        return False

    def note(self, text):
        raise AssertionError(text)


def test_a_run_that_was_stopped_while_measured_is_measured_again(settings, tmp_path):
    run = Run("sgd", tmp_path / "run", settings, ("expected",))
    first, second, third = Recorder(stops=True), Recorder(), Recorder()

    def go(recorder):
        load = cached_loader(None)
        return carry_out(run, "corrupted-digits-short", "", recorder, load)

    result = go(first)
    assert result.status == "finished" and not result.is_done
    assert first.steps[-1] == settings.training.steps
    # The first part is done to its end; the next one is not announced.
    assert [done for *_, done, _ in first.parts] == [0]
    assert not read_result(run).is_done
    assert go(second).is_done
    assert second.steps == []
    parts = [(0, 20), (10, 20), (1, 1)]
    assert second.parts == [("sgd (SB), seed 0", "expected", *part) for part in parts]
    before = read_result(run)
    assert before.is_done
    assert go(third) == before
    assert third.parts == [] and read_result(run) == before
