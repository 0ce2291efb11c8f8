"""The axes that a plot is drawn on, and its legend."""

from typing import TYPE_CHECKING

from heavytail_optax._validation import type_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BELOW = -38.0  # points: room for the ticks of an axis and its label


def plot_axes(function: str, axes: "Axes | None", label: str | None = None) -> "Axes":
    """The given axes, or new ones.

    Raises:
      TypeError: if they are not matplotlib axes, or the label is not a string.
      ImportError: if matplotlib is missing.
    """
    try:
        from matplotlib import axes as matplotlib_axes
        from matplotlib import figure
    except ImportError as error:
        raise ImportError(
            f"`{function}` needs matplotlib: pip install matplotlib"
        ) from error
    if label is not None and not isinstance(label, str):
        raise type_error(function, "label", "a string, or None", label)
    if axes is None:
        # Not with pyplot, which keeps every figure until it is closed.
        return figure.Figure(figsize=(5.0, 4.0), layout="constrained").subplots()
    if not isinstance(axes, matplotlib_axes.Axes):
        raise type_error(function, "axes", "axes of matplotlib, or None", axes)
    return axes


def prefixed(label: str | None, name: str) -> str:
    """The name of a line or a band, beside that of what is drawn."""
    return name if label is None else f"{label}: {name}"


def write_in(axes: "Axes", text: str) -> None:
    """Writes into axes that would be empty."""
    middle = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.65, text, fontsize="small", **middle)


def legend_below(axes: "Axes") -> None:
    """A legend of all that has a name, where it hides nothing: below the axes.

    Figures with a layout, as those made here, make room for it. In others it takes the
    emptiest place within the axes, and can be seen through.
    """
    if not axes.get_legend_handles_labels()[0]:
        return
    if axes.figure.get_layout_engine() is None:
        axes.legend(loc="best", fontsize="small", framealpha=0.5)
        return
    from matplotlib.transforms import ScaledTranslation

    down = ScaledTranslation(0.0, _BELOW / 72.0, axes.figure.dpi_scale_trans)
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=axes.transAxes + down,
        fontsize="small",
        frameon=False,
    )
