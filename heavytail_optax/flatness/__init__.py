"""How flat a minimum is: measures of sharpness, each with its error bar."""

from heavytail_optax.flatness._batches import mean_over_batches
from heavytail_optax.flatness._curvature import (
    HessianEigenvalues,
    HessianTrace,
    hessian_eigenvalues,
    hessian_trace,
)
from heavytail_optax.flatness._density import HessianDensity, hessian_density
from heavytail_optax.flatness._expected import ExpectedSharpness, expected_sharpness
from heavytail_optax.flatness._gauss_newton import gauss_newton_loss
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

__all__ = (
    "ExpectedSharpness",
    "HessianDensity",
    "HessianEigenvalues",
    "HessianTrace",
    "MaximalSettings",
    "MaximalSharpness",
    "PacBayesSettings",
    "PacBayesSharpness",
    "expected_sharpness",
    "gauss_newton_loss",
    "hessian_density",
    "hessian_eigenvalues",
    "hessian_trace",
    "maximal_sharpness",
    "mean_over_batches",
    "pac_bayes_sharpness",
)
