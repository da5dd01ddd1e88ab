"""Exceptions: one class for each thing to do, and below it one for each cause worth catching."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._reports import Outcome


class Error(Exception):
    """Something went wrong, and nothing half done is visible because of it.

    Catch one of the four classes below it to decide by what to do, or one of theirs by cause.
    """

    code: str
    """Stable name of the cause, such as `peer-unreachable`."""
    hint: str
    """What to do, for people; empty if there is nothing sensible to say."""
    advice: str
    """`retry`, `resume`, `reconfigure` or `give up`."""
    exit_status: int
    """What the command `portway` exits with after this error."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        hint: str = "",
        advice: str = "",
        exit_status: int = 1,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.advice = advice
        self.exit_status = exit_status

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} (hint: {self.hint})" if self.hint else message


class RetryError(Error):
    """Something is in the way that passes by itself: do the same again later."""


class ResumeError(Error):
    """Part of it is done and kept: the same call goes on from there."""


class ReconfigureError(Error):
    """An argument, the configuration, an identity or a right is wrong: change it first."""


class GiveUpError(Error):
    """The same call would fail the same way."""


class ConflictError(RetryError):
    """Another transfer writes to the same path."""


class ChangedError(RetryError):
    """The file is another one than when it was opened: open it anew."""


class UnreachableError(RetryError):
    """The node does not answer, or its name does not resolve."""


class DisconnectedError(ResumeError):
    """The session was lost for longer than the transfer was to wait (`retry_s`)."""


class NoSpaceError(ResumeError):
    """A disk or quota is full: make room, then the same call goes on."""


class IncompleteError(ResumeError):
    """An object cannot be moved, so nothing of a push with `whole` was published."""


class StoppedError(ResumeError):
    """It was cancelled, or its engine was closed."""


class PartialError(ResumeError):
    """Some objects failed and the others were published; `outcome.failed` tells which and why."""

    outcome: Outcome


class HomeError(ReconfigureError):
    """There is no usable home, or no identity in it: `portway init` or `portway join` makes one."""


class ConfigError(ReconfigureError):
    """The configuration, or an argument, is not one that is understood."""


class UnknownNodeError(ReconfigureError):
    """No node of this name is known: `portway nodes add NAME ADDR:PORT`."""


class RefusedError(ReconfigureError):
    """The node refuses: by identity, or by its rules."""


class DeniedError(RefusedError):
    """The policy of a node forbids it: `portway policy explain` tells what decides."""


class DeadlineError(RefusedError):
    """It cannot be there in time: give it more time, or a faster link. Nothing was moved."""


class CostError(RefusedError):
    """It would cost more than `max_cost` or a budget allows; what was moved is kept."""


class LinkError(RefusedError):
    """The link that was named is not known, has no address of the node, or is closed now."""


class SourceError(ReconfigureError):
    """A local path is not there or cannot be read."""


class ForkedError(ReconfigureError):
    """The engine came here by a fork, without its threads: make one in each process."""


class NotFoundError(GiveUpError, FileNotFoundError):
    """The node has nothing under this path."""


class WrongContentError(GiveUpError):
    """What is there is not what was published: a disk, memory or somebody changed it."""


class NotPublishedError(GiveUpError):
    """What is there was not published by Portway, so nothing vouches for it."""


_CAUSES: dict[str, type[Error]] = {
    "address": ConfigError,
    "budget": CostError,
    "config": ConfigError,
    "changed": ChangedError,
    "conflict": ConflictError,
    "deadline": DeadlineError,
    "denied": DeniedError,
    "expired": RefusedError,
    "forked": ForkedError,
    "home": HomeError,
    "incomplete": IncompleteError,
    "identity": RefusedError,
    "identity-refused": RefusedError,
    "interrupted": StoppedError,
    "link-closed": LinkError,
    "no-identity": HomeError,
    "no-label": RefusedError,
    "no-manifest": NotPublishedError,
    "no-reflink": ConfigError,
    "no-space": NoSpaceError,
    "no-such-path": SourceError,
    "not-allowed": RefusedError,
    "not-found": NotFoundError,
    "other-filesystem": ConfigError,
    "peer-closed": DisconnectedError,
    "peer-silent": DisconnectedError,
    "peer-unreachable": UnreachableError,
    "resolve": UnreachableError,
    "revoked": RefusedError,
    "source": SourceError,
    "stopping": DisconnectedError,
    "unknown-link": LinkError,
    "unknown-node": UnknownNodeError,
    "unresolved": UnreachableError,
    "unsafe-path": ConfigError,
    "usage": ConfigError,
    "wrong-content": WrongContentError,
}
_ADVICE: dict[str, type[Error]] = {
    "retry": RetryError,
    "resume": ResumeError,
    "reconfigure": ReconfigureError,
    "give up": GiveUpError,
}


def of(code: str, message: str, hint: str, advice: str, exit_status: int) -> Error:
    """The exception for an error of the engine."""
    kind = _CAUSES.get(code) or _ADVICE[advice]
    return kind(message, code=code, hint=hint, advice=advice, exit_status=exit_status)


def partial(outcome: Outcome) -> PartialError:
    """The exception for a transfer that could not publish some objects."""
    path, why = outcome.failed[0]
    error = PartialError(
        f"{outcome.failed_total} objects were not published, {path} because: {why}",
        code="partial",
        hint="the same call tries them again",
        advice="resume",
        exit_status=3,
    )
    error.outcome = outcome
    return error
