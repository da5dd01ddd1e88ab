"""What the engine reports. Sizes are in bytes and times in seconds, unless a name says otherwise."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Progress:
    """A transfer at one moment."""

    transfer_id: str
    """The transfer, the same at both ends and across resumes; empty until both know it."""
    phase: str
    """`connecting`, `queued`, `moving`, `publishing` or `ended`."""
    waits_for: str
    """What it waits for, in words; empty when it waits for nothing."""
    transport: str
    """`rdma` or `quic`."""
    files_total: int
    """Files known so far; final once `scan_done`."""
    files_done: int
    """Files that are durable at the receiver."""
    bytes_total: int
    """Content of the files known so far; final once `scan_done`."""
    scan_done: bool
    """All files are known."""
    bytes_sent: int
    """Content that crossed between the nodes, before compression."""
    bytes_deduplicated: int
    """Content that the receiver had already."""
    bytes_resumed: int
    """Content that an earlier run of this transfer had made durable."""
    bytes_wire: int
    """Payload of UDP, both directions."""
    elapsed_ms: int
    """Milliseconds since it began."""
    reconnects: int
    """Times that it reconnected."""

    @property
    def bytes_done(self) -> int:
        """Content that is settled, whichever way."""
        return self.bytes_sent + self.bytes_deduplicated + self.bytes_resumed


@dataclass(frozen=True)
class Outcome:
    """How a transfer ended: `bytes_total = bytes_sent + bytes_deduplicated + bytes_resumed`."""

    transfer_id: str
    """The transfer, the same at both ends and across resumes."""
    root: str
    """Root digest of the published snapshot (BLAKE3-256, hexadecimal)."""
    files: int
    """Files in it."""
    bytes_total: int
    """Their content."""
    bytes_sent: int
    """Content that crossed between the nodes, before compression."""
    bytes_deduplicated: int
    """Content that the receiver had already."""
    bytes_resumed: int
    """Content that an earlier run had made durable."""
    bytes_wire: int
    """Payload of UDP, both directions."""
    elapsed_s: float
    """Wall time in seconds."""
    transport: str
    """`rdma` or `quic`."""
    failed: list[tuple[str, str]]
    """Objects that failed alone: path and why."""
    failed_total: int
    """How many objects failed alone; the list above is capped."""
    skipped: list[tuple[str, str]]
    """Entries that were left out, sockets for example: path and why."""
    removed: list[str]
    """Older checkpoints that were removed at the node, as `keep` asks."""
    kept: list[tuple[str, str]]
    """Those that were to be removed and stay, and why: in use, or refused there."""


@dataclass(frozen=True)
class Plan:
    """What a push would do."""

    files: int
    """Files in the sources."""
    files_to_move: int
    """Files that would move at least partly."""
    bytes_total: int
    """Their content."""
    bytes_to_send: int
    """Content that would cross between the nodes."""
    bytes_deduplicated: int
    """Content that the receiver has."""
    bytes_resumed: int
    """Content that an interrupted run has made durable."""
    bytes_wire: int
    """IP packets that this node would send, headers included."""
    estimate_s: float | None
    """Estimated seconds; None if nothing is known of the path."""
    estimate_basis: str
    """Where the estimate comes from, in words."""
    free_bytes: int
    """Free at the receiver."""
    transport: str
    """`rdma` or `quic`."""
    transport_reason: str
    """Why that one, in words."""


@dataclass(frozen=True)
class Checkpoint:
    """The newest complete checkpoint of a directory."""

    remote: str
    """Where it is: `NODE:PATH`, to be pulled."""
    step: int | None
    """The last decimal number of its name, up to the name's first dot."""
    root: str
    """Root digest (BLAKE3-256, hexadecimal)."""
    files: int
    """Files in it."""
    bytes: int
    """Their content."""


@dataclass(frozen=True)
class StageProgress:
    """How staging stands."""

    files_total: int
    """Files that are asked for."""
    files_done: int
    """Files that are there."""
    files_failed: int
    """Files that failed, and that nobody has asked for again since."""
    bytes_total: int
    """Content of the files that are there."""
    bytes_sent: int
    """What of it crossed between the nodes."""
    bytes_from_site: int
    """What of that came from other nodes of this site, not from the source."""


@dataclass(frozen=True)
class Entry:
    """One line of a listing."""

    name: str
    """Name; bytes that are not printable are escaped."""
    kind: str
    """`file`, `dir`, `symlink` or `other`."""
    len: int
    """Content of a file in bytes."""
    mode: int
    """Permission bits."""
    mtime_s: int
    """Modification time, seconds since 1970."""
    digest: str | None
    """Root digest, if it was published as a whole."""


@dataclass(frozen=True)
class Verification:
    """What reading everything again found."""

    root: str
    """Root digest of the manifest that it was compared with."""
    files: int
    """Files checked."""
    bytes: int
    """Content read."""
    bad: list[tuple[str, str]]
    """What differs: path and how; at most 1,000."""
    bad_total: int
    """How many differ."""
    elapsed_s: float
    """Wall time in seconds."""

    @property
    def ok(self) -> bool:
        """Nothing differs."""
        return self.bad_total == 0


def read(kind: type[_T], report: str) -> _T:
    """One report of the engine, which comes as JSON."""
    return of(kind, json.loads(report))


def of(kind: type[_T], fields: dict[str, Any]) -> _T:
    """A report from its fields; those that this version does not show are left out."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    pairs = {"failed", "skipped", "bad"}.intersection(names)
    taken = {name: fields[name] for name in names}
    taken.update({name: [tuple(pair) for pair in fields[name]] for name in pairs})
    return kind(**taken)
