"""How sharp the loss is during training: on the same images each time, with one key.

A measurement depends on the parameters alone, not on the one before, so that a run which
goes on from a saved state measures the same as the uninterrupted one, bit for bit.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

import heavytail_optax as hto

from ..data.dataset import Split, evenly_spaced
from ..models.networks import build_network
from ..programs import compiled
from ..settings import (
    FollowedMeasure,
    ModelSettings,
    Settings,
    TrainingSettings,
)
from .evaluation import mean_loss_and_error
from .steps import learning_rate_schedule
from .trainer import TrainState

_MATVECS = 30


class Sharpness(NamedTuple):
    """What is recorded of the loss on the followed images; NaN where not asked for."""

    step: int  # number of steps done
    learning_rate: float  # of the next step
    critical_sharpness: float  # along the gradient; NaN where the search hit a bound
    critical_losses: float  # number of losses that its search took
    top_eigenvalue: float  # of the Hessian
    top_eigenvalue_residual: float  # an eigenvalue is within this distance
    expected_sharpness: float
    expected_sharpness_error: float  # standard error over the draws
    seconds: float  # of training so far, without compilation and without measuring


Values = dict[str, jax.Array]
Follow = Callable[[TrainState, Split, jax.Array, float], Sharpness]
"""The state, the training images, the key of all sampling and the seconds so far."""


def build_follow(
    settings: Settings,
    image_shape: tuple[int, ...],
    classes: int,
    mesh: Mesh | None = None,
) -> Follow:
    """What measures the sharpness of a state; compiled when it is first called."""
    training, following, measuring = (
        settings.training,
        settings.following,
        settings.measuring,
    )
    measure = _build(
        settings.model,
        image_shape,
        classes,
        settings.data.pixel_range,
        mesh,
        following.followed_measures,
        training.learning_rate,
        measuring.sharpness_stddev,
        measuring.sharpness_samples,
    )

    def follow(
        state: TrainState, train: Split, key: jax.Array, seconds: float
    ) -> Sharpness:
        images = evenly_spaced(train, following.followed_images)
        values = jax.device_get(measure(state.params, images, key))
        step = int(state.step)
        nothing = dict.fromkeys(Sharpness._fields, math.nan)
        found = {name: float(value) for name, value in values.items()}
        rate = learning_rate_at(training, step)
        own = {"step": step, "learning_rate": rate, "seconds": seconds}
        return Sharpness(**{**nothing, **found, **own})

    return follow


def learning_rate_at(training: TrainingSettings, step: int) -> float:
    """The learning rate of the step that follows so many."""
    rate = learning_rate_schedule(training)
    return float(rate(step) if callable(rate) else rate)


@functools.lru_cache(maxsize=4)
def _build(
    model: ModelSettings,
    image_shape: tuple[int, ...],
    classes: int,
    pixel_range: str,
    mesh: Mesh | None,
    names: tuple[FollowedMeasure, ...],
    first_step: float,
    stddev: float,
    samples: int,
) -> Callable[[Any, Split, jax.Array], Values]:
    predict, _ = build_network(model, image_shape, classes, pixel_range)
    loss, _ = mean_loss_and_error(predict, mesh)

    def critical(params: Any, images: Split, key: jax.Array) -> Values:
        del key
        gradient = jax.grad(loss)(params, images)
        found = hto.flatness.critical_sharpness(
            loss, params, gradient, args=(images,), initial_step=first_step
        )
        is_bound = found.search.hit_lower | found.search.hit_upper
        return {
            "critical_sharpness": jnp.where(is_bound, jnp.nan, found.sharpness),
            "critical_losses": found.search.num_evaluations,
        }

    def eigenvalue(params: Any, images: Split, key: jax.Array) -> Values:
        found = hto.flatness.hessian_eigenvalues(
            loss, params, key=key, args=(images,), num_matvecs=_MATVECS
        )
        return {
            "top_eigenvalue": found.values[0],
            "top_eigenvalue_residual": found.residuals[0],
        }

    def expected(params: Any, images: Split, key: jax.Array) -> Values:
        found = hto.flatness.expected_sharpness(
            loss,
            params,
            key=key,
            args=(images,),
            stddev=stddev,
            num_samples=samples,
            samples_at_once=1,
        )
        return {
            "expected_sharpness": found.mean,
            "expected_sharpness_error": found.standard_error,
        }

    measures = {"critical": critical, "eigenvalue": eigenvalue, "expected": expected}

    def measure(params: Any, images: Split, key: jax.Array) -> Values:
        return {
            name: value
            for each in names
            for name, value in measures[each](params, images, key).items()
        }

    return compiled(measure)
