"""The optimiser of each method: what happens to the gradient."""

import jax
import optax

import heavytail_optax as hto
from heavytail_optax.experiments.cooldown import until_cooldown
from heavytail_optax.experiments.methods import Method
from heavytail_optax.experiments.settings import Settings


def build_optimizer(
    method: Method, settings: Settings, key: jax.Array
) -> optax.GradientTransformation:
    """Noise, learning rate and truncation, as far as the method has them.

    Args:
      method: whose `draws_noise` and `truncates` count.
      settings: of the job.
      key: a typed key for the noise.

    Returns:
      The chain, in the order of the paper's update rule.
    """
    links: list[optax.GradientTransformation] = [optax.sgd(settings.learning_rate)]
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
    return optax.chain(*links)
