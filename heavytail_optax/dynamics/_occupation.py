"""The share of time that chains spend in each place, with its error."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from heavytail_optax._result_text import short_repr
from heavytail_optax._validation import check_count, value_error


class Occupation(NamedTuple):
    """Shares of time, and their standard errors.

    Attributes:
      share: the shares of time. shape=(K,).
      standard_error: computed from the differences between chains. shape=(K,).
    """

    share: np.ndarray
    standard_error: np.ndarray

    __repr__ = short_repr


def occupation(counts: npt.ArrayLike, num_records: int) -> Occupation:
    """The share of time in each field, or near each minimum, from independent chains.

    Args:
      counts: `field_counts` or `near_counts` of a `Simulation`, or a sum of their
        columns: shape (n, K), or (n,) for one place; at least two chains.
      num_records: that of the `Simulation`.

    Returns:
      An `Occupation`.

    Raises:
      TypeError: if `num_records` is not an integer.
      ValueError: if there are fewer than two chains, or a count is more than
        `num_records`.

    Example:
      >>> import heavytail_optax as hto
      >>> share, error = hto.dynamics.occupation([[6, 4], [8, 2]], 10)
      >>> print(share, error)
      [0.7 0.3] [0.1 0.1]
    """
    num_records = check_count("occupation", "num_records", num_records)
    shares = np.asarray(counts, float) / num_records
    if shares.ndim not in (1, 2) or shares.shape[0] < 2:
        accepted = "an array of shape (n, K) or (n,) with at least two chains"
        raise value_error("occupation", "counts", accepted, counts)
    if shares.min() < 0.0:
        raise value_error("occupation", "counts", "not negative", counts)
    if shares.max() > 1.0:
        accepted = "at least every count"
        raise value_error("occupation", "num_records", accepted, num_records)
    error = shares.std(axis=0, ddof=1) / np.sqrt(shares.shape[0])
    return Occupation(shares.mean(axis=0), error)
