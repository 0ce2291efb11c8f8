"""The axes that a plot is drawn on, and its legend."""

import dataclasses
from typing import TYPE_CHECKING

from heavytail_optax._validation import type_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.gridspec import SubplotSpec
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Bbox, BboxBase

_CURVE = "curve"
# Each shows between the dashes of the others.
_DASHES = ((6.0, 3.0), (2.0, 3.0), (1.0, 5.0), (9.0, 3.0, 2.0, 3.0))
_BELOW = -38.0  # points: room for the ticks of an axis and its label
_MARGIN = 10.0  # points around a legend
_MOST_TAKEN = 0.6  # of the height of axes by a legend


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


def dashes(number: int) -> tuple[int, tuple[float, ...] | None]:
    """The pattern of a line that is drawn over so many others; the first is solid.

    Its gaps let those below through, so that lines which are equal can all be seen.
    """
    return (0, None) if number == 0 else (0, _DASHES[(number - 1) % len(_DASHES)])


def curves_on(axes: "Axes") -> int:
    """How many curves have been marked with `mark_curve`."""
    return sum(line.get_gid() == _CURVE for line in axes.lines)


def mark_curve(line: "Line2D", number: int) -> None:
    """Makes a curve that is drawn over so many others tell itself apart from them.

    A line gets its pattern. Points without a line become circles around those below.
    """
    line.set_gid(_CURVE)
    if line.get_linestyle() != "None":
        line.set_linestyle(dashes(number))
    elif number > 0:
        line.set_marker("o")
        line.set_fillstyle("none")
        line.set_markersize(4.0 + 3.0 * number)


def prefixed(label: str | None, name: str) -> str:
    """The name of a line or a band, beside that of what is drawn."""
    return name if label is None else f"{label}: {name}"


def write_in(axes: "Axes", text: str) -> None:
    """Writes into axes that would be empty."""
    middle = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.65, text, fontsize="small", **middle)


def legend_below(axes: "Axes") -> None:
    """A legend of all that has a name, where it hides nothing: below the axes.

    A constrained layout, as of the figures made here, makes room for it. In others, the
    axes are made lower.
    """
    if not axes.get_legend_handles_labels()[0]:
        return
    from matplotlib.transforms import ScaledTranslation

    down = ScaledTranslation(0.0, _BELOW / 72.0, axes.figure.dpi_scale_trans)
    # As few rows as fit: what the legend takes, the plot has not got.
    for columns in range(min(len(axes.get_legend_handles_labels()[0]), 4), 0, -1):
        legend = axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            bbox_transform=axes.transAxes + down,
            fontsize="x-small",
            frameon=False,
            ncols=columns,
            columnspacing=1.2,
            handlelength=2.4,
        )
        if columns == 1 or _extent(legend).width <= _room(axes):
            break
    if not axes.get_axes_locator() or isinstance(axes.get_axes_locator(), _Above):
        axes.set_axes_locator(_Above(axes, _extent(legend).height / axes.figure.dpi))
        axes.apply_aspect(axes.get_axes_locator()(axes, None))


@dataclasses.dataclass(frozen=True)
class _Above:
    """Where axes stand, so that so many inches are free below their label.

    Asked whenever the figure is drawn: `tight_layout` and `subplots_adjust` move the
    place, but not the room that is taken of it.
    """

    axes: "Axes"
    inches: float

    def get_subplotspec(self) -> "SubplotSpec | None":
        """Which `tight_layout` asks for."""
        return self.axes.get_subplotspec()

    def __call__(self, axes: "Axes", renderer: object) -> "Bbox":
        del renderer
        from matplotlib.layout_engine import ConstrainedLayoutEngine
        from matplotlib.transforms import Bbox

        figure, subplot = axes.figure, axes.get_subplotspec()
        place = axes.get_position(original=True)
        if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
            return place  # which has room for the legend
        floor = 0.0
        if subplot is not None and not subplot.is_last_row():
            spaces = subplot.get_gridspec().get_subplot_params(figure)
            floor = place.y0 - spaces.hspace * place.height
        needed = (_MARGIN - _BELOW) / 72.0 + self.inches
        low = max(floor + needed / figure.get_figheight(), place.y0)
        low = min(low, place.y0 + _MOST_TAKEN * place.height)
        return Bbox.from_extents(place.x0, low, place.x1, place.y1)


def _extent(legend: "Legend") -> "BboxBase":
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(legend.figure).get_renderer()
    return legend.get_window_extent(renderer)


def _room(axes: "Axes") -> float:
    """The width of a column of the figure that is the axes' own, in pixels."""
    places = axes.get_subplotspec()
    columns = 1 if places is None else places.get_gridspec().ncols
    return 0.9 * axes.figure.bbox.width / columns
