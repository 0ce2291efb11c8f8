"""Whether a moment exists: Trapani's randomised test."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy.typing as npt

from heavytail_optax._auto_axes import on_auto_axes
from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._result_text import is_one_number, short_repr
from heavytail_optax._typing import Key
from heavytail_optax._validation import check_positive
from heavytail_optax.tail_index._arguments import check_samples

_NAME = "finite_moment_test"
_FEWEST = 100
_RATE = 0.8  # n to this power normal numbers
_PLACE = 2.0**0.5  # where their signs are compared


class FiniteMoment(NamedTuple):
    """Whether a moment exists; each field has the shape of the batch.

    Attributes:
      p_value: of the hypothesis that the moment is infinite. If it is small, the moment
        exists.
      statistic: Theta, chi-square with one degree of freedom if the moment is infinite.
      moment: the sample's moment, over the lower one and over that of a Gaussian: 1 for
        Gaussian draws. It grows without bound with the draws if the moment is infinite.
    """

    p_value: jax.Array
    statistic: jax.Array
    moment: jax.Array

    __repr__ = short_repr

    def __str__(self) -> str:
        if not is_one_number(self.p_value):
            return repr(self)
        return (
            f"p = {self.p_value:.2g} for an infinite moment; beware, the test often calls "
            "an infinite moment finite: see its rates of error"
        )


def _of_gaussian(order: float) -> float:
    """`log E|N|^order`."""
    half = math.lgamma(0.5 * (order + 1.0)) - math.lgamma(0.5)
    return 0.5 * order * math.log(2.0) + half


# Compiled once for all calls, as one program.
@functools.partial(jax.jit, static_argnames="order")
def _test(samples: jax.Array, key: jax.Array, order: float) -> FiniteMoment:
    size = jnp.abs(samples)
    most = jnp.max(size, axis=-1, keepdims=True)
    # So that no power overflows. The inverse of the largest floats would be denormal,
    # which most devices round to zero.
    room = jnp.where(most > 1.0, 2.0**-8, 1.0)
    size = (size * room) / (most * room)

    def log_mean(power):
        return jnp.log(jnp.mean(size**power, axis=-1)) - _of_gaussian(power)

    moment = jnp.exp(log_mean(order) - 2.0 * log_mean(0.5 * order))
    num = round(samples.shape[-1] ** _RATE)
    normal = jax.random.normal(key, (*moment.shape, num), samples.dtype)
    spread = jnp.exp(0.5 * moment)[..., None]
    theta = [
        2.0 * (jnp.mean(spread * normal <= place, axis=-1) - 0.5) * num**0.5
        for place in (_PLACE, -_PLACE)
    ]
    statistic = 0.5 * (theta[0] ** 2 + theta[1] ** 2)
    is_known = jnp.isfinite(moment)
    statistic = jnp.where(is_known, statistic, jnp.nan)
    p_value = jax.scipy.special.gammaincc(0.5, 0.5 * statistic)
    return FiniteMoment(p_value, statistic, moment)


@on_auto_axes
def finite_moment_test(
    samples: npt.ArrayLike, *, key: Key, order: float = 2.0, axis: int | None = -1
) -> FiniteMoment:
    r"""Tests whether a moment exists: by default, whether the variance is finite.

    The hypothesis is that `E|X|^p` is infinite. With r = n^0.8 standard normal numbers
    `xi_j` from the key,

    .. math::
      m = \frac{\overline{|X|^p}}{(\overline{|X|^{p/2}})^2}
        \frac{(E|N|^{p/2})^2}{E|N|^p}, \quad
      \vartheta(u) = \frac{2}{\sqrt r} \sum_{j=1}^{r}
        \bigl(1\{e^{m/2} \xi_j \le u\} - \tfrac12\bigr), \quad
      \Theta = \frac{\vartheta(\sqrt 2)^2 + \vartheta(-\sqrt 2)^2}{2}.

    If the moment is infinite, m grows without bound, half of the numbers are below u,
    and Theta is chi-square with one degree of freedom. If it exists, m stays where it
    is, and Theta grows like r. No index is estimated, and no k is chosen.

    **The test is asymptotic, and m grows slowly.** At the level of 5 % it calls the
    variance finite in 45 % of samples of 10,000 draws of a Pareto law of index 1.5, and
    in 98 % of a stable law of index 1.9. Only a moment that is plainly infinite, as the
    variance of a Cauchy law, is rarely called finite. And a moment that exists but is
    large, as that of a lognormal law of sigma 2, is rarely found (4 %). So use it only
    beside `hill`, and look at `plot_moment`. The tables are in
    `docs/tail_index.md`.

    Another key gives another p-value; report the key.

    Args:
      samples: floating array of at least 100 independent draws along the axis, of any
        sign. The scale does not matter. If the mean is not zero, subtract it.
      key: an integer seed, a typed key or a legacy key.
      order: p, positive; not traced. Keep it small: m is at most n times its second
        factor, `(E|N|^(p/2))^2 / E|N|^p`, which is 1/1.6 for p = 2 and 1/733 for p = 20.
        With fewer draws than that makes up for, every moment is called finite.
      axis: the axis of the draws; None takes all axes together.

    Returns:
      A `FiniteMoment`. NaN if a draw is NaN or infinite, or all are zero.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if the order or the axis is out of range, or there are fewer than 100
        draws.

    Example:
      >>> import jax
      >>> import heavytail_optax as hto
      >>> draws = jax.random.normal(jax.random.key(0), (10_000,))
      >>> bool(hto.tail_index.finite_moment_test(draws, key=0).p_value < 0.05)
      True
      >>> cauchy = hto.tails.student_t(1.0).sample(jax.random.key(0), (10_000,))
      >>> bool(hto.tail_index.finite_moment_test(cauchy, key=0).p_value < 0.05)
      False

    References:
      Trapani, "Testing for (in)finite moments", Journal of Econometrics 191 (2016),
      equations 5 to 10, with the two places u of its simulations.
    """
    samples = check_samples(_NAME, samples, axis, least=_FEWEST)
    check_key(_NAME, key)
    check_positive(_NAME, "order", order)
    return _test(samples, tagged_key(key, _NAME), float(order))
