"""How flat a minimum is: measures of sharpness, each with its error bar."""

from heavytail_optax.flatness._expected import ExpectedSharpness, expected_sharpness
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
    "MaximalSettings",
    "MaximalSharpness",
    "PacBayesSettings",
    "PacBayesSharpness",
    "expected_sharpness",
    "maximal_sharpness",
    "pac_bayes_sharpness",
)
