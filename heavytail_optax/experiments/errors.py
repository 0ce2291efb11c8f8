"""What a command tells its user in a line, without a traceback."""

USAGE = 2
"""The exit status where what was typed cannot be, whenever that is seen: an option is wrong,
or names what is not there. What began and failed, or could not be read or written, has 1."""

IS_NO_DIRECTORY = FileExistsError, NotADirectoryError
"""What the system says where a directory that was named is a file."""


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
