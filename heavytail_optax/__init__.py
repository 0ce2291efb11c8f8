"""Truncated heavy-tailed SGD as composable Optax transformations."""

__version__ = "0.1.0"
