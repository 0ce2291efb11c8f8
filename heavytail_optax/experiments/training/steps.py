"""A step of each method: its gradient, plain or tail-inflated, and what is made of it."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

import heavytail_optax as hto

from ..data.dataset import Split
from ..models.networks import Predict
from ..settings import DataSettings, MethodSettings, TrainingSettings
from .batches import Batch, RandomStreams, batch_sizes, draw_batches
from .evaluation import IMAGES_IN_CPU_CACHE, batch_losses

Gradient = Callable[[Any, Split, jax.Array, RandomStreams], tuple[jax.Array, Any]]
_Losses = Callable[[Any, Batch], jax.Array]


def build_gradient(
    data: DataSettings,
    training: TrainingSettings,
    method: MethodSettings,
    predict: Predict,
    mesh: Mesh | None = None,
) -> Gradient:
    """The loss and the gradient of a step, on batches drawn for it."""
    losses_of = batch_losses(predict, mesh)
    sizes = batch_sizes(data, training, method)
    part = None
    if jax.default_backend() == "cpu":  # images a pass, in parts of one size
        devices = 1 if mesh is None else mesh.size
        at_once = min(IMAGES_IN_CPU_CACHE, training.batch_size) * devices
        images = sum(sizes.values())
        part = math.ceil(images / math.ceil(images / at_once))
    scale = until_cooldown(method.inflation_scale, method.noisy_steps(training.steps))
    is_normal = method.inflation_law == "normal"
    law = hto.tails.gaussian() if is_normal else hto.tails.pareto(method.alpha)

    def gradient(
        params: Any, train: Split, step: jax.Array, keys: RandomStreams
    ) -> tuple[jax.Array, Any]:
        num_examples = train.labels.shape[0]
        batches = draw_batches(sizes, data.augmentation, keys, step, num_examples)

        def losses(params: Any, batch: Batch) -> jax.Array:
            return losses_of((params, train), batch)

        if method.kind.scheme is None:
            return _plain(losses, part, params, *batches)
        of_batches = hto.tail_inflated_value_and_grad(
            losses,
            law,
            scale,
            scheme=method.kind.scheme,
            inflate_above=method.inflate_above,
            microbatch_size=part,
        )
        key = jax.random.fold_in(keys.inflation, step)
        return of_batches(key, params, *batches, step=step)

    return gradient


def _plain(
    losses: _Losses, part: int | None, params: Any, batch: Batch
) -> tuple[jax.Array, Any]:
    mean_and_gradient = jax.value_and_grad(
        lambda params, batch: losses(params, batch).mean()
    )
    number = batch.places.shape[0]
    is_split = part is not None and number > part and number % part == 0
    return optax.microbatch(
        mean_and_gradient,
        argnums=1,
        microbatch_size=part if is_split else None,
        accumulator=optax.microbatching.AccumulationType.MEAN,
    )(params, batch)


def build_optimizer(
    training: TrainingSettings, method: MethodSettings, key: jax.Array
) -> optax.GradientTransformationExtraArgs:
    """Noise, learning rate and truncation, as far as the method has them."""
    kind = method.kind
    momentum = method.momentum if kind.climbs == "momentum" else None
    descent = optax.sgd(learning_rate_schedule(training), momentum)
    if kind.passes == 2:
        uphill = [optax.contrib.normalize(), optax.sgd(method.sam_radius)]
        if kind.climbs == "gradient-noise":
            uphill.insert(0, subtract_average(method.gradient_average))
        descent = optax.contrib.sam(
            descent, optax.chain(*uphill), reset_state=False, opaque_mode=True
        )
    links: list[optax.GradientTransformation] = [descent]
    if kind.draws_noise:
        noise = hto.add_heavy_tailed_noise(
            hto.tails.symmetric_pareto(method.alpha),
            until_cooldown(method.noise_scale, method.noisy_steps(training.steps)),
            key=key,
            direction=method.direction,
        )
        links.insert(0, noise)
    if kind.truncates:
        links.append(truncation(training, method))
    if kind.averages:
        links.append(average_at_the_end(training.steps, method.averaged_share))
    return optax.with_extra_args_support(optax.chain(*links))


def learning_rate_schedule(training: TrainingSettings) -> optax.ScalarOrSchedule:
    """The learning rate, or what gives that of a step."""
    if training.learning_rate_schedule == "cosine":
        return optax.cosine_decay_schedule(training.learning_rate, training.steps)
    return training.learning_rate


def truncation(
    training: TrainingSettings, method: MethodSettings
) -> optax.GradientTransformationExtraArgs:
    """By a fixed bound, or by one that sets itself early in the run.

    Where it followed the norms to the end, it would fall with them as the network comes
    to fit its images, and large jumps would end just where they should select minima.
    """
    bound, share = method.jump_norm, method.truncated_share
    if share is None:
        return hto.truncate_update_norm(bound)
    first_tenth = max(100, training.steps // 10)
    return hto.truncate_update_norm(
        hto.adaptive_max_norm(share, freeze_after=first_tenth)
    )


def until_cooldown(scale: float, noisy_steps: int) -> optax.Schedule:
    """A scale of noise: constant, then zero from step `noisy_steps` on."""
    constant = optax.constant_schedule(scale)
    silence = optax.constant_schedule(0.0)
    return optax.join_schedules([constant, silence], [noisy_steps])


def gradient_point(
    method: MethodSettings, params: optax.Params, state: optax.OptState
) -> optax.Params:
    """Where a method takes the first gradient of a step: at the weights, or along the way.

    Momentum SAM: Becker et al. 2024 (arXiv 2401.12033), algorithm 1. It takes its only
    gradient where the momentum leads, at the distance `sam_radius` from the weights.
    """
    if method.kind.climbs != "momentum":
        return params
    momentum = optax.tree.get(state, "trace")
    norm = optax.tree.norm(momentum)
    # In the first step there is none.
    share = jnp.where(norm > 0.0, method.sam_radius / norm, 0.0)
    return jax.tree.map(lambda x, v: x - share.astype(x.dtype) * v, params, momentum)


class SubtractAverageState(NamedTuple):
    """What the mean of the gradients needs."""

    step: jax.Array  # shape=(), dtype=int32, number of gradients seen
    mean: optax.Updates  # of all of them, the last ones with the largest weight


def subtract_average(decay: float) -> optax.GradientTransformation:
    """Subtracts the mean of the gradients before, so that what is left is noise."""
    # Friendly SAM: Li et al. 2024 (CVPR), with sigma = 1; the mean starts with the first
    # gradient, as in the authors' code.

    def init(params: optax.Params) -> SubtractAverageState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return SubtractAverageState(jnp.zeros((), jnp.int32), zeros)

    def update(
        updates: optax.Updates,
        state: SubtractAverageState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, SubtractAverageState]:
        del params
        kept = jnp.where(state.step == 0, 0.0, decay)
        mean = jax.tree.map(
            lambda m, g: kept.astype(g.dtype) * m + (1.0 - kept).astype(g.dtype) * g,
            state.mean,
            updates,
        )
        noise = jax.tree.map(jnp.subtract, updates, state.mean)
        return noise, SubtractAverageState(state.step + 1, mean)

    return optax.GradientTransformation(init, update)


class AverageAtTheEndState(NamedTuple):
    """What the mean of the last weights needs."""

    step: jax.Array  # shape=(), dtype=int32, number of steps done
    mean: Any  # of the weights after each of the steps averaged so far


def average_at_the_end(steps: int, share: float) -> optax.GradientTransformation:
    """The last step leads to the mean of the last weights; the last link of a chain."""
    # Stochastic weight averaging: Izmailov et al. 2018 (arXiv 1803.05407), algorithm 1.
    number = max(1, round(share * steps))

    def init(params: Any) -> AverageAtTheEndState:
        return AverageAtTheEndState(
            jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params)
        )

    def update(
        updates: Any, state: AverageAtTheEndState, params: Any = None
    ) -> tuple[Any, AverageAtTheEndState]:
        step = state.step + 1
        averaged = jnp.maximum(step - (steps - number), 0)
        weight = jnp.where(averaged > 0, 1.0 / jnp.maximum(averaged, 1), 0.0)

        def next_mean(mean: jax.Array, param: jax.Array, move: jax.Array) -> jax.Array:
            return mean + weight.astype(mean.dtype) * (param + move - mean)

        mean = jax.tree.map(next_mean, state.mean, params, updates)
        updates = jax.tree.map(
            lambda move, param, mean: jnp.where(step == steps, mean - param, move),
            updates,
            params,
            mean,
        )
        return updates, AverageAtTheEndState(step, mean)

    return optax.GradientTransformation(init, update)
