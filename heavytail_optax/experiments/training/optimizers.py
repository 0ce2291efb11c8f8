"""The optimiser of each method: what happens to the gradient."""

from collections.abc import Callable
from typing import Any

import jax
import optax

import heavytail_optax as hto
from heavytail_optax.experiments.configuration.methods import Method
from heavytail_optax.experiments.configuration.settings import Settings
from heavytail_optax.experiments.training.averaging import average_at_the_end
from heavytail_optax.experiments.training.cooldown import until_cooldown

InitOptimizer = Callable[[Any, jax.Array], optax.OptState]


def build_optimizer(
    method: Method, settings: Settings
) -> tuple[InitOptimizer, optax.TransformUpdateExtraArgsFn]:
    """Noise, learning rate and truncation, as far as the method has them.

    Args:
      method: whose `draws_noise`, `truncates`, `climbs` and `averages` count.
      settings: of the job.

    Returns:
      `init(params, key)`, whose key, typed, is that of the noise, and `update`, in the
      order of the paper's update rule. The update also takes `grad_fn(params, i)`,
      the gradient elsewhere on the same batch, which SAM needs.
    """

    def chain(key: jax.Array) -> optax.GradientTransformationExtraArgs:
        descent = optax.sgd(_learning_rate(settings))
        if method.climbs:
            climb = optax.chain(
                optax.contrib.normalize(), optax.sgd(settings.sam_radius)
            )
            descent = optax.contrib.sam(descent, climb, opaque_mode=True)
        links: list[optax.GradientTransformation] = [descent]
        if method.draws_noise:
            noise = hto.add_heavy_tailed_noise(
                hto.tails.symmetric_pareto(settings.alpha),
                until_cooldown(settings.noise_scale, settings),
                key=key,
                direction=settings.direction,
            )
            links.insert(0, noise)
        if method.truncates:
            links.append(hto.truncate_update_norm(settings.max_norm))
        if method.averages:
            links.append(average_at_the_end(settings.steps, settings.averaged_share))
        return optax.with_extra_args_support(optax.chain(*links))

    def init(params: Any, key: jax.Array) -> optax.OptState:
        return chain(key).init(params)

    # The key is in the state: whatever it is here, it is not used.
    return init, chain(jax.random.key(0)).update


def _learning_rate(settings: Settings) -> float | optax.Schedule:
    if settings.learning_rate_schedule == "constant":
        return settings.learning_rate
    return optax.cosine_decay_schedule(settings.learning_rate, settings.steps)
