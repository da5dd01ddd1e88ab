"""The engine of one home."""

from __future__ import annotations

import atexit
import json
import os
import weakref
from os import PathLike
from types import TracebackType
from typing import Any, Sequence

from . import _log, _native
from ._reports import Entry, Plan, Verification, of, read
from ._transfer import Transfer, Work

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

        Raises:
            UnknownNodeError, ConfigError: At once. All else comes from `Transfer.wait`.
        """
        sources = [source] if isinstance(source, (str, PathLike)) else list(source)
        options = _options(checksum, retry_s, transport, compress)
        return Transfer(self._native.push(sources, target, options))

    def pull(
        self,
        source: str,
        target: StrPath,
        *,
        checksum: bool = False,
        retry_s: int | None = None,
        transport: str = "auto",
        compress: str | None = None,
    ) -> Transfer:
        """Starts to fetch a file or directory from a node, and returns at once.

        Args:
            source: `NODE:PATH`.
            target: What it becomes here; with a slash at its end it lands below it.

        The other arguments, and what is raised, are those of `push`.
        """
        options = _options(checksum, retry_s, transport, compress)
        return Transfer(self._native.pull(source, target, options))

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
        options = _options(checksum, None, transport, None)
        return Work(self._native.plan(sources, target, options), lambda r: read(Plan, r))

    def _ls(self, remote: str) -> Work[list[Entry]]:
        return Work(self._native.list(remote), lambda r: [of(Entry, e) for e in json.loads(r)])

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

    async def ls(self, remote: str) -> list[Entry]:
        """See `Engine.ls`."""
        return await self._engine._ls(remote)

    async def verify(self, path: StrPath) -> Verification:
        """See `Engine.verify`."""
        return await self._engine._verify(path)


def _options(
    checksum: bool, retry_s: int | None, transport: str, compress: str | None
) -> dict[str, Any]:
    return {
        "checksum": checksum,
        "retry_s": retry_s,
        "transport": transport,
        "compress": compress,
    }


@atexit.register
def _close_all() -> None:
    for engine in list(_open):
        engine.close()


os.register_at_fork(after_in_child=_log.forget)
