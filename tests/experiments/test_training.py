import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from heavytail_optax.experiments.data import draw_batch
from heavytail_optax.experiments.evaluation import evaluate, loss_per_example
from heavytail_optax.experiments.methods import OPTIMIZERS
from heavytail_optax.experiments.models import build_model
from heavytail_optax.experiments.random_streams import random_streams
from heavytail_optax.experiments.settings import METHOD_NAMES
from heavytail_optax.experiments.training import build_trainer, train

IMAGE_SHAPE = (16, 16, 1)


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


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_chunks_are_the_steps_of_a_plain_loop(tiny, tiny_dataset, method):
    tiny = dataclasses.replace(tiny, steps=5)
    keys = random_streams(tiny.seed)
    predict, params = build_model(tiny, keys.weights, IMAGE_SHAPE, 10)
    optimizer = OPTIMIZERS[method](tiny, keys.noise)
    opt_state = optimizer.init(params)

    @jax.jit
    def take_step(params, opt_state, step):
        batch = draw_batch(keys.batches, step, tiny_dataset.train, tiny.batch_size)
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
def test_going_on_from_a_state_is_bit_for_bit(tiny, tiny_dataset, method):
    whole = list(chunks_of(tiny, tiny_dataset, method))
    for index in (0, 1):
        rest = list(chunks_of(tiny, tiny_dataset, method, whole[index].state))
        assert_equal(rest[-1].state, whole[-1].state)
        assert [without_time(c.metrics) for c in rest] == [
            without_time(c.metrics) for c in whole[index + 1 :]
        ]


def test_methods_share_initial_weights_and_differ_afterwards(tiny, tiny_dataset):
    sgd, heavy = (trainer_of(tiny, method).init() for method in METHOD_NAMES)
    assert_equal(sgd.params, heavy.params)
    last = [list(chunks_of(tiny, tiny_dataset, m))[-1].metrics for m in METHOD_NAMES]
    assert last[0].train_loss != last[1].train_loss


def test_no_noise_and_no_truncation_is_sgd(tiny, tiny_dataset):
    settings = dataclasses.replace(tiny, scale=0.0, max_norm=1e6)
    sgd, heavy = (
        list(chunks_of(settings, tiny_dataset, method))[-1] for method in METHOD_NAMES
    )
    assert sgd.metrics.truncated == heavy.metrics.truncated == 0
    for field in ("train_loss", "update_norm", "largest_update_norm"):
        ours, theirs = (getattr(chunk.metrics, field) for chunk in (heavy, sgd))
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_truncated_steps_and_norms_are_reported(tiny, tiny_dataset):
    settings = dataclasses.replace(tiny, scale=1.0, cooldown=0.0, steps=4)
    chunks = list(chunks_of(settings, tiny_dataset, "truncated-heavy-tailed-sgd"))
    assert all(chunk.metrics.truncated == 1 for chunk in chunks)
    assert all(chunk.metrics.update_norm > tiny.max_norm for chunk in chunks)
    trainer = trainer_of(settings, "truncated-heavy-tailed-sgd")
    moved = jax.tree.map(
        lambda new, old: new - old, chunks[-1].state.params, trainer.init().params
    )
    assert optax.tree.norm(moved) <= 4 * tiny.max_norm * (1 + 1e-5)


def test_noise_is_off_in_the_cooldown(tiny, tiny_dataset):
    settings = dataclasses.replace(tiny, scale=100.0, cooldown=0.5, steps=4)
    noisy, quiet = chunks_of(settings, tiny_dataset, "truncated-heavy-tailed-sgd")
    assert noisy.metrics.update_norm > 100 > quiet.metrics.largest_update_norm


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
