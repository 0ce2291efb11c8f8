"""The last steps, which have no noise, so that a run settles in its minimum."""

import optax


def until_cooldown(scale: float, noisy_steps: int) -> optax.Schedule:
    """A scale of noise: constant, then zero from step `noisy_steps` on.

    Example:
      >>> scale = until_cooldown(0.5, 8)
      >>> [float(scale(step)) for step in (0, 7, 8, 9)]
      [0.5, 0.5, 0.0, 0.0]
    """
    constant = optax.constant_schedule(scale)
    silence = optax.constant_schedule(0.0)
    return optax.join_schedules([constant, silence], [noisy_steps])
