"""The constants of a rare-event estimate, computed in float64 before it runs."""

import math
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike

from heavytail_optax._validation import value_error
from heavytail_optax.dynamics._jump_integrals import jumps_needed
from heavytail_optax.dynamics._landscape import Landscape
from heavytail_optax.dynamics._relaxation import relaxation_time

NAME = "rare_exit_rate"
_LINEAR = 0.05  # relative change of f'' that still counts as linear
_NUM_CELLS = 1024
_MOST_BIG = 128
_SHORT_GAP = 0.2  # relaxation times: about what lies between jumps of a way out


# Traced when a path is drawn.
_Numbers: TypeAlias = float | tuple[ArrayLike, ...] | np.ndarray | jax.Array


class Plan(NamedTuple):
    """The input of `sample_path`; each field is a float64 number or array.

    The shapes are the same for all fields of a landscape, so these share a compiled
    program. The exception is `n_big`: 16 if big jumps are rare, otherwise 32, 64 or
    128.

    Attributes:
      start: the start of the paths, which is the minimum.
      left_ends: the left end of the field, then the ends further left that one jump can
        reach from within the field, padded with minus infinity.
      right_ends: the same on the right, padded with infinity.
      projection: shape=(2,).
      learning_rate: eta.
      max_norm: b.
      scale: s = c eta, the smallest size of a jump.
      alpha: the tail index.
      burn_in_steps: n1, the last step that is not scored.
      last_step: n, the end of the window.
      big_tail: H_g, the probability of a big jump, |w| > gamma.
      individual_tail: H_d, the probability of an individual one, |w| > delta.
      smallest: the smallest size of an individual jump.
      gap_rate: rate of the exponential whose ceiling is the gap to the next medium
        jump; infinite if every step is individual.
      small_variance: v, the variance of a small jump.
      count_laws: distribution functions of the number of big jumps under the three
        components of the mixture. shape=(3, n_big + 1).
      component_shares: their distribution function. shape=(3,).
      natural_share: the first component's share of the paths.
      forced_ratios: for each number of big jumps, its probability under the other
        components, times their shares, over its natural one. shape=(n_big + 1,).
      run_places: a one for each of the `l* - 1` jumps, at least one, of a tilted run,
        then zeros. shape=(max run,).
      short_gap: the mean of a short gap between jumps, as a share of the steps.
      side_shares: how often a tilted run goes to the left, and to the right.
        shape=(2,).
      tilts: the probabilities that a big jump is larger than the slack, and that it is
        truncated. shape=(2,).
      table_start: position of the first cell of the two tables below.
      table_step: spacing of their cells.
      curvature_bound: largest |f''| near each cell.
      linear_reach: distance from each cell within which f'' hardly changes.
    """

    start: _Numbers
    left_ends: _Numbers
    right_ends: _Numbers
    projection: _Numbers
    learning_rate: _Numbers
    max_norm: _Numbers
    scale: _Numbers
    alpha: _Numbers
    burn_in_steps: _Numbers
    last_step: _Numbers
    big_tail: _Numbers
    individual_tail: _Numbers
    smallest: _Numbers
    gap_rate: _Numbers
    small_variance: _Numbers
    count_laws: _Numbers
    component_shares: _Numbers
    natural_share: _Numbers
    forced_ratios: _Numbers
    run_places: _Numbers
    short_gap: _Numbers
    side_shares: _Numbers
    tilts: _Numbers
    table_start: _Numbers
    table_step: _Numbers
    curvature_bound: _Numbers
    linear_reach: _Numbers


def pareto_tail(x: float, scale: float, alpha: float) -> float:
    """`P(|w| > x) = (s / x)^alpha` for x >= s, and 1 below."""
    return 1.0 if x <= scale else (scale / x) ** alpha


def small_variance(delta: float, scale: float, alpha: float) -> float:
    """Variance of w given |w| <= delta, for a symmetric Pareto w with |w| >= s."""
    if delta <= scale:
        return 0.0
    # (delta^(2 - alpha) - s^(2 - alpha)) / (2 - alpha), also if alpha is 2.
    log_range, exponent = math.log(delta / scale), 2.0 - alpha
    integral = math.expm1(exponent * log_range) / exponent if exponent else log_range
    mass = -math.expm1(-alpha * log_range)
    return alpha * scale**2 * integral / mass


def big_jump_law(
    probability: float, num_steps: float, jumps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The defensive mixture, with three components, for the number of big jumps.

    Components: the binomial law itself; conditioned on at least `jumps - 1`; on at
    least `jumps`. For one jump, the middle one equals the first and is left out.

    Returns:
      `count_laws`, `component_shares` and `forced_ratios` of `Plan`; None if there are
      too many big jumps for anything to be rare.
    """
    mean = num_steps * probability
    most = 16
    while most < mean + 9.0 * math.sqrt(mean) + jumps + 12.0:
        most *= 2
    if most > _MOST_BIG:
        return None
    # By ratios, because differences of log-gamma lose all digits for 1e12 steps.
    counts = np.arange(most)
    ratios = (num_steps - counts) / (counts + 1.0) * probability / (1.0 - probability)
    first = math.exp(num_steps * math.log1p(-probability))
    law = first * np.concatenate([np.ones(1), np.cumprod(np.maximum(ratios, 0.0))])
    tails = np.cumsum(law[::-1])[::-1]  # small terms first
    weights = np.asarray([0.5, 0.0, 0.5] if jumps == 1 else [0.1, 0.6, 0.3])
    counts = np.arange(most + 1)
    forced = np.zeros(most + 1)
    laws = []
    for weight, least in zip(weights, (0, jumps - 1, jumps), strict=True):
        forced += weight * (counts >= least) / tails[least]
        laws.append(np.cumsum(np.where(counts >= least, law, 0.0)) / tails[least])
    return np.stack(laws), np.cumsum(weights), forced - weights[0]


def reachable_ends(
    landscape: Landscape, field: int, bound: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`left_ends` and `right_ends` of `Plan`."""

    def within_reach(of: int) -> tuple[list[float], list[float]]:
        left, right = landscape.ends[of::-1], landscape.ends[of + 1 :]
        return (
            [left[0], *(end for end in left[1:] if left[0] - end < bound)],
            [right[0], *(end for end in right[1:] if end - right[0] < bound)],
        )

    sides = [within_reach(other) for other in range(landscape.num_fields)]
    most = max(len(side) for both in sides for side in both)
    left, right = sides[field]
    return (
        (*left, *[-math.inf] * (most - len(left))),
        (*right, *[math.inf] * (most - len(right))),
    )


def flow_tables(
    landscape: Landscape, field: int, margin: float
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """For each cell, the largest |f''| nearby and how far f' is nearly linear.

    Args:
      landscape: a landscape on the line.
      field: index of the field.
      margin: how far the tables extend if the field has no end.

    Returns:
      Position of the first cell, spacing, and the two tables.
    """
    minimum = landscape.minima[field]
    low, high = landscape.ends[field : field + 2]
    if landscape.projection is not None:
        low, high = (
            max(low, landscape.projection[0]),
            min(high, landscape.projection[1]),
        )
    low = max(low, minimum - margin)
    high = min(high, minimum + margin)
    cells = np.linspace(low, high, _NUM_CELLS + 1)
    curvature = landscape.curvatures_at(cells)
    # Sub-steps move by less than a tenth of the distance to the minimum.
    near = max(1, _NUM_CELLS // 16)
    padded = np.pad(np.abs(curvature), near, mode="edge")
    bound = np.lib.stride_tricks.sliding_window_view(padded, 2 * near + 1).max(axis=-1)
    differs = np.abs(curvature[:, None] - curvature[None]) > _LINEAR * np.abs(curvature)
    distance = np.abs(cells[:, None] - cells[None])
    reach = np.where(differs.T, distance, np.inf).min(axis=-1)
    return low, (high - low) / _NUM_CELLS, bound, reach


def new_plan(
    landscape: Landscape,
    field: int,
    alpha: float,
    scale: float,
    eta: float,
    bound: float,
    method: str,
    num_individual: float,
    burn_in: float,
    window: float,
) -> tuple[Plan, str]:
    """The plan, and the method that it is for."""
    width = landscape.widths[field]
    jumps = jumps_needed(width, bound)
    most_jumps = max(jumps_needed(each, bound) for each in landscape.widths)
    slack = width - ((jumps - 1) * bound if jumps > 1 else 0.0)
    relaxation = relaxation_time(landscape, field)
    size = scale * eta
    # This bounds the variance: with fewer than `jumps` big jumps, an exit takes several
    # medium ones.
    gamma = slack / max(jumps, 2)
    share = eta * num_individual / relaxation
    is_stiff = eta * landscape.curvature(field) > 0.5
    if method == "auto":
        method = "exact" if share >= 1.0 or is_stiff else "lumped"
    if method == "lumped" and (share >= 1.0 or is_stiff):
        accepted = (
            "'exact' at this learning rate, at which there are no small steps to lump"
        )
        raise value_error(NAME, "method", accepted, method)
    delta = 0.0
    if method == "lumped":
        delta = min(size * share ** (-1.0 / alpha), 0.5 * gamma)
    first, last = (
        math.ceil(duration * relaxation / eta)
        for duration in (burn_in, burn_in + window)
    )
    big = pareto_tail(gamma, size, alpha)
    individual = pareto_tail(delta, size, alpha) if delta > 0.0 else 1.0
    law = big_jump_law(big, float(last), jumps) if big < 1.0 else None
    if law is None:
        accepted = (
            f"small enough for exits to be rare: here jumps larger than {gamma:.2g}, of "
            f"which a few leave field {field}, are common, so that direct simulation is "
            "cheaper"
        )
        raise value_error(NAME, "learning_rate", accepted, eta)
    medium = (individual - big) / (1.0 - big)
    margin = 2.0 * width if math.isinf(bound) else 2.0 * jumps * bound
    left_ends, right_ends = reachable_ends(landscape, field, bound)
    # A run goes to a side on which l* jumps can leave. A single jump is the exit
    # itself, which is scored and not drawn, so choosing a side gains nothing.
    sides = landscape.sides[field]
    is_way_out = np.asarray(
        [jumps in (1, jumps_needed(side, bound)) for side in sides], np.float64
    )
    plan = Plan(
        start=landscape.minima[field],
        left_ends=left_ends,
        right_ends=right_ends,
        projection=landscape.projection or (-math.inf, math.inf),
        learning_rate=eta,
        max_norm=bound,
        scale=size,
        alpha=alpha,
        burn_in_steps=float(first),
        last_step=float(last),
        big_tail=big,
        individual_tail=individual,
        smallest=max(delta, size),
        gap_rate=-math.log1p(-medium) if medium < 1.0 else math.inf,
        small_variance=small_variance(delta, size, alpha),
        count_laws=law[0],
        component_shares=law[1],
        natural_share=law[1][0],
        forced_ratios=law[2],
        run_places=(np.arange(max(most_jumps - 1, 1)) < max(jumps - 1, 1)) * 1.0,
        short_gap=_SHORT_GAP * relaxation / (eta * last),
        side_shares=is_way_out / is_way_out.sum(),
        tilts=np.asarray(
            [
                pareto_tail(least, size, alpha) / big
                for least in (slack, slack if jumps == 1 else bound)
            ]
        ),
        **dict(
            zip(
                ("table_start", "table_step", "curvature_bound", "linear_reach"),
                flow_tables(landscape, field, margin),
                strict=True,
            )
        ),
    )
    return plan, method
