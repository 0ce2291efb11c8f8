"""The optimiser of each method: what happens to the gradient."""

from collections.abc import Callable
from typing import Any

import jax
import optax

import heavytail_optax as hto
from heavytail_optax.experiments.settings import MethodSettings, TrainingSettings
from heavytail_optax.experiments.training.averaging import average_at_the_end
from heavytail_optax.experiments.training.cooldown import until_cooldown

InitOptimizer = Callable[[Any, jax.Array], optax.OptState]


def build_optimizer(
    training: TrainingSettings, method: MethodSettings
) -> tuple[InitOptimizer, optax.TransformUpdateExtraArgsFn]:
    """Noise, learning rate and truncation, as far as the method has them."""
    kind, noisy_steps = method.kind, method.noisy_steps(training.steps)

    def chain(key: jax.Array) -> optax.GradientTransformationExtraArgs:
        descent = optax.sgd(_learning_rate(training))
        if kind.climbs:
            climb = optax.chain(optax.contrib.normalize(), optax.sgd(method.sam_radius))
            descent = optax.contrib.sam(descent, climb, opaque_mode=True)
        links: list[optax.GradientTransformation] = [descent]
        if kind.draws_noise:
            noise = hto.add_heavy_tailed_noise(
                hto.tails.symmetric_pareto(method.alpha),
                until_cooldown(method.noise_scale, noisy_steps),
                key=key,
                direction=method.direction,
            )
            links.insert(0, noise)
        if kind.truncates:
            links.append(hto.truncate_update_norm(method.max_norm))
        if kind.averages:
            links.append(average_at_the_end(training.steps, method.averaged_share))
        return optax.with_extra_args_support(optax.chain(*links))

    def init(params: Any, key: jax.Array) -> optax.OptState:
        return chain(key).init(params)

    # The key is in the state: whatever it is here, it is not used.
    return init, chain(jax.random.key(0)).update


def _learning_rate(training: TrainingSettings) -> float | optax.Schedule:
    if training.learning_rate_schedule == "constant":
        return training.learning_rate
    return optax.cosine_decay_schedule(training.learning_rate, training.steps)
