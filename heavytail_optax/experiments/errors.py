"""What a command tells its user in a line, without a traceback."""


class JobError(Exception):
    """The job cannot be done as asked; the message says what to do."""
