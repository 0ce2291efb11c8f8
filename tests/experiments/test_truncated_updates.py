"""The norms of truncated updates of a real run end at the bound."""

import jax
import numpy as np
import optax
import pytest
from small_data_sets import load_dataset

from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.training.batches import random_streams
from heavytail_optax.experiments.training.trainer import build_trainer
from heavytail_optax.tail_index import assess_tail, truncated_pareto

BOUND, STEPS = 0.25, 600


def norms_of_updates(method, max_norm):
    """How far each step moved the parameters, on digits."""
    settings = PRESETS["corrupted-digits-short"].settings
    settings = replaced(settings, method=method, max_norm=max_norm, steps=STEPS)
    dataset = load_dataset(settings.data, random_streams(0).labels)
    shape = dataset.train.images.shape[1:]
    trainer, keys = build_trainer(settings, shape, 10), random_streams(0)
    state, norms = trainer.init(keys), []
    for _ in range(STEPS):
        before = jax.device_get(state.params)
        state = trainer.take_steps(state, keys, dataset.train, np.int32(1))
        moved = jax.tree.map(np.subtract, jax.device_get(state.params), before)
        norms.append(float(optax.tree.norm(moved)))
    return np.asarray(norms, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sgd-truncated", "balanced"])
def test_the_end_is_the_bound(method):
    norms = norms_of_updates(method, BOUND)
    k = max(40, 3 * int(np.sum(norms > 0.999 * BOUND)))
    found = truncated_pareto(norms, k)
    assert found.is_capped
    assert found.end_lower <= BOUND <= found.end_upper
    assessed = assess_tail(norms, k=k)
    np.testing.assert_allclose(assessed.truncated.end, BOUND, rtol=1e-5)
    # The negative control: with a bound that is never reached there is no cap.
    free = truncated_pareto(norms_of_updates(method, 1e3), k)
    assert not free.is_capped
    assert not free.end_lower <= BOUND <= free.end_upper
