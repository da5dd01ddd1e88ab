"""Files at a node, of which parts are read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import TracebackType

from . import _native
from ._transfer import Work, finish


class RemoteFile:
    """A file at a node, open for reading parts of it; made by `Engine.open`. Any thread may read."""

    def __init__(self, engine: _native.Engine, file: _native.File, remote: str) -> None:
        self._engine = engine
        self._file = file
        self._numbers = itertools.count()
        self.remote = remote
        """Where it is."""
        self.size: int = file.facts()[0]
        """Its length in bytes."""
        self.verified: bool = file.facts()[1]
        """What is read is compared, chunk by chunk, with what was published."""

    @property
    def bytes_fetched(self) -> int:
        """Content that was fetched so far: what was asked for, and the rest of its chunks."""
        return self._file.facts()[2]

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Reads ranges, each given by its first byte and its length; they end where the file does.

        All together take one round trip for every 16 MiB.

        Raises:
            ChangedError: The file is another one than when it was opened.
            WrongContentError: A chunk is not what was published.
        """
        number = next(self._numbers)
        job = self._engine.read_file(self._file, number, list(ranges))
        return Work(job, lambda _: self._file.take(number)).wait()

    def close(self) -> None:
        """Ends its session."""
        finish(self._engine.close_file(self._file))

    def __enter__(self) -> RemoteFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
