import functools
import inspect
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_data_sets import load_dataset

from heavytail_optax.experiments.data.dataset import Split
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.methods import METHOD_NAMES
from heavytail_optax.experiments.models.networks import build_network
from heavytail_optax.experiments.training.batches import draw_places, random_streams
from heavytail_optax.experiments.training.evaluation import evaluate, loss_per_example
from heavytail_optax.experiments.training.steps import build_optimizer
from heavytail_optax.experiments.training.trainer import build_trainer, train

IMAGE_SHAPE = (16, 16, 1)
HEAVY = "truncated-heavy-tailed-sgd"


@functools.cache
def trainer_of(settings, method):
    return build_trainer(replaced(settings, method=method), IMAGE_SHAPE, 10)


def chunks_of(settings, dataset, method, state=None):
    """All chunks, those without an evaluation too."""
    trainer = trainer_of(settings, method)
    keys = random_streams(settings.seed)
    state = trainer.init(keys) if state is None else jax.tree.map(jnp.copy, state)
    for chunk in train(settings, dataset, trainer, state, keys):
        # The next chunk takes over the memory of the state.
        yield chunk._replace(state=jax.tree.map(jnp.copy, chunk.state))


def evaluations_of(settings, dataset, method, state=None):
    """The chunks with an evaluation."""
    return [
        chunk
        for chunk in chunks_of(settings, dataset, method, state)
        if chunk.metrics is not None
    ]


def without_time(metrics):
    return metrics._replace(seconds=0.0)


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("method", [HEAVY])
def test_chunks_are_the_steps_of_a_plain_loop(tiny, tiny_dataset, method):
    tiny = replaced(tiny, steps=5)
    keys = random_streams(tiny.seed)
    predict, init_params = build_network(
        tiny.model, IMAGE_SHAPE, 10, tiny.data.pixel_range
    )
    params = init_params(keys.weights)
    optimizer = build_optimizer(
        tiny.training, replaced(tiny, method=method).method, keys.noise
    )
    opt_state = optimizer.init(params)

    split = tiny_dataset.train

    @jax.jit
    def take_step(params, opt_state, step):
        places = draw_places(
            keys.batches, step, split.labels.size, tiny.training.batch_size
        )
        batch = Split(split.images[places], split.labels[places])
        loss, grads = jax.value_and_grad(
            lambda params: loss_per_example(predict, params, batch).mean()
        )(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return loss, optax.apply_updates(params, updates), opt_state

    losses = []
    for step in range(tiny.training.steps):
        loss, params, opt_state = take_step(params, opt_state, step)
        losses.append(float(loss))

    chunks = evaluations_of(tiny, tiny_dataset, method)
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
    *_, last = evaluations_of(tiny, tiny_dataset, method)
    assert last.metrics.step == tiny.training.steps
    assert last.bad_loss is None
    assert (last.metrics.update_norm > 0) and math.isfinite(last.metrics.batch_loss)


@pytest.mark.parametrize("method", [HEAVY, "independent", "balanced"])
def test_going_on_from_any_state_is_bit_for_bit(tiny, tiny_dataset, method):
    whole = list(chunks_of(tiny, tiny_dataset, method))
    lines = [without_time(c.metrics) for c in whole if c.metrics]
    # Also from between two evaluations, of which the state holds half.
    assert any(chunk.metrics is None for chunk in whole)
    for chunk in whole[:-1]:
        rest = list(chunks_of(tiny, tiny_dataset, method, chunk.state))
        assert_equal(rest[-1].state, whole[-1].state)
        ours = [without_time(c.metrics) for c in rest if c.metrics]
        assert ours == lines[-len(ours) :]
        assert len(ours) == sum(line.step > chunk.step for line in lines)


def test_it_does_not_matter_how_steps_are_cut_into_chunks(tiny, tiny_dataset):
    trainer, keys = trainer_of(tiny, "balanced"), random_streams(tiny.seed)
    train_split = tiny_dataset.train
    state = trainer.init(keys)
    for number in (1, 0, 3, 2):
        state = trainer.take_steps(state, keys, train_split, np.int32(number))
    at_once = trainer.take_steps(trainer.init(keys), keys, train_split, np.int32(6))
    assert_equal(state, at_once)


def test_seeds_at_once_by_vmap_are_the_single_runs(tiny, tiny_dataset):
    trainer, train_split = trainer_of(tiny, "sgd-truncated"), tiny_dataset.train
    keys = [random_streams(seed) for seed in (3, 4)]

    def end_of(keys, take_steps=trainer.take_steps):
        state = trainer.init(keys)
        return take_steps(state, keys, train_split, np.int32(3)).params

    # Its own options of the compiler are for a program that no other one calls.
    end_within = functools.partial(
        end_of, take_steps=inspect.unwrap(trainer.take_steps)
    )

    # Compiled as one: else the steps cannot take the place of leaves without an axis of
    # seeds, such as biases of zero, though told that they may.
    together = jax.jit(jax.vmap(end_within))(
        jax.tree.map(lambda *k: jnp.stack(k), *keys)
    )
    for number, own in enumerate(keys):
        jax.tree.map(
            lambda ours, theirs, number=number: np.testing.assert_allclose(
                ours[number], theirs, atol=1e-5
            ),
            together,
            end_of(own),
        )


def test_methods_share_initial_weights_and_differ_afterwards(tiny, tiny_dataset):
    keys = random_streams(tiny.seed)
    first, *others = (trainer_of(tiny, name).init(keys) for name in METHOD_NAMES)
    for other in others:
        assert_equal(other.params, first.params)
    losses = {
        evaluations_of(tiny, tiny_dataset, name)[-1].metrics.train_loss
        for name in METHOD_NAMES
    }
    # Within its cool-down, which ends too soon to be cut, one is like the other.
    assert len(losses) == len(METHOD_NAMES)


def test_truncated_steps_and_norms_are_reported(tiny, tiny_dataset):
    settings = replaced(tiny, noise_scale=1.0, cooldown=0.0, steps=4)
    chunks = evaluations_of(settings, tiny_dataset, HEAVY)
    assert all(chunk.metrics.truncated == 1 for chunk in chunks)
    assert all(chunk.metrics.update_norm > tiny.method.max_norm for chunk in chunks)
    trainer = trainer_of(settings, HEAVY)
    moved = jax.tree.map(
        lambda new, old: new - old,
        chunks[-1].state.params,
        trainer.init(random_streams(tiny.seed)).params,
    )
    assert optax.tree.norm(moved) <= 4 * tiny.method.max_norm * (1 + 1e-5)


@pytest.mark.parametrize(
    ("method", "changed", "is_bounded"),
    [
        ("sgd", {}, False),
        ("balanced", {}, True),
        ("balanced", {"max_norm": None, "truncated_share": 0.2}, True),
    ],
)
def test_the_bound_of_the_last_step_is_reported(
    tiny, tiny_dataset, method, changed, is_bounded
):
    settings = replaced(tiny, **changed)
    for chunk in evaluations_of(settings, tiny_dataset, method):
        found = chunk.metrics.max_norm
        assert np.isfinite(found) == is_bounded
        if is_bounded:
            assert found == float(optax.tree.get(chunk.state.opt_state, "max_norm"))


def test_a_loss_that_is_not_finite_ends_the_run(tiny, tiny_dataset):
    settings = replaced(tiny, learning_rate=1e30)
    *_, last = chunks_of(settings, tiny_dataset, "sgd")
    assert last.metrics.step == last.step == 2
    assert not math.isfinite(last.bad_loss)


@pytest.mark.parametrize("seconds", [0.0, 60.0], ids=["fast", "slow"])
def test_a_run_ends_at_its_first_bad_loss_on_every_machine(
    tiny, tiny_dataset, monkeypatch, seconds
):
    method = "balanced-untruncated"
    settings = replaced(tiny, alpha=0.15, cooldown=0.0, steps=40, eval_every=40)
    trainer, keys = trainer_of(settings, method), random_streams(settings.seed)
    state, losses = trainer.init(keys), []
    while all(map(math.isfinite, losses)):
        state = trainer.take_steps(state, keys, tiny_dataset.train, np.int32(1))
        losses.append(float(state.recent.loss[len(losses)]))
    expected = trainer.evaluate(state.params, tiny_dataset.test)
    # A slow machine has a chunk for each step.
    now = itertools.count(0.0, seconds)
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    chunks = list(chunks_of(settings, tiny_dataset, method))
    assert (len(chunks) == len(losses)) == (seconds > 0)
    metrics = chunks[-1].metrics
    assert metrics.step == chunks[-1].step == len(losses) > 5
    assert metrics.test_accuracy == float(expected.accuracy)
    np.testing.assert_equal(metrics.batch_loss, np.mean(np.float32(losses)))
    assert_equal(chunks[-1].state, state)


def test_time_left_has_the_steps_and_the_evaluations_left(
    tiny, tiny_dataset, monkeypatch
):
    settings = replaced(tiny, steps=14, eval_every=4)
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    own = trainer_of(settings, "sgd")

    class Evaluate:
        """Takes 50 seconds for a split, and as long for compilation."""

        def lower(self, *arguments):
            now[0] += 50.0
            return own.evaluate.lower(*arguments)

        def __call__(self, *arguments):
            now[0] += 50.0
            return own.evaluate(*arguments)

    def take_steps(state, keys, split, number):
        now[0] += 2.0 * int(number)
        return own.take_steps(state, keys, split, number)

    trainer = own._replace(take_steps=take_steps, evaluate=Evaluate())
    keys = random_streams(settings.seed)
    chunks = train(settings, tiny_dataset, trainer, own.init(keys), keys)
    found = [(chunk.step, chunk.speed, chunk.seconds_left) for chunk in chunks]
    # Before the first evaluation it is that of the steps.
    assert found[0] == (1, 0.5, 26.0)
    for step, speed, left in found[1:]:
        evaluations = 0 if step < 4 else 4 - step // 4 if step < 14 else 0
        assert speed == 0.5 and left == 2.0 * (14 - step) + 100.0 * evaluations
    assert found[-1][0] == 14


def test_the_learning_rate_falls_like_a_cosine(tiny, tiny_dataset):
    settings = replaced(tiny, learning_rate_schedule="cosine", steps=4, eval_every=4)
    (chunk,) = evaluations_of(settings, tiny_dataset, "sgd")
    constant = replaced(settings, learning_rate_schedule="constant")
    (other,) = evaluations_of(constant, tiny_dataset, "sgd")
    norms, others = chunk.state.recent.update_norm, other.state.recent.update_norm
    np.testing.assert_allclose(norms[0], others[0], rtol=1e-5)
    expected = (1 + np.cos(np.pi / 4)) / 2
    np.testing.assert_allclose(norms[1] / others[1], expected, rtol=1e-4)


def test_evaluation_is_the_mean_over_all_images(tiny, tiny_dataset):
    predict, init_params = build_network(
        tiny.model, IMAGE_SHAPE, 10, tiny.data.pixel_range
    )
    params = init_params(jax.random.key(0))
    test = tiny_dataset.test
    assert test.labels.size % 50 != 0
    scores = evaluate(predict, params, test)
    logits = predict(params, test.images)
    accuracy = (logits.argmax(-1) == test.labels).mean()
    assert float(scores.accuracy) == pytest.approx(float(accuracy))
    expected = loss_per_example(predict, params, test).mean()
    assert float(scores.loss) == pytest.approx(float(expected), rel=1e-5)


def test_learns_the_digits(tiny):
    settings = replaced(
        tiny,
        steps=200,
        eval_every=200,
        clean_examples=100,
        corrupted_examples=0,
        seed=1,
    )
    dataset = load_dataset(settings.data, random_streams(settings.seed).labels)
    (chunk,) = evaluations_of(settings, dataset, "sgd")
    assert chunk.metrics.train_accuracy > 0.6  # by chance: 0.1
