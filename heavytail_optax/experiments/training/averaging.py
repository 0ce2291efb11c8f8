"""The mean of the weights over the last steps, as a link of an optimiser."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class AverageAtTheEndState(NamedTuple):
    """What the mean needs.

    Attributes:
      step: number of steps done, int32.
      mean: of the weights after each of the steps averaged so far.
    """

    step: jax.Array
    mean: Any


def average_at_the_end(steps: int, share: float) -> optax.GradientTransformation:
    r"""Stochastic weight averaging: the last step leads to the mean of the last weights.

    With n the `share` of the T steps, rounded, the last step is

    .. math::
      X_T \leftarrow \frac{1}{n} \sum_{t=T-n+1}^{T} X_t,

    all steps before it are as they come. It must be the last link of a chain.

    Example:
      >>> chain = optax.chain(optax.sgd(1.0), average_at_the_end(4, 0.5))
      >>> params = jnp.zeros(())
      >>> state = chain.init(params)
      >>> for gradient in (-1.0, -1.0, -1.0, -4.0):  # to 1, 2, 3 and 7
      ...     updates, state = chain.update(jnp.asarray(gradient), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> float(params)
      5.0

    References:
      Izmailov et al., "Averaging weights leads to wider optima and better
      generalization", UAI 2018 (arXiv 1803.05407), algorithm 1.
    """
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
