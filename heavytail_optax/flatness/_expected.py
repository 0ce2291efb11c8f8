"""Expected sharpness: how much the loss changes under Gaussian noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from heavytail_optax._keys import check_key, tagged_key
from heavytail_optax._result_text import is_one_number, short_repr, with_error
from heavytail_optax._typing import Key, Params, PyTree, Scalar
from heavytail_optax._validation import check_bool, check_count, check_positive
from heavytail_optax.flatness._arguments import (
    Loss,
    check_args,
    check_finite,
    check_floor,
    check_loss,
    check_params,
)
from heavytail_optax.flatness._loss_changes import (
    check_samples_at_once,
    loss_at,
    loss_changes,
    mean_and_standard_error,
)

_NAME = "expected_sharpness"


class ExpectedSharpness(NamedTuple):
    """Result of `expected_sharpness`.

    Attributes:
      mean: the mean over the samples, in units of the loss. shape=(), dtype: at least
        float32.
      standard_error: that of the mean; NaN for a single sample. shape=(), same dtype.
    """

    mean: jax.Array
    standard_error: jax.Array

    __repr__ = short_repr

    def __str__(self) -> str:
        if not is_one_number(self.mean):
            return repr(self)
        return f"expected sharpness {with_error(self.mean, self.standard_error)}"


def expected_sharpness(
    loss_fn: Loss,
    params: Params,
    *,
    key: Key,
    args: tuple[PyTree, ...] = (),
    stddev: Scalar = 0.01,
    num_samples: int = 100,
    signed: bool = False,
    adaptive: bool = False,
    floor: Scalar = 0.0,
    samples_at_once: int | None = None,
) -> ExpectedSharpness:
    r"""Expected sharpness: the mean change of the loss under Gaussian noise.

    .. math::
      S = \mathrm{E}\,\bigl|L(\theta + \nu) - L(\theta)\bigr|, \qquad
      \nu_i \sim N(0, s_i^2) \text{ independent}, \qquad
      s_i = \delta,

    without the absolute value if `signed`. If `adaptive`, the noise has

    .. math:: s_i = \sqrt{\delta^2 \theta_i^2 + \epsilon^2}

    that is, it is proportional to the weights. With `epsilon = 0` the measure is then
    the same for all rescalings of the network that do not change its function. For a
    quadratic loss, the signed measure is exactly `delta^2 tr(H) / 2`. At a minimum,
    where no change is negative, so is S itself.

    Cost: `num_samples + 1` evaluations of the loss, no gradient. Under `jit`, values
    are not checked. If the loss is not finite at `params`, or a traced `stddev` is not
    positive, the result is NaN (or infinity).

    Args:
      loss_fn: the loss L, called as `loss_fn(params, *args)`. It returns one floating
        number: the mean over all examples in `args`. Switch off dropout and the like.
      params: theta, a pytree of floating arrays. The loss gets each in its own dtype.
        Rounding loses noise far below the resolution of that dtype (in bfloat16, 1/256
        of the weight), so evaluate half-precision weights in float32.
      key: an integer seed, a typed key or a legacy key.
      args: the data, and any other arguments of the loss after the parameters. No array
        in it may be empty.
      stddev: delta, positive; in units of the weights, or relative to them if
        `adaptive`.
      num_samples: number of perturbations, at least one.
      signed: whether to average the change itself instead of its absolute value.
      adaptive: whether the noise is proportional to the weights.
      floor: epsilon, at least 0, in units of the weights; only with `adaptive`. It also
        moves weights that are zero.
      samples_at_once: number of perturbed losses that are computed in parallel. It
        bounds the memory. Default: as many as fit in 512 MiB, estimated from the
        largest operation of the loss.

    Returns:
      The mean and its standard error; it unpacks as `mean, standard_error`.

    Raises:
      TypeError: if an argument has the wrong type, a leaf of `params` is not floating,
        or the loss not a floating number.
      ValueError: if `params` or an array of `args` is empty, the loss is not a scalar
        or not finite at `params`, `stddev` is not positive, `floor` is negative or
        given without `adaptive`, or a count is below one.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> def loss(params, curvature):
      ...     return 0.5 * jnp.sum(curvature * params["w"] ** 2)
      >>> params = {"w": jnp.zeros(3)}
      >>> curvature = jnp.array([1.0, 2.0, 5.0])
      >>> mean, error = hto.flatness.expected_sharpness(
      ...     loss, params, key=0, args=(curvature,), num_samples=1000
      ... )
      >>> bool(abs(mean - 0.01**2 * 8.0 / 2) < 4 * error)
      True

    References:
      Zhu et al., ICML 2019 (arXiv 1803.00195), section 5, for the absolute change;
      Andriushchenko et al., ICML 2023 (arXiv 2302.07011), for adaptive noise; Jiang et
      al., ICLR 2020 (arXiv 1912.02178), for its floor.
    """
    params = check_params(_NAME, params)
    check_key(_NAME, key)
    args = check_args(_NAME, args)
    check_positive(_NAME, "stddev", stddev)
    num_samples = check_count(_NAME, "num_samples", num_samples)
    signed = check_bool(_NAME, "signed", signed)
    adaptive = check_bool(_NAME, "adaptive", adaptive)
    check_floor(_NAME, floor, adaptive)
    loss_fn = check_loss(_NAME, loss_fn, params, args)
    at_once = check_samples_at_once(
        _NAME, samples_at_once, num_samples, loss_fn, params, args
    )
    loss = check_finite(_NAME, loss_at(loss_fn, params, args))
    changes = loss_changes(
        loss_fn,
        params,
        args,
        tagged_key(key, _NAME),
        loss,
        jnp.asarray(stddev, loss.dtype),
        jnp.asarray(floor, loss.dtype),
        num_samples=num_samples,
        adaptive=adaptive,
        at_once=at_once,
    )
    values = changes if signed else jnp.abs(changes)
    return ExpectedSharpness(*mean_and_standard_error(values))
