"""The verdict on the noise that was tracked during training."""

import jax.numpy as jnp

from heavytail_optax._typing import Params, PyTree
from heavytail_optax._validation import check_count
from heavytail_optax.tail_index._extremal_index import FEWEST_OF_CLUSTERS
from heavytail_optax.tail_index._tracked_estimates import tracked_extremal_index
from heavytail_optax.tail_index._tracking import tracked_names, tracked_part
from heavytail_optax.tail_index._verdict import TailAssessment, assess_tail

_NAME = "assess_tracked"
_DEPENDENT = 0.01


def assess_tracked(
    state: PyTree, params: Params, k: int | None = None
) -> dict[str, TailAssessment]:
    """The verdict of `assess_tail` on the noise that `track_tail_index` has tracked.

    Noise vectors that were not finite are left out; one of the reasons then says so.
    Another says so if the vectors are plainly not independent of those before
    (`tracked_extremal_index`, at the level of 1 %): the tests take them as independent.

    Args:
      state: the state of the whole optimiser, or a `TrackTailIndexState`.
      params: the parameters, or any pytree with their structure, for the names.
      k: how many of the largest sizes to use, at most the tracked k. Default: as many
        as `assess_tail` uses for this number of draws, if so many were tracked.

    Returns:
      A `TailAssessment` under "all", and one under the path of each leaf.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if the state has no such part, does not match `params`, or k is out of
        range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> params = {"w": jnp.zeros(3)}
      >>> tracking = hto.tail_index.track_tail_index(300)
      >>> noise = {"w": jax.random.normal(jax.random.key(0), (5000, 3))}
      >>> _, state = tracking.update(params, tracking.init(params), gradient_noise=noise)
      >>> print(hto.tail_index.assess_tracked(state, params)["w"].verdict)
      not heavy-tailed
    """
    tracked = tracked_part(_NAME, state)
    names = tracked_names(_NAME, tracked, params)
    most = tracked.tail_largest.shape[1] - 1
    if k is not None:
        check_count(_NAME, "k", k, 5, most, most_is="the tracked k")
    clusters = {}
    if most >= FEWEST_OF_CLUSTERS:
        clusters = tracked_extremal_index(state, params)
    found = {}
    for row, name in enumerate(names):
        draws = int(tracked.tail_seen[row]) * int(tracked.tail_sizes_each[row])
        largest = jnp.pad(tracked.tail_largest[row], (0, max(0, 9 - most)))
        assessment = assess_tail(largest, k=k, num_draws=max(draws, 10))
        left_out = int(tracked.tail_non_finite[row])
        if left_out:
            reason = (
                f"Of {left_out + int(tracked.tail_seen[row])} noise vectors, {left_out} "
                "with a NaN or an infinity were left out."
            )
            reasons = (*assessment.reasons, reason)
            assessment = assessment._replace(reasons=reasons)
        of_row = clusters.get(name)
        if of_row is not None and of_row.p_value < _DEPENDENT:
            factor = float(of_row.variance_inflation) ** 0.5
            reason = (
                "The noise vectors are plainly not independent (p = "
                f"{float(of_row.p_value):.1g}): standard errors are {factor:.1f} times as "
                "large."
            )
            reasons = (*assessment.reasons, reason)
            assessment = assessment._replace(reasons=reasons)
        found[name] = assessment
    return found
