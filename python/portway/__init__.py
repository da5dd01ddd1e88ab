"""Portway moves training data between nodes: verified, deduplicated, resumable.

    import portway

    with portway.Engine() as eng:
        push = eng.push("ckpt/step-1000", "cloud:runs/7/step-1000")
        ...                                  # training goes on
        print(push.wait().root)              # published: readers see all of it

See `Engine` for everything that can be asked, and `Error` for what can go wrong.
"""

from ._engine import AsyncFace, Engine
from ._errors import (
    ChangedError,
    ConfigError,
    ConflictError,
    CostError,
    DeadlineError,
    DeniedError,
    DisconnectedError,
    Error,
    ForkedError,
    GiveUpError,
    HomeError,
    IncompleteError,
    LinkError,
    NoSpaceError,
    NotFoundError,
    NotPublishedError,
    PartialError,
    ReconfigureError,
    RefusedError,
    ResumeError,
    RetryError,
    SourceError,
    StoppedError,
    UnknownNodeError,
    UnreachableError,
    WrongContentError,
)
from ._file import RemoteFile
from ._reports import Checkpoint, Entry, Outcome, Plan, Progress, StageProgress, Verification
from ._saves import Hold
from ._stage import Stage
from ._transfer import Transfer

__all__ = [
    "AsyncFace",
    "ChangedError",
    "Checkpoint",
    "ConfigError",
    "ConflictError",
    "CostError",
    "DeadlineError",
    "DeniedError",
    "DisconnectedError",
    "Engine",
    "Entry",
    "Error",
    "ForkedError",
    "GiveUpError",
    "Hold",
    "HomeError",
    "IncompleteError",
    "LinkError",
    "NoSpaceError",
    "NotFoundError",
    "NotPublishedError",
    "Outcome",
    "PartialError",
    "Plan",
    "Progress",
    "ReconfigureError",
    "RefusedError",
    "RemoteFile",
    "ResumeError",
    "RetryError",
    "SourceError",
    "Stage",
    "StageProgress",
    "StoppedError",
    "Transfer",
    "UnknownNodeError",
    "UnreachableError",
    "Verification",
    "WrongContentError",
]
