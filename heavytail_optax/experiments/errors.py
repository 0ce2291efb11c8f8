"""What a command tells its user in a line, without a traceback."""


class JobError(Exception):
    """The job cannot be done as asked; the message says what to do."""


class DataError(JobError):
    """The settings do not fit the data, or no usable data were found."""


class SourceMissingError(DataError):
    """A source has nothing of the data set; the message says why, after a colon."""
