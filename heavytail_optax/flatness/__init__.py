"""How flat a minimum is: measures of sharpness, each with its error bar."""

from heavytail_optax.flatness._expected import ExpectedSharpness, expected_sharpness

__all__ = (
    "ExpectedSharpness",
    "expected_sharpness",
)
