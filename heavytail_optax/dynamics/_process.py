"""The processes that move chains: truncated heavy-tailed SGD, or any Optax one."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from heavytail_optax._noise import add_heavy_tailed_noise
from heavytail_optax._schedules import check_max_norm, not_negative
from heavytail_optax._typing import Key, PyTree, Scalar
from heavytail_optax._validation import check_scalar, type_error, value_error
from heavytail_optax.dynamics._landscape import Landscape
from heavytail_optax.tails._tail import Tail, check_tail


class Process(Protocol):
    """The interface of a process; `sgd_process` and `optax_process` make one.

    A process is a pytree, so its numbers may change without a new compilation.
    """

    def init(self, landscape: Landscape, positions: jax.Array, *, key: Key) -> PyTree:
        """The state of all chains at positions of shape (n,), or (n, d) in R^d."""
        ...

    def step(
        self, landscape: Landscape, state: PyTree, positions: jax.Array
    ) -> tuple[jax.Array, PyTree]:
        """One step of all chains: their new positions and state."""
        ...

    def take(self, state: PyTree, chains: jax.Array) -> PyTree:
        """The state of the chains with the given indices."""
        ...


def project(landscape: Landscape, positions: jax.Array) -> jax.Array:
    """The positions clipped to the landscape's projection, if it has one."""
    if landscape.projection is None:
        return positions
    low, high = (
        jnp.asarray(np.asarray(bound), positions.dtype)
        for bound in landscape.projection
    )
    if low.ndim:
        low, high = low[None], high[None]
    return jnp.clip(positions, low, high)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SgdProcess:
    """Truncated heavy-tailed SGD; see `sgd_process`.

    Attributes:
      learning_rate: eta.
      max_norm: b; infinite for no truncation.
      tail: the law of Z.
      scale: c; 0 for gradient descent.
      drift: a, or None for minus the gradient of the landscape.
      diffusion: sigma, or None for 1.
    """

    learning_rate: Scalar
    max_norm: Scalar
    tail: Tail
    scale: Scalar
    drift: Callable | None = dataclasses.field(metadata={"static": True})
    diffusion: Callable | None = dataclasses.field(metadata={"static": True})

    def _rate(self) -> jax.Array:
        """eta; NaN if it is traced and not a valid learning rate."""
        rate = not_negative(jnp.asarray(self.learning_rate))
        return jnp.where(rate < jnp.inf, rate, jnp.nan)

    def _optimizer(self, key: Key) -> optax.GradientTransformationExtraArgs:
        # The chains are the elements of one parameter, so that one draw serves all.
        return optax.chain(
            add_heavy_tailed_noise(self.tail, self.scale, key=key),
            optax.scale_by_learning_rate(self._rate()),
        )

    def init(self, landscape: Landscape, positions: jax.Array, *, key: Key) -> PyTree:
        """The state of the transformations, and the key."""
        del landscape
        return key, self._optimizer(key).init(positions)

    def step(
        self, landscape: Landscape, state: PyTree, positions: jax.Array
    ) -> tuple[jax.Array, PyTree]:
        """`X + phi_b(-eta (-a(X) + sigma(X) c Z))`, projected."""
        key, inner = state
        optimizer = self._optimizer(key)
        if self.drift is None:
            gradient = jax.vmap(landscape.gradient)(positions)
        else:
            gradient = -jax.vmap(self.drift)(positions)
        if self.diffusion is None:
            updates, inner = optimizer.update(gradient, inner)
        else:
            noise, inner = optimizer.update(jnp.zeros_like(positions), inner)
            updates = jax.vmap(self.diffusion)(positions) * noise - (
                self._rate().astype(positions.dtype) * gradient
            )
        moved = positions + self._truncate(updates)
        return project(landscape, moved), (key, inner)

    def _truncate(self, updates: jax.Array) -> jax.Array:
        """phi_b of each chain's update; NaN if b is traced and not a valid bound.

        Mapping `truncate_update_norm` over chains gives the same at 20 times the cost.
        """
        bound = not_negative(jnp.asarray(self.max_norm, updates.dtype))
        if updates.ndim == 1:
            return jnp.clip(updates, -bound, bound)
        largest = jnp.max(jnp.abs(updates), axis=-1, keepdims=True)
        scale = jnp.where(largest > 0.0, largest, 1.0)  # against overflow
        direction = updates / scale
        length = jnp.linalg.norm(direction, axis=-1, keepdims=True)
        shrunk = direction * (bound / jnp.where(length > 0.0, length, 1.0))
        return jnp.where(length * scale <= bound, updates, shrunk)

    def take(self, state: PyTree, chains: jax.Array) -> PyTree:
        """The state itself, because no part of it belongs to a single chain."""
        del chains
        return state


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OptaxProcess:
    """Chains that each have their own optimiser; see `optax_process`.

    Attributes:
      make_optimizer: a function from a key to an Optax transformation.
    """

    make_optimizer: Callable = dataclasses.field(metadata={"static": True})

    def init(self, landscape: Landscape, positions: jax.Array, *, key: Key) -> PyTree:
        """A key and an optimiser state for each chain."""
        del landscape
        keys = jax.random.split(key, positions.shape[0])

        def init(key, position):
            return self.make_optimizer(key).init(position)

        return keys, jax.vmap(init)(keys, positions)

    def step(
        self, landscape: Landscape, state: PyTree, positions: jax.Array
    ) -> tuple[jax.Array, PyTree]:
        """One update of every chain by its own optimiser, projected."""

        def update(key, inner, position):
            gradient = landscape.gradient(position)
            updates, inner = self.make_optimizer(key).update(gradient, inner, position)
            return optax.apply_updates(position, updates), inner

        keys, inner = state
        moved, inner = jax.vmap(update)(keys, inner, positions)
        return project(landscape, moved), (keys, inner)

    def take(self, state: PyTree, chains: jax.Array) -> PyTree:
        """The keys and optimiser states of some of the chains."""
        return jax.tree.map(lambda leaf: leaf[chains], state)


def sgd_process(
    learning_rate: float,
    max_norm: float,
    tail: Tail,
    scale: float,
    *,
    drift: Callable | None = None,
    diffusion: Callable | None = None,
) -> SgdProcess:
    r"""Truncated heavy-tailed SGD, for `simulate` and `first_exit_times`.

    .. math::
      X_t = X_{t-1} - \varphi_b\bigl(\eta\,(f'(X_{t-1}) + c\,Z_t)\bigr),

    It uses `add_heavy_tailed_noise` and `optax.scale_by_learning_rate`, the code that
    trains networks; all chains are the elements of one parameter. It covers all four
    regimes: `tail` makes the noise heavy- or light-tailed, and `max_norm` makes it
    truncated or not. `scale` 0 is plain gradient descent. With a drift and a diffusion,

    .. math::
      X_t = X_{t-1} + \varphi_b\bigl(\eta\, a(X_{t-1})
        - \eta\, \sigma(X_{t-1})\, c\, Z_t\bigr).

    Note the sign of Z: a large positive draw moves the chain to the left. For a plus
    sign, mirror the tail or change the sign of `diffusion`.

    Args:
      learning_rate: eta, positive.
      max_norm: b, positive; infinite for no truncation.
      tail: the law of Z, centred: one of `heavytail_optax.tails`.
      scale: c, non-negative.
      drift: a, a function of one point; it replaces minus the landscape's gradient.
      diffusion: sigma, a function of one point; it replaces 1.

    Returns:
      A process, which is a pytree. In R^d, its noise is independent in each coordinate;
      for other noise, use `optax_process`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if it is out of its range, or `tail` is not centred.

    Example:
      >>> import heavytail_optax as hto
      >>> process = hto.dynamics.sgd_process(
      ...     1e-3, 0.5, hto.tails.symmetric_pareto(1.2), 0.1
      ... )

    References:
      Wang, Oh, Rhee, ICLR 2022 (arXiv 2102.04297), section 2; with drift and diffusion
      Wang and Rhee, arXiv 2307.03479.
    """
    function = "sgd_process"
    check_scalar(
        function,
        "learning_rate",
        learning_rate,
        "a positive finite number",
        lambda rate: 0.0 < rate < float("inf"),
    )
    if callable(max_norm):
        accepted = "a positive number: schedules need `optax_process`"
        raise type_error(function, "max_norm", accepted, max_norm)
    check_max_norm(function, max_norm)
    check_tail(function, tail, must_be_centred=True)
    check_scalar(
        function,
        "scale",
        scale,
        "a non-negative finite number",
        lambda c: 0.0 <= c < float("inf"),
    )
    for name, each in (("drift", drift), ("diffusion", diffusion)):
        if each is not None and not callable(each):
            raise type_error(function, name, "None or a function of one point", each)
    return SgdProcess(learning_rate, max_norm, tail, scale, drift, diffusion)


def optax_process(make_optimizer: Callable) -> OptaxProcess:
    r"""Chains driven by any Optax optimiser, with momentum, Adam or schedules.

    Every chain has its own optimiser, with its own key and state, mapped by `jax.vmap`.
    This is general, but 20 to 50 times slower than `sgd_process`.

    Args:
      make_optimizer: a function from a key to an `optax.GradientTransformation`. Pass
        the same function object again to avoid a new compilation.

    Returns:
      A process, a pytree.

    Raises:
      TypeError: if `make_optimizer` is not a function, or is itself an optimiser.

    Example:
      >>> import heavytail_optax as hto
      >>> def with_momentum(key):
      ...     return hto.truncated_heavy_tailed_sgd(
      ...         1e-3, 0.5, hto.tails.symmetric_pareto(1.2), 0.1, key=key, momentum=0.9
      ...     )
      >>> process = hto.dynamics.optax_process(with_momentum)
    """
    function = "optax_process"
    accepted = "a function from a key to an Optax transformation"
    if not callable(make_optimizer) or isinstance(make_optimizer, type):
        raise type_error(function, "make_optimizer", accepted, make_optimizer)
    made = make_optimizer(jax.random.key(0))
    if not (hasattr(made, "init") and hasattr(made, "update")):
        raise value_error(function, "make_optimizer", accepted, make_optimizer)
    return OptaxProcess(make_optimizer)
