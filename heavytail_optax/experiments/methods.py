"""The optimiser of each method."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import optax

import heavytail_optax as hto
from heavytail_optax.experiments.settings import MethodName, Settings

BuildOptimizer = Callable[[Settings, jax.Array], optax.GradientTransformation]


def _sgd(settings: Settings, key: jax.Array) -> optax.GradientTransformation:
    del key
    return optax.sgd(settings.learning_rate)


def _truncated_heavy_tailed_sgd(
    settings: Settings, key: jax.Array
) -> optax.GradientTransformation:
    return hto.truncated_heavy_tailed_sgd(
        settings.learning_rate,
        settings.max_norm,
        hto.tails.symmetric_pareto(settings.alpha),
        noise_schedule(settings),
        key=key,
        direction=settings.direction,
    )


OPTIMIZERS: Mapping[MethodName, BuildOptimizer] = MappingProxyType(
    {
        "sgd": _sgd,
        "truncated-heavy-tailed-sgd": _truncated_heavy_tailed_sgd,
    }
)


def noise_schedule(settings: Settings) -> optax.Schedule:
    """The scale of the noise: constant, then zero for the last `cooldown` steps.

    Example:
      >>> import dataclasses
      >>> from heavytail_optax.experiments.methods import noise_schedule
      >>> from heavytail_optax.experiments.presets import PRESETS
      >>> settings = dataclasses.replace(
      ...     PRESETS["corrupted-digits"].settings, steps=10, scale=0.5, cooldown=0.2
      ... )
      >>> [float(noise_schedule(settings)(step)) for step in (0, 7, 8, 9)]
      [0.5, 0.5, 0.0, 0.0]
    """
    constant = optax.constant_schedule(settings.scale)
    silence = optax.constant_schedule(0.0)
    return optax.join_schedules([constant, silence], [settings.noisy_steps])
