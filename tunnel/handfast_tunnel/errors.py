"""The errors that reach a person: each says what failed, which thing, why, and what to do."""

from __future__ import annotations

import errno


class HandfastError(Exception):
    """Base of all errors this package raises on purpose; `str()` is one line for a person."""


class ConfigurationError(HandfastError):
    """A configuration was refused whole; the running one is untouched.

    `code` is the positive errno that the configuration socket answers.
    """

    def __init__(self, message: str, code: int = errno.EINVAL) -> None:
        super().__init__(message)
        self.code = code


class StartError(HandfastError):
    """The process cannot start: no device, no permission, name taken."""
