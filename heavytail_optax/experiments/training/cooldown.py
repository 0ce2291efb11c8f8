"""The last steps, which have no noise, so that a run settles in its minimum."""

import optax

from heavytail_optax.experiments.configuration.settings import Settings


def until_cooldown(scale: float, settings: Settings) -> optax.Schedule:
    """A scale of noise: constant, then zero for the last `cooldown` steps.

    Args:
      scale: before the cool-down.
      settings: `steps` and `cooldown` count.

    Returns:
      A function of the number of the step.

    Example:
      >>> import dataclasses
      >>> from heavytail_optax.experiments.configuration.presets import PRESETS
      >>> settings = dataclasses.replace(
      ...     PRESETS["corrupted-digits"].settings, steps=10, cooldown=0.2
      ... )
      >>> scale = until_cooldown(0.5, settings)
      >>> [float(scale(step)) for step in (0, 7, 8, 9)]
      [0.5, 0.5, 0.0, 0.0]
    """
    constant = optax.constant_schedule(scale)
    silence = optax.constant_schedule(0.0)
    return optax.join_schedules([constant, silence], [settings.noisy_steps])
