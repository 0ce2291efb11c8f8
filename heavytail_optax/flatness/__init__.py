"""Measures of how flat a minimum is, each with its error bar."""

from heavytail_optax.flatness._barrier import LinearBarrier, linear_barrier
from heavytail_optax.flatness._batches import mean_over_batches
from heavytail_optax.flatness._critical import CriticalSharpness, critical_sharpness
from heavytail_optax.flatness._cross_entropy import softmax_cross_entropy
from heavytail_optax.flatness._curvature import (
    HessianEigenvalues,
    HessianTrace,
    hessian_eigenvalues,
    hessian_trace,
)
from heavytail_optax.flatness._density import HessianDensity, hessian_density
from heavytail_optax.flatness._directions import gradient_noise_direction
from heavytail_optax.flatness._escape import escape_profile
from heavytail_optax.flatness._escape_result import (
    EscapePaths,
    EscapeProfile,
    EscapeReference,
    EscapeSettings,
)
from heavytail_optax.flatness._expected import ExpectedSharpness, expected_sharpness
from heavytail_optax.flatness._filters import filter_normalise
from heavytail_optax.flatness._gauss_newton import gauss_newton_loss
from heavytail_optax.flatness._landscape import (
    LossLine,
    LossPlane,
    loss_line,
    loss_plane,
)
from heavytail_optax.flatness._maximal import (
    MaximalSettings,
    MaximalSharpness,
    maximal_sharpness,
)
from heavytail_optax.flatness._pac_bayes import (
    PacBayesSettings,
    PacBayesSharpness,
    pac_bayes_sharpness,
)
from heavytail_optax.flatness._parts import PartOfLoss, by_part
from heavytail_optax.flatness._plots import (
    plot_density,
    plot_escape_profile,
    plot_line,
    plot_plane,
)
from heavytail_optax.flatness._search import SharpnessSearch

__all__ = (
    "CriticalSharpness",
    "EscapePaths",
    "EscapeProfile",
    "EscapeReference",
    "EscapeSettings",
    "ExpectedSharpness",
    "HessianDensity",
    "HessianEigenvalues",
    "HessianTrace",
    "LinearBarrier",
    "LossLine",
    "LossPlane",
    "MaximalSettings",
    "MaximalSharpness",
    "PacBayesSettings",
    "PacBayesSharpness",
    "PartOfLoss",
    "SharpnessSearch",
    "by_part",
    "critical_sharpness",
    "escape_profile",
    "expected_sharpness",
    "filter_normalise",
    "gauss_newton_loss",
    "gradient_noise_direction",
    "hessian_density",
    "hessian_eigenvalues",
    "hessian_trace",
    "linear_barrier",
    "loss_line",
    "loss_plane",
    "maximal_sharpness",
    "mean_over_batches",
    "pac_bayes_sharpness",
    "plot_density",
    "plot_escape_profile",
    "plot_line",
    "plot_plane",
    "softmax_cross_entropy",
)
