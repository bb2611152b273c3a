"""Errors that a person is expected to read. Their text says what to change."""


class NiyamaError(Exception):
    """Base of the project's own errors."""


class ConfigurationError(NiyamaError):
    """A setting cannot work. The process does not start."""


class UnavailableError(NiyamaError):
    """Something this process needs (a broker, a database) does not answer."""
