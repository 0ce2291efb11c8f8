import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from heavytail_optax.experiments.batches import draw_places
from heavytail_optax.experiments.data import Split
from heavytail_optax.experiments.evaluation import evaluate, loss_per_example
from heavytail_optax.experiments.methods import METHOD_NAMES, METHODS
from heavytail_optax.experiments.models import build_model
from heavytail_optax.experiments.optimizers import build_optimizer
from heavytail_optax.experiments.random_streams import random_streams
from heavytail_optax.experiments.training import build_trainer, train

IMAGE_SHAPE = (16, 16, 1)
HEAVY = "truncated-heavy-tailed-sgd"


@functools.cache
def trainer_of(settings, method):
    return build_trainer(settings, method, IMAGE_SHAPE, 10)


def chunks_of(settings, dataset, method, state=None):
    trainer = trainer_of(settings, method)
    state = trainer.init() if state is None else state
    for chunk in train(settings, dataset, trainer, state):
        # The next chunk takes over the memory of the state.
        yield chunk._replace(state=jax.tree.map(jnp.copy, chunk.state))


def without_time(metrics):
    return metrics._replace(seconds=0.0)


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("method", [HEAVY])
def test_chunks_are_the_steps_of_a_plain_loop(tiny, tiny_dataset, method):
    tiny = dataclasses.replace(tiny, steps=5)
    keys = random_streams(tiny.seed)
    predict, params = build_model(tiny, keys.weights, IMAGE_SHAPE, 10)
    optimizer = build_optimizer(METHODS[method], tiny, keys.noise)
    opt_state = optimizer.init(params)

    split = tiny_dataset.train

    @jax.jit
    def take_step(params, opt_state, step):
        places = draw_places(keys.batches, step, split.labels.size, tiny.batch_size)
        batch = Split(split.images[places], split.labels[places])
        loss, grads = jax.value_and_grad(
            lambda params: loss_per_example(predict, params, batch).mean()
        )(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return loss, optax.apply_updates(params, updates), opt_state

    losses = []
    for step in range(tiny.steps):
        loss, params, opt_state = take_step(params, opt_state, step)
        losses.append(float(loss))

    chunks = list(chunks_of(tiny, tiny_dataset, method))
    assert [chunk.metrics.step for chunk in chunks] == [2, 4, 5]
    means = [np.mean(losses[start : start + 2]) for start in (0, 2, 4)]
    found = [chunk.metrics.batch_loss for chunk in chunks]
    np.testing.assert_allclose(found, means, rtol=1e-4)
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-5),
        chunks[-1].state.params,
        params,
    )


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_method_takes_its_steps(tiny, tiny_dataset, method):
    *_, last = chunks_of(tiny, tiny_dataset, method)
    assert last.metrics.step == tiny.steps
    assert last.non_finite is None
    assert (last.metrics.update_norm > 0) and math.isfinite(last.metrics.batch_loss)


@pytest.mark.parametrize("method", [HEAVY, "independent", "balanced"])
def test_going_on_from_a_state_is_bit_for_bit(tiny, tiny_dataset, method):
    whole = list(chunks_of(tiny, tiny_dataset, method))
    for index in (0, 1):
        rest = list(chunks_of(tiny, tiny_dataset, method, whole[index].state))
        assert_equal(rest[-1].state, whole[-1].state)
        assert [without_time(c.metrics) for c in rest] == [
            without_time(c.metrics) for c in whole[index + 1 :]
        ]


def test_methods_share_initial_weights_and_differ_afterwards(tiny, tiny_dataset):
    trainers = [trainer_of(tiny, method) for method in METHOD_NAMES]
    for trainer in trainers[1:]:
        assert_equal(trainer.init().params, trainers[0].init().params)
    losses = {
        list(chunks_of(tiny, tiny_dataset, method))[-1].metrics.train_loss
        for method in METHOD_NAMES
    }
    assert len(losses) == len(METHOD_NAMES)


def test_truncated_steps_and_norms_are_reported(tiny, tiny_dataset):
    settings = dataclasses.replace(tiny, noise_scale=1.0, cooldown=0.0, steps=4)
    chunks = list(chunks_of(settings, tiny_dataset, HEAVY))
    assert all(chunk.metrics.truncated == 1 for chunk in chunks)
    assert all(chunk.metrics.update_norm > tiny.max_norm for chunk in chunks)
    trainer = trainer_of(settings, HEAVY)
    moved = jax.tree.map(
        lambda new, old: new - old, chunks[-1].state.params, trainer.init().params
    )
    assert optax.tree.norm(moved) <= 4 * tiny.max_norm * (1 + 1e-5)


def test_a_loss_that_is_not_finite_ends_the_run(tiny, tiny_dataset):
    settings = dataclasses.replace(tiny, learning_rate=1e30)
    chunks = list(chunks_of(settings, tiny_dataset, "sgd"))
    assert [chunk.metrics.step for chunk in chunks] == [2]
    step, value = chunks[0].non_finite
    assert step == 2
    assert not math.isfinite(value)


def test_evaluation_is_the_mean_over_all_images(tiny, tiny_dataset):
    predict, params = build_model(tiny, jax.random.key(0), IMAGE_SHAPE, 10)
    test = tiny_dataset.test
    assert test.labels.size % 256 != 0
    scores = evaluate(predict, params, test)
    logits = predict(params, test.images)
    accuracy = (logits.argmax(-1) == test.labels).mean()
    assert float(scores.accuracy) == pytest.approx(float(accuracy))
    expected = loss_per_example(predict, params, test).mean()
    assert float(scores.loss) == pytest.approx(float(expected), rel=1e-5)


def test_learns_the_digits(tiny, tiny_dataset):
    settings = dataclasses.replace(
        tiny, steps=150, eval_every=150, corrupted_examples=0, clean_examples=100
    )
    (chunk,) = chunks_of(settings, tiny_dataset, "sgd")
    assert chunk.metrics.train_accuracy > 0.4  # by chance: 0.1
