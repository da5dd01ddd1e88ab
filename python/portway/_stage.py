"""Staging: files of a node arrive one by one, in the order in which they will be needed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from . import _native
from ._reports import StageProgress, read
from ._transfer import Work, finish


class Stage:
    """A directory of a node that is being staged to a local one. Made by `Engine.stage`.

    Leaving the `with` block interrupts what still moves; what is there stays, and the next stage
    goes on from it.
    """

    def __init__(
        self, engine: _native.Engine, stage: _native.Stage, target: Path, order: Sequence[str]
    ) -> None:
        self._engine = engine
        self._stage = stage
        self._target = target
        self._order = order
        self._closed = False

    def path(self, name: str, timeout: float | None = None) -> Path:
        """The local path of a file, once all of it is there.

        A file that is not there yet overtakes those whose turn has not come; one that failed is
        tried again.

        Raises:
            TimeoutError: It is still on its way after `timeout` seconds.
            NotFoundError: The node has no such file.
            Error: See there. The other files go on.
        """
        return self._path(name).wait(timeout)

    async def path_async(self, name: str) -> Path:
        """`path` for asyncio."""
        return await self._path(name)

    def __iter__(self) -> Iterator[Path]:
        """The files in the order given, each once it is there."""
        return (self.path(name) for name in self._order)

    async def __aiter__(self) -> AsyncIterator[Path]:
        for name in self._order:
            yield await self.path_async(name)

    def wait(self, timeout: float | None = None) -> StageProgress:
        """Waits until every file is there.

        Raises:
            Error: That of a file that failed.
        """
        job = self._engine.stage_wait(self._stage)
        return Work(job, lambda report: read(StageProgress, report)).wait(timeout)

    def progress(self) -> StageProgress:
        """How it stands."""
        return read(StageProgress, self._stage.progress())

    def close(self) -> None:
        """Interrupts what still moves, and waits until it can be resumed."""
        if not self._closed:
            self._closed = True
            finish(self._engine.stage_close(self._stage))

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _path(self, name: str) -> Work[Path]:
        job = self._engine.stage_path(self._stage, name)
        return Work(job, lambda _: self._target / os.fspath(name))
