"""What every plot of the library must have."""

from matplotlib.backends.backend_agg import FigureCanvasAgg


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
