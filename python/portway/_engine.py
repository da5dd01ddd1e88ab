"""The engine of one home."""

from __future__ import annotations

import atexit
import json
import os
import weakref
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

from . import _log, _native
from ._file import RemoteFile
from ._options import Cost, Deadline, Limit, options
from ._reports import Checkpoint, Entry, Plan, Verification, of, read
from ._saves import Buffer, Hold, Saves
from ._stage import Stage
from ._transfer import Transfer, Work, finish

StrPath = str | PathLike[str]

_open: weakref.WeakSet[Engine] = weakref.WeakSet()


class Engine:
    """Everything that this process does as one node.

    `home` is a directory that `portway init` or `portway join` made; None takes `PORTWAY_HOME`,
    else the platform's directory.

    An engine has threads of its own, which end with `close()`, with the `with` block, or when the
    interpreter exits; what runs then is interrupted and can be resumed. Its methods may be called
    from any thread. After a fork the child must make its own: a call on the parent's raises
    `ForkedError`. With `multiprocessing`, make the engine in the worker.

    Paths of nodes are written `NODE:PATH` or `portway://ADDR:PORT/PATH`, as on the command line.

    Raises:
        HomeError: There is no home, or no identity in it.
        ConfigError: Its configuration has mistakes.
    """

    def __init__(self, home: StrPath | None = None) -> None:
        self._native = _native.Engine(home)
        self._process = os.getpid()
        self._closed = False
        _log.start()
        _open.add(self)

    def push(
        self,
        source: StrPath | Sequence[StrPath],
        target: str,
        *,
        checksum: bool = False,
        retry_s: int | None = None,
        transport: str = "auto",
        compress: str | None = None,
        limit: Limit | None = None,
        max_cost: Cost | None = None,
        deadline: Deadline | None = None,
        link: str | None = None,
        priority: str = "interactive",
        whole: bool = False,
        parts: int | None = None,
        attempt: str = "",
        basis: StrPath | None = None,
        keep: int | None = None,
        keep_every: int | None = None,
    ) -> Transfer:
        """Starts to send files or directories to a node, and returns at once.

        Readers at the node see nothing of it until all of it is there; to a path that exists
        already, each file is replaced as a whole. What the node has already does not travel.

        Args:
            source: One path, which becomes `target`; or several, which land in it.
            target: `NODE:PATH`; with a slash at its end the source lands below it.
            checksum: Read and compare content even where size and times say nothing changed.
            retry_s: Give up reconnecting after so many seconds; None takes the configured value.
            transport: `auto`, `rdma` or `quic`.
            compress: `auto`, `always` or `never`; None takes the configured value.
            limit: Send no more than this, in bytes per second or like `"200Mb/s"`, headers included.
            max_cost: Stop, resumably, before it costs more, in the home's currency (`CostError`).
            deadline: Refuse at once what cannot be there by then (`DeadlineError`): a `datetime`, a
                `timedelta` from now, or seconds since 1970. Of several links the cheapest is taken
                that can.
            link: Take this link of `portway.toml`; None takes the cheapest (`LinkError`).
            priority: `interactive`, `staging` or `bulk`: what it leaves of links and processors to
                transfers that come first, and bulk to everything else on the machine.
            whole: All or nothing: if an object cannot be moved, nothing is published
                (`IncompleteError`). Without it the others are (`PartialError`).
            parts: `target` is one of so many parts of the snapshot that is the directory around it,
                each pushed by a writer of its own under a name of its own. Nobody sees one before
                all are there: the last makes the snapshot appear. Each is all or nothing; what no
                other part joins for a week is removed.
            attempt: Parts of attempts of other names do not count. Give one where a job that begins
                again may save other content under the same names.
            basis: An earlier version of `source`, which the node may have beside `target` under the
                same name: where both have it, content goes as differences to it. None takes the
                checkpoint of the step before beside `source`, if `target` is called as it is.
            keep: Afterwards keep so many checkpoints of the highest steps beside the target, and
                remove older ones that this node pushed. What has no step in its name, or is being
                read, stays.
            keep_every: Keep as well those whose step is a multiple of this.

        Raises:
            UnknownNodeError, ConfigError: At once. All else comes from `Transfer.wait`.
        """
        sources = [source] if isinstance(source, (str, PathLike)) else list(source)
        words = options(
            checksum=checksum,
            retry_s=retry_s,
            transport=transport,
            compress=compress,
            limit=limit,
            max_cost=max_cost,
            deadline=deadline,
            link=link,
            priority=priority,
            whole=whole,
            parts=parts,
            attempt=attempt,
            basis=basis,
            keep=keep,
            keep_every=keep_every,
        )
        return Transfer(self._native.push(sources, target, words, None))

    def pull(
        self,
        source: str,
        target: StrPath,
        *,
        checksum: bool = False,
        retry_s: int | None = None,
        transport: str = "auto",
        compress: str | None = None,
        limit: Limit | None = None,
        max_cost: Cost | None = None,
        deadline: Deadline | None = None,
        link: str | None = None,
        priority: str = "interactive",
    ) -> Transfer:
        """Starts to fetch a file or directory from a node, and returns at once.

        Args:
            source: `NODE:PATH`.
            target: What it becomes here; with a slash at its end it lands below it.

        The other arguments, and what is raised, are those of `push`.
        """
        words = options(
            checksum=checksum,
            retry_s=retry_s,
            transport=transport,
            compress=compress,
            limit=limit,
            max_cost=max_cost,
            deadline=deadline,
            link=link,
            priority=priority,
        )
        return Transfer(self._native.pull(source, target, words))

    def plan(
        self,
        source: StrPath | Sequence[StrPath],
        target: str,
        *,
        checksum: bool = False,
        transport: str = "auto",
    ) -> Plan:
        """Finds out what a push would move and how long it would take; changes nothing."""
        return self._plan(source, target, checksum, transport).wait()

    def save(
        self,
        source: StrPath | Mapping[str, Buffer],
        target: str,
        *,
        staging: StrPath | None = None,
        parts: int | None = None,
        attempt: str = "",
        keep: int | None = None,
        keep_every: int | None = None,
        priority: str = "staging",
        limit: Limit | None = None,
    ) -> Transfer:
        """Saves a checkpoint beside training: returns as soon as its bytes are in a local staging
        area, and pushes them from there, all or nothing.

        The staged copy is durable before this returns, and goes once it is published. After a
        crash `resume_saves` pushes what was left.

        Args:
            source: A file or directory, which is cloned where the file system can and copied where
                it cannot; or names and their bytes (`bytes`, NumPy arrays, anything with a
                buffer), which are written.
            target: `NODE:PATH`, which becomes the checkpoint.
            staging: The staging area; None takes one below the home's state directory. On the file
                system of `source` a clone costs no time.
            parts, attempt, keep, keep_every: See `push`.
            priority, limit: Of the push. `bulk` leaves processors to training, too; on a machine
                whose processors are never idle the next save may have to wait for it.

        Raises:
            OSError: The staging area cannot be written; it is left as it was.
            UnknownNodeError, ConfigError: At once. All else comes from `Transfer.wait`.
        """
        self._native.check_target(target)
        order: dict[str, Any] = {"keep": keep, "keep_every": keep_every}
        order |= {"parts": parts, "attempt": attempt, "priority": priority, "limit": limit}
        return self._saves(staging).save(source, target, order)

    def resume_saves(self, *, staging: StrPath | None = None) -> list[Transfer]:
        """Pushes what earlier processes saved and did not get to publish, oldest first."""
        return self._saves(staging).resume()

    def latest(self, remote: str) -> Checkpoint | None:
        """The newest complete checkpoint of a directory; None if none is complete.

        Complete is what was published as a whole. The newest has the highest step, which is the
        last decimal number of its name, up to the name's first dot.

        Raises:
            NotFoundError: There is no such directory.
        """
        return self._latest(remote).wait()

    def open(self, remote: str, *, published: bool = False) -> RemoteFile:
        """Opens a file at a node for reading parts of it.

        What was published is verified chunk by chunk. The node reads its manifest for that, up to
        this file.

        Args:
            remote: `NODE:PATH`.
            published: Refuse a file that was not published, and so cannot be verified
                (`NotPublishedError`).
        """
        file, opening = self._native.open_file(remote, published)
        finish(opening)
        return RemoteFile(self._native, file, remote)

    def hold(self, path: StrPath) -> Hold:
        """A `with` block in which retention of a node of this machine does not remove the
        checkpoint `path` below its root. Others read by `pull`, which needs none of this."""
        return Hold(path)

    def stage(
        self,
        source: str,
        target: StrPath,
        *,
        order: Sequence[str] | None = None,
        at_once: int = 4,
        share: bool = True,
        store: StrPath | None = None,
        copies: str = "reflink",
        checksum: bool = False,
        retry_s: int | None = None,
        transport: str = "auto",
        compress: str | None = None,
        limit: Limit | None = None,
        max_cost: Cost | None = None,
        deadline: Deadline | None = None,
        link: str | None = None,
        priority: str = "staging",
    ) -> Stage:
        """Begins to fetch the files of a directory one by one, in the order in which they will be
        needed; for a `with` block.

        Args:
            source: `NODE:PATH`.
            target: The local directory. Several jobs may stage to the same one: each file moves
                once.
            order: Paths below `source`; None takes the files directly in it, by name.
            at_once: So many files move at once, 1 to 16. More hide the round trips of a long way.
            share: Have files from another site that a node of this site has, or fetches now, from
                there: the source gives each once.
            store: A directory that jobs of this machine share: the files go there, each once, and
                `target` gets copies that take no room. On the file system of `target`.
            copies: How they are made. "reflink": clones, which share blocks until someone writes to
                them, where the file system can (XFS, btrfs). "hardlink": other names of the
                same files, so nobody must write to them.
            deadline: For all of them together.

        The other arguments are those of `push`.
        """
        words = options(
            checksum=checksum,
            retry_s=retry_s,
            transport=transport,
            compress=compress,
            limit=limit,
            max_cost=max_cost,
            deadline=deadline,
            link=link,
            priority=priority,
        )
        names = None if order is None else list(order)
        if names is None:
            names = [entry.name for entry in self.ls(source) if entry.kind == "file"]
        how = {
            "order": names,
            "at_once": at_once,
            "share": share,
            "store": store,
            "copies": copies,
        }
        stage, begun = self._native.stage(source, target, how, words)
        finish(begun)
        return Stage(self._native, stage, Path(target), names)

    def ls(self, remote: str) -> list[Entry]:
        """What is at a path of a node.

        Raises:
            NotFoundError: Nothing is.
        """
        return self._ls(remote).wait()

    def verify(self, path: StrPath) -> Verification:
        """Has a published path, here or at a node, read from the medium and every digest compared.

        Raises:
            IncompleteError: It was not published by Portway, so there is nothing to compare with.
        """
        return self._verify(path).wait()

    @property
    def aio(self) -> AsyncFace:
        """The same questions for asyncio. Transfers are awaitable as they are."""
        return AsyncFace(self)

    def close(self) -> None:
        """Interrupts what runs, waits until it can be resumed (25 s at most), ends the threads."""
        if self._closed or self._process != os.getpid():
            return
        self._closed = True
        self._native.close()
        _log.stop()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _plan(
        self, source: StrPath | Sequence[StrPath], target: str, checksum: bool, transport: str
    ) -> Work[Plan]:
        sources = [source] if isinstance(source, (str, PathLike)) else list(source)
        words = options(checksum=checksum, transport=transport)
        return Work(self._native.plan(sources, target, words), lambda r: read(Plan, r))

    def _saves(self, staging: StrPath | None) -> Saves:
        place = Path(staging) if staging else Path(self._native.state_dir()) / "saves"

        def push(data: Path, target: str, save: Path, **kept: Any) -> Transfer:
            words = options(whole=True, **kept)
            return Transfer(self._native.push([data], target, words, save))

        return Saves(push, place)

    def _latest(self, remote: str) -> Work[Checkpoint | None]:
        def found(report: str) -> Checkpoint | None:
            fields = json.loads(report)
            return None if fields is None else of(Checkpoint, fields)

        return Work(self._native.latest(remote), found)

    def _ls(self, remote: str) -> Work[list[Entry]]:
        return Work(self._native.list_at(remote), lambda r: [of(Entry, e) for e in json.loads(r)])

    def _verify(self, path: StrPath) -> Work[Verification]:
        return Work(self._native.verify(os.fspath(path)), lambda r: read(Verification, r))


class AsyncFace:
    """What an `Engine` can be asked, as coroutines. Cancelling the task drops the question."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def plan(
        self,
        source: StrPath | Sequence[StrPath],
        target: str,
        *,
        checksum: bool = False,
        transport: str = "auto",
    ) -> Plan:
        """See `Engine.plan`."""
        return await self._engine._plan(source, target, checksum, transport)

    async def latest(self, remote: str) -> Checkpoint | None:
        """See `Engine.latest`."""
        return await self._engine._latest(remote)

    async def ls(self, remote: str) -> list[Entry]:
        """See `Engine.ls`."""
        return await self._engine._ls(remote)

    async def verify(self, path: StrPath) -> Verification:
        """See `Engine.verify`."""
        return await self._engine._verify(path)


@atexit.register
def _close_all() -> None:
    for engine in list(_open):
        engine.close()


os.register_at_fork(after_in_child=_log.forget)
