"""The exit times of the theory: jump counts, time scales and rates."""

import dataclasses
import functools

import jax
import numpy as np
import numpy.typing as npt

from heavytail_optax._result_text import short_repr
from heavytail_optax._typing import Scalar
from heavytail_optax._validation import check_positive, check_scalar, value_error
from heavytail_optax.dynamics._jump_integrals import jumps_needed, way_out
from heavytail_optax.dynamics._landscape import Landscape, check_landscape
from heavytail_optax.dynamics._relaxation import folding_time
from heavytail_optax.tails._tail import Tail, check_tail

_NEAR_INTEGER = 0.02
_ASYMPTOTIC = 0.04
_ACCURATE = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class ExitRates:
    r"""Result of `exit_rates`; fields count from 0.

    Attributes:
      landscape: the `Landscape`.
      tail: the tail of the noise.
      scale: the noise is `scale` times a draw of the tail.
      max_norm: b, the largest norm of an update.
      jumps: l*, the fewest jumps that leave each field; 0 for a field without an end.
        shape=(K,).
      slack: rho, the width minus what `l* - 1` jumps cover. shape=(K,).
      rates: :math:`q_{ij}`, with columns for the outside on the left, the K fields, and
        the outside on the right. shape=(K, K + 2).
      notes: remarks on the conditions of the theorem; empty if all hold.
    """

    landscape: Landscape
    tail: Tail
    scale: float
    max_norm: float
    jumps: np.ndarray
    slack: np.ndarray
    rates: np.ndarray
    notes: tuple[str, ...]

    __repr__ = short_repr

    @property
    def total(self) -> np.ndarray:
        """:math:`q_i`, the rates of leaving each field. shape=(K,)."""
        return self.rates.sum(axis=-1)

    @property
    def between_fields(self) -> np.ndarray:
        """:math:`q_{ij}` without the outside. shape=(K, K)."""
        return self.rates[:, 1:-1]

    @functools.cached_property
    def stability_limits(self) -> np.ndarray:
        """`2 / f''`: above it gradient descent is unstable at a minimum. shape=(K,)."""
        return 2.0 / self.landscape.curvatures_at(np.asarray(self.landscape.minima))

    @functools.cached_property
    def folding_times(self) -> np.ndarray:
        """The time in which gradient flow shrinks distances e-fold. shape=(K,)."""
        fields = range(self.landscape.num_fields)
        return np.asarray([folding_time(self.landscape, field) for field in fields])

    def tail_probability(self, x: npt.ArrayLike) -> np.ndarray:
        """`H(x) = P(|Z| > x)` of the scaled noise, in float64."""
        with jax.enable_x64(True):
            x = np.asarray(x, np.float64) / self.scale
            return np.asarray(self.tail.tail_probability(x), np.float64)

    def time_scales(self, learning_rate: float) -> np.ndarray:
        r""":math:`\lambda_i(\eta) = H(1/\eta)\,(H(1/\eta)/\eta)^{l^*_i-1}`, per step.

        Args:
          learning_rate: eta, positive and below every one of `stability_limits`.

        Returns:
          An array of shape (K,).
        """
        eta = self._check_learning_rate("ExitRates.time_scales", learning_rate)
        large = float(self.tail_probability(1.0 / eta))
        return large * (large / eta) ** np.maximum(self.jumps - 1.0, 0.0)

    def mean_exit_times(self, learning_rate: float) -> np.ndarray:
        r""":math:`1 / (\lambda_i(\eta)\, q_i)` in steps; infinite if never left.

        Args:
          learning_rate: eta, positive and below every one of `stability_limits`.

        Returns:
          An array of shape (K,).
        """
        with np.errstate(divide="ignore"):
            return 1.0 / (self.time_scales(learning_rate) * self.total)

    def criterion(self, learning_rate: float) -> np.ndarray:
        r""":math:`\epsilon_i = t_i\, H(\rho_i/\eta)/\eta`: small if eta is asymptotic.

        It is the expected number of jumps larger than the slack in the time `t_i` of
        `folding_times`. For agreement with the limit to 5 %, it must be about 0.04 at
        tail index 1.2, and smaller for larger indices.

        Args:
          learning_rate: eta, positive and below every one of `stability_limits`.

        Returns:
          An array of shape (K,).
        """
        eta = self._check_learning_rate("ExitRates.criterion", learning_rate)
        return self.tail_probability(self.slack / eta) / eta * self.folding_times

    def conditions(self, learning_rate: float) -> tuple[str, ...]:
        """`notes`, and in which fields this learning rate is not asymptotic.

        Args:
          learning_rate: eta, positive and below every one of `stability_limits`.

        Returns:
          Sentences; empty if all conditions hold.
        """
        criterion = self.criterion(learning_rate)
        far = np.flatnonzero(criterion > _ASYMPTOTIC)
        if not far.size:
            return self.notes
        fields = ", ".join(f"{field} ({criterion[field]:.2g})" for field in far)
        sentence = (
            f"eta = {learning_rate:g} is not asymptotic in these fields, since epsilon "
            f"(in brackets) is above {_ASYMPTOTIC}: {fields}. A smaller scale helps most."
        )
        return (*self.notes, sentence)

    def _check_learning_rate(self, function: str, learning_rate: Scalar) -> float:
        check_positive(function, "learning_rate", learning_rate)
        limit, field = self.stability_limits.min(), self.stability_limits.argmin()
        if not float(learning_rate) < limit:
            accepted = (
                f"below {limit:.4g}, above which gradient descent diverges from the "
                f"minimum of field {field}"
            )
            raise value_error(function, "learning_rate", accepted, learning_rate)
        return float(learning_rate)


def check_theory(
    function: str, landscape: object, tail: Tail, scale: Scalar, max_norm: Scalar
) -> None:
    """Checks the assumptions of the theorems.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if the landscape is not on the line, the tail is not centred with a
        finite index above 1, or a number is not positive.
    """
    check_landscape(function, landscape, on_the_line=True)
    check_tail(function, tail, must_be_centred=True)
    if not 1.0 < float(tail.tail_index) < float("inf"):
        accepted = "a tail with a finite tail index above 1"
        raise value_error(function, "tail", accepted, tail)
    check_positive(function, "scale", scale)
    check_scalar(
        function,
        "max_norm",
        max_norm,
        accepted="a positive number, or infinity",
        is_valid=lambda value: value > 0.0,
    )


def exit_rates(
    landscape: Landscape, *, tail: Tail, scale: float, max_norm: float
) -> ExitRates:
    r"""When truncated heavy-tailed SGD leaves each field, and where to, as eta -> 0.

    For the chain :math:`X_j = X_{j-1} - \varphi_b(\eta (f'(X_{j-1}) + Z_j))`, with
    :math:`H(x) = P(|Z| > x)` of index alpha, the exit time :math:`\tau_i` from field i
    of width :math:`r_i`, in steps, satisfies

    .. math::
      \lambda_i(\eta)\, \tau_i \to \mathrm{Exp}(q_i), \qquad
      \lambda_i(\eta) = H(1/\eta) \Bigl(\frac{H(1/\eta)}{\eta}\Bigr)^{l^*_i - 1}, \qquad
      l^*_i = \lceil r_i / b \rceil,

    and the next field is j with probability :math:`q_{ij}/q_i`. The rates are measures
    of the ways out with :math:`l^*_i` jumps of at most b and gradient flow between
    them. For one jump this is a power. For more, it is a nested integral over the
    positions of the flow at each jump, computed by Gauss's quadrature in float64.

    Note the sign: the update subtracts Z, so a jump to the right is a negative Z. The
    share of jumps to the right is `1 - tail.right_tail_weight`.

    Args:
      landscape: on the line.
      tail: a centred tail with an index above 1. Its `right_tail_weight` may differ
        from a half: `tails.alpha_stable(1.4, beta)`.
      scale: the noise is this positive number times a draw of the tail.
      max_norm: b, positive; infinite for no truncation.

    Returns:
      An `ExitRates`. Its `notes` and `conditions` say how far to trust it.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if the landscape is not on the line, the tail index is not above 1, b
        is not positive, or a width is an integer multiple of b.

    Example:
      >>> import heavytail_optax as hto
      >>> rates = hto.dynamics.exit_rates(
      ...     hto.dynamics.four_minima(),
      ...     tail=hto.tails.symmetric_pareto(1.2),
      ...     scale=0.1,
      ...     max_norm=0.5,
      ... )
      >>> print(rates.jumps, rates.total.round(4))
      [1 2 1 2] [3.2258 4.0809 5.5259 2.9687]
      >>> print([f"{steps:.3g}" for steps in rates.mean_exit_times(1e-5)])
      ['4.91e+06', '6.16e+08', '2.87e+06', '8.46e+08']

    References:
      Wang, Oh, Rhee, ICLR 2022 (arXiv 2102.04297), theorem 1.
    """
    function = "exit_rates"
    check_theory(function, landscape, tail, scale, max_norm)
    bound, alpha = float(max_norm), float(tail.tail_index)
    right_share = 1.0 - float(tail.right_tail_weight)
    num_fields = landscape.num_fields
    jumps = np.zeros(num_fields, np.int64)
    slack = np.full(num_fields, np.inf)
    rates = np.zeros((num_fields, num_fields + 2))
    notes: list[str] = []
    for field in range(num_fields):
        width = landscape.widths[field]
        jumps[field] = needed = jumps_needed(width, bound)
        if needed == 0:
            continue
        covered = (needed - 1) * bound if needed > 1 else 0.0
        slack[field] = width - covered
        _check_multiple(function, field, width, bound, notes)
        for sign, share in ((-1, 1.0 - right_share), (1, right_share)):
            error = _add_side(
                rates[field], landscape, field, sign, needed, bound, alpha, share
            )
            if error > _ACCURATE:
                notes.append(f"Field {field}: quadrature is only good to {error:.1g}.")
        if not rates[field].any():
            notes.append(
                f"Field {field}: no noise towards its nearer end, so the rate is 0."
            )
    return ExitRates(
        landscape=landscape,
        tail=tail,
        scale=float(scale),
        max_norm=bound,
        jumps=jumps,
        slack=slack,
        rates=rates,
        notes=tuple(notes),
    )


def _check_multiple(
    function: str, field: int, width: float, bound: float, notes: list[str]
) -> None:
    """Refuses a width that is a multiple of b; notes a width that nearly is one."""
    multiple = width / bound
    off = abs(multiple - round(multiple))
    if round(multiple) >= 1 and off < 1e-9:
        accepted = (
            f"no divisor of a width, but {width:g} of field {field} is a multiple"
        )
        raise value_error(function, "max_norm", accepted, bound)
    if round(multiple) >= 1 and off < _NEAR_INTEGER:
        notes.append(
            f"Field {field}: width / b = {multiple:.4f} is close to an integer, so only "
            "very small learning rates are asymptotic."
        )


def _add_side(
    row: np.ndarray,
    landscape: Landscape,
    field: int,
    sign: int,
    jumps: int,
    bound: float,
    alpha: float,
    share: float,
) -> float:
    """Adds the rates to the fields on one side; returns the relative error."""
    minimum = landscape.minima[field]
    ends = landscape.ends[field + 1 :] if sign > 0 else landscape.ends[field::-1]
    distances = [abs(end - minimum) for end in ends]
    if jumps_needed(distances[0], bound) != jumps or share == 0.0:
        return 0.0

    def slowness(u: np.ndarray) -> np.ndarray:
        points = minimum + sign * u.reshape(-1)
        return 1.0 / np.abs(landscape.gradients_at(points)).reshape(u.shape)

    worst = 0.0
    beyond = []
    for distance in distances:
        measure, error = way_out(distance, jumps, bound, alpha, slowness)
        beyond.append(share**jumps * measure)
        worst = max(worst, error)
    landing = -np.diff([*beyond, 0.0])
    columns = field + 1 + sign * np.arange(1, len(landing) + 1)
    row[columns] += landing
    return worst
