"""Failures of the local stack. Their text says what to change."""

from niyama.errors import NiyamaError


class LocalStackError(NiyamaError):
    """A part of the local stack cannot be installed, started or reached."""


class ChildDiedError(LocalStackError):
    """A child process ended by itself. Carries the end of its log."""

    def __init__(self, name: str, exit_status: int, log_excerpt: str, log_path: object) -> None:
        super().__init__(
            f"{name} ended with status {exit_status}. The end of {log_path}:\n{log_excerpt}"
        )
        self.log_excerpt = log_excerpt
