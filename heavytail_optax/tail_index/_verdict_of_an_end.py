"""The verdict that a power law ends, in words."""

import jax

from heavytail_optax.tail_index._comparison import TailFit
from heavytail_optax.tail_index._padded_draws import as_traced
from heavytail_optax.tail_index._result import normal_quantile
from heavytail_optax.tail_index._truncated_pareto import (
    TruncatedPareto,
    truncated_of_first,
)

LEVEL_OF_END = 0.01
_STRAIGHT = 1.645  # curvature, at the level of 10 %
_HEAVIER = 2.33  # than an exponential law, at the level of 1 %
_CONFIDENCE = 0.95
_OF_INDEX = ("estimate", "standard_error", "lower", "upper")
_AHEAD = 3.5  # log-likelihood of a power law with an end over a lognormal without one


def fit_up_to_an_end(descending: jax.Array, k: int) -> TruncatedPareto:
    """The fit, with an index from fewer draws, because its interval allows for no bias.

    Args:
      descending: the largest draws, more than k.
      k: how many to test, and to find the end with.
    """
    level = as_traced(_CONFIDENCE, descending.dtype)
    z = normal_quantile(_CONFIDENCE, descending.dtype)
    whole = truncated_of_first(descending, as_traced(k), z, level)
    fewer = max(round(k**0.75), 10)
    if whole.is_capped:
        fewer += int(whole.num_tied)
    inner = truncated_of_first(descending, as_traced(min(fewer, k)), z, level)
    index = {name: getattr(inner, name) for name in _OF_INDEX}
    return whole._replace(**index)


def end_reason(truncated: TruncatedPareto) -> str:
    """Why a power law without an end is rejected."""
    if truncated.is_capped:
        return (
            f"{int(truncated.num_tied)} of the largest draws are equal, at "
            f"{float(truncated.end):.6g}: were they clipped? What lies beyond was not seen."
        )
    p_value = float(truncated.p_value)
    return (
        "The largest draw is smaller than that of a power law without an end (p "
        f"{f'= {p_value:.1g}' if p_value > 1e-6 else 'below 1e-6'}, from the "
        f"{int(truncated.k)} largest)."
    )


def up_to_an_end(
    truncated: TruncatedPareto, fits: dict[str, TailFit], of_draws: str
) -> tuple[str, tuple[str, ...]] | None:
    """The sentence and the reasons if the draws follow a power law up to an end."""
    is_ending = truncated.p_value < LEVEL_OF_END
    is_straight = abs(float(truncated.curvature)) < _STRAIGHT
    is_heavy = truncated.exponential_ratio > _HEAVIER and truncated.lower > 0.0
    if not (is_ending and is_straight and is_heavy):
        return None
    ahead = float(fits["truncated_power_law"].log_likelihood) - float(
        fits["lognormal"].log_likelihood
    )
    if not truncated.is_capped and ahead < _AHEAD:
        return None
    end = f"{float(truncated.end):.4g}"
    if not truncated.is_capped:
        farthest = float(truncated.end_upper)
        end += f" ({float(truncated.end_lower):.4g} to {farthest:.4g})"
    sentence = (
        f"A power law up to an end, as far as {of_draws} tell: its index is "
        f"{float(truncated.estimate):.2f} ({float(truncated.lower):.2f} to "
        f"{float(truncated.upper):.2f}), and it ends at {end}."
    )
    reason = (
        "An exponential tail with that end fits worse (normalised log-likelihood ratio "
        f"{float(truncated.exponential_ratio):.1f}), and the power law does not bend."
    )
    return sentence, (end_reason(truncated), reason)
