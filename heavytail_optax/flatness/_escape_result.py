"""The result types of `escape_profile`."""

import math
from typing import NamedTuple

import jax

from heavytail_optax._result_text import is_one_number, short_repr
from heavytail_optax._typing import Params, Scalar


class EscapeSettings(NamedTuple):
    """The settings of an escape profile: the arguments with these names."""

    jump_norm: Scalar
    learning_rate: Scalar
    max_jumps: int
    num_samples: int
    repeat_direction: bool
    flow_steps: int
    descent_steps: int
    barrier_threshold: Scalar | None
    return_tolerance: Scalar | None
    num_points: int
    confidence: float

    __repr__ = short_repr


class EscapePaths(NamedTuple):
    """The paths of an `EscapeProfile` after each jump.

    All fields have shape=(num_samples, max_jumps); floats are at least float32.

    Attributes:
      escaped: whether each path has escaped. dtype=bool.
      distances: distance from the reference to the solution reached.
      barriers: highest loss on the straight line between the two, above the higher end.
      losses: loss at the solution reached; not finite if descent diverged.
      gradient_norms: gradient norm there; not small if descent has not converged.
    """

    escaped: jax.Array
    distances: jax.Array
    barriers: jax.Array
    losses: jax.Array
    gradient_norms: jax.Array

    __repr__ = short_repr


class EscapeReference(NamedTuple):
    """The solution that descent reaches from the parameters without a jump.

    Attributes:
      params: a pytree like the parameters.
      loss: the loss there. shape=().
      gradient_norm: the norm of the gradient there. shape=().
    """

    params: Params
    loss: jax.Array
    gradient_norm: jax.Array

    __repr__ = short_repr


class EscapeProfile(NamedTuple):
    """Result of `escape_profile`; floats are at least float32.

    Attributes:
      jumps: j = 1, 2, ..., `max_jumps`. shape=(max_jumps,), dtype=int32.
      probability: share of the paths that have escaped after j jumps.
        shape=(max_jumps,).
      lower: lower end of Wilson's interval for each probability by itself. Same shape.
      upper: upper end of that interval. Same shape.
      fewest_jumps: the smallest j after which any path has escaped; infinite if none
        has. shape=().
      paths: the `EscapePaths` from which the shares are computed.
      reference: the `EscapeReference`, from which the paths start.
      settings: the `EscapeSettings`.
    """

    jumps: jax.Array
    probability: jax.Array
    lower: jax.Array
    upper: jax.Array
    fewest_jumps: jax.Array
    paths: EscapePaths
    reference: EscapeReference
    settings: EscapeSettings

    __repr__ = short_repr

    def __str__(self) -> str:
        if self.jumps.ndim != 1 or not is_one_number(self.probability[0]):
            return repr(self)
        found = zip(self.probability, self.lower, self.upper, strict=True)
        shares = [f"{p:.2g} ({low:.2g} to {high:.2g})" for p, low, high in found]
        last = len(shares)
        first = self.fewest_jumps
        shown = sorted({1, last, *([] if math.isinf(first) else [int(first)])})
        words = [f"{shares[j - 1]} after {j} jump{'s' * (j > 1)}" for j in shown]
        fewest = "none has" if math.isinf(first) else f"the first after {int(first)}"
        return (
            f"share of {self.settings.num_samples} paths that escaped: "
            f"{', '.join(words)}; {fewest}"
        )
