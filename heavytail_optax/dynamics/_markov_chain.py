"""The Markov chain on the wide minima that is the limit of SGD as eta -> 0."""

import dataclasses

import numpy as np

from heavytail_optax._result_text import short_repr
from heavytail_optax._validation import type_error, value_error
from heavytail_optax.dynamics._landscape import check_field
from heavytail_optax.dynamics._theory import ExitRates


@dataclasses.dataclass(frozen=True, eq=False)
class LimitChain:
    r"""Result of `markov_chain`; fields count from 0.

    Attributes:
      rates: the `ExitRates` from which it is computed.
      typical: whether the fewest jumps that leave i can lead to j, :math:`q_{ij} > 0`.
        shape=(K, K), dtype=bool.
      classes: the communicating classes of that graph, each a tuple of fields.
      absorbing: for each class, whether no edge leads out of it.
      fields: the class of the chain.
      max_jumps: L, the largest l* in that class.
      wide: the fields of the class with `l* = L`, the states of Y.
      narrow: its other fields. As eta -> 0, no time is spent there.
      embedded: the probabilities :math:`q_{ij}/q_i`, among all fields. shape=(K, K).
      generator: Q of Y, in units of `time_scale`. shape=(W, W) for W wide fields.
      stationary: its stationary law. shape=(W,).
      start: the law of Y's first state for a start in each field of the class, in the
        order of `fields`. shape=(len(fields), W).
      notes: remarks on the conditions of the theorem; empty if all hold.
    """

    rates: ExitRates
    typical: np.ndarray
    classes: tuple[tuple[int, ...], ...]
    absorbing: tuple[bool, ...]
    fields: tuple[int, ...]
    max_jumps: int
    wide: tuple[int, ...]
    narrow: tuple[int, ...]
    embedded: np.ndarray
    generator: np.ndarray
    stationary: np.ndarray
    start: np.ndarray
    notes: tuple[str, ...]

    __repr__ = short_repr

    @property
    def is_irreducible(self) -> bool:
        """Whether all fields form one class, as the theorem requires."""
        return len(self.classes) == 1

    def time_scale(self, learning_rate: float) -> float:
        r""":math:`\lambda_L(\eta)`: Y moves by one unit of time in `1 / time_scale` steps.

        Args:
          learning_rate: eta, positive and below `ExitRates.stability_limits`.

        Returns:
          A rate per step.
        """
        return float(self.rates.time_scales(learning_rate)[self.wide[0]])

    def occupation(self, learning_rate: float) -> np.ndarray:
        r"""Share of time in each field, to first order at a given learning rate.

        This is the stationary law of the chain on all fields of the class that jumps
        from i to j at rate :math:`\lambda_i(\eta) q_{ij}`. On the wide fields it
        converges to `stationary`. On the narrow ones it vanishes like a power of
        :math:`h = H(1/\eta)/\eta`, namely h itself for an `l*` one below the largest.

        Args:
          learning_rate: eta, positive and below `ExitRates.stability_limits`.

        Returns:
          An array of shape (len(fields),), in the order of `fields`.
        """
        fields = list(self.fields)
        scales = self.rates.time_scales(learning_rate)[fields]
        between = self.rates.between_fields[np.ix_(fields, fields)]
        # Dividing the embedded chain's law by the exit rates keeps tiny shares
        # accurate.
        leaving = between.sum(axis=-1)
        if len(fields) == 1:
            return np.ones(1)
        visits = _stationary(between / leaving[:, None] - np.eye(len(fields)))
        # Relative to the slowest scale, so that nothing underflows.
        times = visits / leaving * (scales.min() / scales)
        return times / times.sum()


def _classes(typical: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Strongly connected components, in the order of their first field."""
    reach = typical | np.eye(len(typical), dtype=bool)
    for _ in range(len(typical)):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    mutual = reach & reach.T
    return tuple(
        tuple(np.flatnonzero(row).tolist())
        for field, row in enumerate(mutual)
        if np.flatnonzero(row)[0] == field
    )


def _stationary(generator: np.ndarray) -> np.ndarray:
    """The law pi with `pi Q = 0` of an irreducible generator.

    Computed by the elimination of Grassmann, Taksar and Heyman, which has no
    subtractions.
    """
    rates = np.array(generator, np.float64)
    np.fill_diagonal(rates, 0.0)
    size = len(rates)
    for last in range(size - 1, 0, -1):
        rates[:last, last] /= rates[last, :last].sum()
        rates[:last, :last] += np.outer(rates[:last, last], rates[last, :last])
    law = np.ones(size)
    for state in range(1, size):
        law[state] = law[:state] @ rates[:state, state]
    return law / law.sum()


def _choose_class(
    function: str,
    classes: tuple[tuple[int, ...], ...],
    absorbing: tuple[bool, ...],
    within: int | None,
) -> tuple[int, ...]:
    """The class of the chain: the requested one, or the only absorbing one."""
    listed = ", ".join(
        f"{list(fields)}{' (absorbing)' * is_absorbing}"
        for fields, is_absorbing in zip(classes, absorbing, strict=True)
    )
    stay = [fields for fields, ok in zip(classes, absorbing, strict=True) if ok]
    if within is None:
        if len(stay) == 1:
            return stay[0]
        accepted = f"a field of an absorbing class; the classes are {listed}"
        raise value_error(function, "within", accepted, within)
    for fields in stay:
        if within in fields:
            return fields
    accepted = f"a field of an absorbing class; the classes are {listed}"
    raise value_error(function, "within", accepted, within)


def markov_chain(rates: ExitRates, *, within: int | None = None) -> LimitChain:
    r"""The limit of truncated heavy-tailed SGD on the time scale of the widest fields.

    With L the largest :math:`l^*_i` and
    :math:`\lambda_L(\eta) = H(1/\eta)(H(1/\eta)/\eta)^{L-1}`, the process
    :math:`X_{\lfloor t/\lambda_L(\eta) \rfloor}` converges in finite-dimensional
    distributions to a Markov chain Y on the wide minima, those with :math:`l^*_i = L`.
    On this time scale, narrow fields are left at once. With
    :math:`P_{ij} = q_{ij}/q_i`, W the wide and N the narrow fields,

    .. math::
      B = (I - P_{NN})^{-1} P_{NW}, \qquad
      Q_{ik} = q_{ik} + \sum_{j \in N} q_{ij} B_{jk}, \quad i \ne k \in W,

    so an excursion from i through narrow fields back to i does not count as a jump.

    This requires that the typical-transition graph, which has an edge from i to j if
    :math:`q_{ij} > 0`, is strongly connected. If it is not, the limit holds in an
    absorbing class of the graph, with the L of that class. If all `l*` of a class are
    equal, none of its fields is eliminated.

    Args:
      rates: from `exit_rates`.
      within: a field of the absorbing class to use, if there are several.

    Returns:
      A `LimitChain`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if there is not exactly one absorbing class and `within` is not a
        field of one. A class from which chains leave the landscape is not absorbing.

    Example:
      >>> import heavytail_optax as hto
      >>> rates = hto.dynamics.exit_rates(
      ...     hto.dynamics.four_minima(),
      ...     tail=hto.tails.symmetric_pareto(1.2),
      ...     scale=0.1,
      ...     max_norm=0.5,
      ... )
      >>> chain = hto.dynamics.markov_chain(rates)
      >>> print(chain.wide, chain.generator.round(4).tolist())
      (1, 3) [[-0.1427, 0.1427], [1.1565, -1.1565]]
      >>> print(chain.stationary.round(3))
      [0.89 0.11]

    References:
      Wang, Oh, Rhee, ICLR 2022 (arXiv 2102.04297), theorems 2 and 3.
    """
    function = "markov_chain"
    if not isinstance(rates, ExitRates):
        raise type_error(function, "rates", "an `ExitRates`", rates)
    if within is not None:
        within = check_field(function, rates.landscape, within, "within")
    between = rates.between_fields
    typical = between > 0.0
    classes = _classes(typical)
    outside = rates.rates[:, [0, -1]].sum(axis=-1) > 0.0
    absorbing = tuple(
        not outside[list(fields)].any()
        and not np.delete(typical[list(fields)], list(fields), axis=1).any()
        for fields in classes
    )
    fields = _choose_class(function, classes, absorbing, within)
    jumps = rates.jumps[list(fields)]
    most = int(jumps.max())
    wide = tuple(f for f, n in zip(fields, jumps, strict=True) if n == most)
    narrow = tuple(f for f, n in zip(fields, jumps, strict=True) if n < most)
    total = rates.total
    embedded = between / np.where(total > 0.0, total, 1.0)[:, None]
    from_narrow = np.linalg.solve(
        np.eye(len(narrow)) - embedded[np.ix_(narrow, narrow)],
        embedded[np.ix_(narrow, wide)],
    )
    generator = between[np.ix_(wide, wide)].copy()
    generator += between[np.ix_(wide, narrow)] @ from_narrow
    np.fill_diagonal(generator, 0.0)
    np.fill_diagonal(generator, -generator.sum(axis=-1))
    start = np.zeros((len(fields), len(wide)))
    for row, field in enumerate(fields):
        if field in wide:
            start[row, wide.index(field)] = 1.0
        else:
            start[row] = from_narrow[narrow.index(field)]
    return LimitChain(
        rates=rates,
        typical=typical,
        classes=classes,
        absorbing=absorbing,
        fields=fields,
        max_jumps=most,
        wide=wide,
        narrow=narrow,
        embedded=embedded,
        generator=generator,
        stationary=_stationary(generator),
        start=start,
        notes=_notes(rates, classes, fields, narrow),
    )


def _notes(
    rates: ExitRates,
    classes: tuple[tuple[int, ...], ...],
    fields: tuple[int, ...],
    narrow: tuple[int, ...],
) -> tuple[str, ...]:
    notes = list(rates.notes)
    if len(classes) > 1:
        notes.append(
            f"The typical-transition graph falls into the classes "
            f"{[list(members) for members in classes]}: the limit holds for chains that "
            f"are in {list(fields)}."
        )
    if not narrow:
        notes.append(
            "All fields take equally many jumps to leave: none of them is eliminated."
        )
    return tuple(notes)
