# SPDX-License-Identifier: Apache-2.0
"""Owns the exceptions: a class for each code of a Status, with the same text."""
from mempool._mempool import StatusCode


class Error(RuntimeError):
    """How a call failed. str() gives "CODE: message", as Status::to_string() does."""

    def __init__(self, code: StatusCode, message: str, retry_after_ms: int = 0) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms
        """Milliseconds to wait before asking again; 0 when there is no hint."""

    def __reduce__(self) -> tuple[type, tuple[StatusCode, str, int]]:
        return type(self), (self.code, self.message, self.retry_after_ms)


class InvalidArgument(Error, ValueError):
    """The caller's words are wrong; trying again will not help."""


class NotFound(Error, LookupError):
    """No such prompt, peer, transfer or block."""


class AlreadyExists(Error):
    """The thing is there already."""


class ResourceExhausted(Error):
    """No room now; `retry_after_ms` says when to ask again."""


class Unavailable(Error, ConnectionError):
    """The peer cannot be reached, the pool is closed or this is a fork; a retry may work."""


class DeadlineExceeded(Error, TimeoutError):
    """The call's time is over."""


class Unsupported(Error):
    """This build, transport or layout cannot do it."""


class Cancelled(Error):
    """The caller or the peer took it back."""


class Corruption(Error):
    """The bytes are not those that were sealed."""


class Stale(Error):
    """The address names a block that has been freed, or another incarnation."""


class PermissionDenied(Error):
    """The peer could not prove the shared token."""


class Internal(Error):
    """A defect in mempool."""
