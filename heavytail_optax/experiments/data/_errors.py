"""What goes wrong with data."""

from heavytail_optax.experiments.errors import JobError


class DataError(JobError):
    """The settings do not fit the data, or no usable data were found."""


class SourceMissingError(Exception):
    """A source has nothing of the data set, so that the next one has its turn.

    The message says why, to follow the source's name and a colon.
    """
