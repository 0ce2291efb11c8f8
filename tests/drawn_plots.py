"""What every plot of the library must have."""

import contextlib
import warnings

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb


@contextlib.contextmanager
def no_warnings():
    """A warning is an error, unless Matplotlib 3.9 calls its parser by old names."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings(
            "ignore", "", DeprecationWarning, r"(matplotlib|pyparsing)\."
        )
        yield


def names(axes):
    """The names in the legend; none without one."""
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def check(axes):
    """Axes have labels, what has a name is in a legend, and the legend hides nothing."""
    assert axes.get_xlabel() and axes.get_ylabel()
    labels = axes.get_legend_handles_labels()[1]
    assert names(axes) == labels
    assert len(set(labels)) == len(labels)
    figure = axes.figure
    FigureCanvasAgg(figure).draw()
    for text in (axes.xaxis.label, axes.yaxis.label):
        assert_inside(text.get_window_extent(), figure.bbox)
    legend = axes.get_legend()
    if legend is not None:
        box = legend.get_window_extent()
        assert_inside(box, figure.bbox)
        for other in (axes.bbox, axes.xaxis.label.get_window_extent()):
            assert not box.overlaps(other)


def assert_inside(box, whole):
    assert whole.x0 <= box.x0 and box.x1 <= whole.x1
    assert whole.y0 <= box.y0 and box.y1 <= whole.y1


def pixels_of(axes, colour):
    """How many pixels within the axes have a colour, or nearly."""
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    left, low, right, high = (round(x) for x in axes.bbox.extents)
    image = np.asarray(canvas.buffer_rgba())[::-1][low:high, left:right, :3]
    distance = np.abs(image - 255.0 * np.asarray(to_rgb(colour))).max(axis=-1)
    return int((distance < 30.0).sum())
