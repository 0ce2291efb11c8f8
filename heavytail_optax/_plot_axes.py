"""The axes that a plot is drawn on."""

from typing import TYPE_CHECKING

from heavytail_optax._validation import type_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_axes(function: str, axes: "Axes | None") -> "Axes":
    """The given axes, or new ones.

    Raises:
      TypeError: if they are not matplotlib axes.
      ImportError: if matplotlib is missing.
    """
    try:
        from matplotlib import axes as matplotlib_axes
        from matplotlib import figure
    except ImportError as error:
        raise ImportError(
            f"`{function}` needs matplotlib: pip install matplotlib"
        ) from error
    if axes is None:
        # Not with pyplot, which keeps every figure until it is closed.
        return figure.Figure(figsize=(5.0, 3.5), layout="constrained").subplots()
    if not isinstance(axes, matplotlib_axes.Axes):
        raise type_error(function, "axes", "axes of matplotlib, or None", axes)
    return axes
