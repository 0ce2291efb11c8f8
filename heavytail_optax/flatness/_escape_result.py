"""What `escape_profile` returns."""

from typing import NamedTuple

import jax

from heavytail_optax._typing import Params, Scalar


class EscapeSettings(NamedTuple):
    """What an escape profile was computed with: the arguments of that name."""

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


class EscapePaths(NamedTuple):
    """Where the paths of an `EscapeProfile` were after each jump.

    All of shape=(num_samples, max_jumps); floats are float32 at least.

    Attributes:
      escaped: whether each path has. dtype=bool.
      distances: from the reference to the solution reached.
      barriers: the loss on the straight way between the two, at its highest, above the
        higher end.
      losses: at the solution reached; not finite where descent diverged.
      gradient_norms: there; not small where descent has not come to its end.
    """

    escaped: jax.Array
    distances: jax.Array
    barriers: jax.Array
    losses: jax.Array
    gradient_norms: jax.Array


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


class EscapeProfile(NamedTuple):
    """Result of `escape_profile`; floats are float32 at least.

    Attributes:
      jumps: j = 1, 2, ..., `max_jumps`. shape=(max_jumps,), dtype=int32.
      probability: share of the paths that have escaped after j jumps.
        shape=(max_jumps,).
      lower: end of Wilson's interval for each probability by itself. Same shape.
      upper: its other end. Same shape.
      fewest_jumps: the smallest j after which any path has escaped; `max_jumps + 1` if
        none has. shape=(), dtype=int32.
      paths: the `EscapePaths` behind these shares.
      reference: the `EscapeReference`, which the paths leave.
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
