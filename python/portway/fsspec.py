"""Files of nodes for fsspec: `fsspec.open("portway://onprem/datasets/a.parquet")`.

Reading only. Ranges are fetched with fsspec's own read-ahead, and verified chunk by chunk where the
file was published. The first part of a path is a node: a name, or ADDR:PORT.
"""

from __future__ import annotations

import threading
from typing import Any

from fsspec import AbstractFileSystem  # type: ignore[import-untyped]
from fsspec.spec import AbstractBufferedFile  # type: ignore[import-untyped]

from ._engine import Engine
from ._errors import Error
from ._file import RemoteFile
from ._reports import Entry


class PortwayFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The nodes that a home knows.

    Args:
        engine: The engine to use; None makes one at first use, in each process, for `home`.
        home: The home of that engine; see `Engine`.
        published: Refuse files that were not published, and so cannot be verified.
    """

    protocol = "portway"
    root_marker = ""

    def __init__(
        self,
        engine: Engine | None = None,
        home: str | None = None,
        published: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self._given = engine
        self._home = home
        self._published = published
        self._own: Engine | None = None
        self._lock = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The engine in use."""
        if self._given is not None:
            return self._given
        with self._lock:
            if self._own is None:
                self._own = Engine(self._home)
            return self._own

    def ls(self, path: str, detail: bool = True, **more: Any) -> list[Any]:
        """What is at a path: a directory's entries, or the file itself."""
        path = self._strip_protocol(path)
        entries = self.engine.ls(_remote(path))
        kinds = {"dir": "directory", "file": "file"}
        itself = self._is_file(path, entries)
        found = []
        for entry in entries:
            name = path if itself else f"{path}/{entry.name}"
            kind = kinds.get(entry.kind, "other")
            found.append({"name": name, "size": entry.len, "type": kind, "mtime": entry.mtime_s})
        return found if detail else [entry["name"] for entry in found]

    def _is_file(self, path: str, entries: list[Entry]) -> bool:
        """Whether the listing of a path is that of a file, which has itself as its only entry."""
        if len(entries) != 1 or entries[0].kind == "dir":
            return False
        name = path.rsplit("/", 1)[-1]
        if entries[0].name != name:
            return False
        try:
            # A directory may hold a single file of its own name.
            self.engine.ls(_remote(f"{path}/{name}"))
        except Error:
            return True
        return False

    def cat_ranges(
        self,
        paths: list[str],
        starts: list[int] | int,
        ends: list[int] | int,
        max_gap: int | None = None,
        on_error: str = "return",
        **more: Any,
    ) -> list[Any]:
        """Ranges of files; those of one file take one round trip for every 16 MiB."""
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        out: list[Any] = [b""] * len(paths)
        for path in dict.fromkeys(paths):
            places = [place for place, other in enumerate(paths) if other == path]
            try:
                with self._open_remote(path) as file:
                    ranges = [_range(starts[place], ends[place], file.size) for place in places]
                    for place, content in zip(places, file.read(ranges)):
                        out[place] = content
            except Exception as error:
                if on_error == "raise":
                    raise
                for place in places:
                    out[place] = error
        return out

    def _open_remote(self, path: str) -> RemoteFile:
        remote = _remote(self._strip_protocol(path))
        return self.engine.open(remote, published=self._published)

    def _open(self, path: str, mode: str = "rb", **more: Any) -> PortwayFile:
        if mode != "rb":
            raise NotImplementedError("files of nodes are read only; push to write")
        return PortwayFile(self, path, self._open_remote(path), **more)


class PortwayFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file of a node, with read-ahead."""

    def __init__(self, fs: PortwayFileSystem, path: str, file: RemoteFile, **more: Any) -> None:
        self._remote = file
        for word in ("autocommit", "size"):
            more.pop(word, None)
        super().__init__(fs, path, mode="rb", size=file.size, **more)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self._remote.read([(start, end - start)])[0]

    def close(self) -> None:
        """Ends its session."""
        if not self.closed:
            self._remote.close()
        super().close()


def _remote(path: str) -> str:
    node, _, below = path.partition("/")
    return f"portway://{node}/{below}" if ":" in node else f"{node}:{below}"


def _range(start: int | None, end: int | None, size: int) -> tuple[int, int]:
    first, stop, _ = slice(start, end).indices(size)
    return first, max(stop - first, 0)
