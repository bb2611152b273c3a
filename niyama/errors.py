"""Errors that are shown to the user. Their text says what to change."""


class NiyamaError(Exception):
    """Base of the project's own errors."""


class ConfigurationError(NiyamaError):
    """A setting that cannot work: the process does not start."""


class UnavailableError(NiyamaError):
    """Something that this process needs (a broker, a database) does not answer."""
