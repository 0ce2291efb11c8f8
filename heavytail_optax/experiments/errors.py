"""What a command tells its user in a line, without a traceback."""

USAGE = 2
"""The exit status after a mistake in what was typed, early or late in the command."""


class JobError(Exception):
    """The job cannot be done as asked; the message says what to do."""

    def __init__(self, message: str, *, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class DataError(JobError):
    """The settings do not fit the data, or no usable data were found."""


class StoppedError(JobError):
    """A signal has stopped the command before it could begin with a run."""


class SourceMissingError(DataError):
    """A source has nothing of the data set; the message says why, after a colon."""
