"""Saving beside training: a durable local copy first, then a push from there.

    STAGING/ID.tmp/         being filled, and locked by who fills it; or published, and being removed
    STAGING/ID/data         the file or directory to be pushed
    STAGING/ID/save.json    where it goes; locked by the process that pushes it

A save is a directory that appears by one rename, when all of it is durable, and goes by another once
it is published. So after a crash it is there as a whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from ._errors import ConflictError
from ._transfer import Transfer

# Anything that `write` takes: bytes, memoryview, a contiguous NumPy array.
Buffer = Any
_StrPath = str | os.PathLike[str]
# ioctl_ficlonerange(2): the clone of a file shares its blocks.
_FICLONE = 0x40049409


class Saves:
    """A staging area, and how to push from it."""

    def __init__(self, push: Callable[..., Transfer], place: Path) -> None:
        self._push = push
        self._place = place

    def save(
        self,
        source: _StrPath | Mapping[str, Buffer],
        target: str,
        how: Mapping[str, Any],
    ) -> Transfer:
        """See `Engine.save`."""
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The clock orders saves of one process; the number of the process tells two apart.
        name = f"{time.time_ns():020}-{os.getpid()}"
        filling, done = self._place / f"{name}.tmp", self._place / name
        filling.mkdir(mode=0o700)
        lock = os.open(filling, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                if isinstance(source, Mapping):
                    _write_all(source, filling / "data")
                else:
                    _copy_all(Path(source), filling / "data")
                order = {"target": target, **how}
                _write(filling / "save.json", json.dumps(order).encode())
                os.fsync(lock)
                filling.rename(done)
                _sync(self._place)
            except BaseException:
                shutil.rmtree(filling, ignore_errors=True)
                raise
            return self._start(done)
        finally:
            os.close(lock)

    def resume(self) -> list[Transfer]:
        """See `Engine.resume_saves`."""
        transfers = []
        for path in sorted(self._place.iterdir()) if self._place.is_dir() else []:
            try:
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.suffix == ".tmp":
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    transfers.append(self._start(path))
            except (BlockingIOError, ConflictError, FileNotFoundError):
                pass  # Another process saves it, pushes it, or has just published it.
            finally:
                os.close(lock)
        return transfers

    def _start(self, save: Path) -> Transfer:
        order = json.loads((save / "save.json").read_bytes())
        return self._push(save / "data", order.pop("target"), save, **order)


class Hold:
    """Keeps a checkpoint of this machine from being removed while it is read; see `Engine.hold`."""

    def __init__(self, path: _StrPath) -> None:
        self._path = path
        self._lock = -1

    def __enter__(self) -> Hold:
        self._lock = os.open(self._path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            # It may have been taken away just before; then this raises FileNotFoundError, or
            # another has its name.
            if not os.path.samestat(os.stat(self._path), os.fstat(self._lock)):
                raise FileNotFoundError(f"{self._path} was removed")
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._lock)


def _write_all(files: Mapping[str, Buffer], top: Path) -> None:
    for name, content in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"{name!r} is not a path below the checkpoint")
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        _write(top / path, content)
    top.mkdir(exist_ok=True)
    _sync_dirs(top)


def _copy_all(source: Path, top: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, top, symlinks=True, copy_function=_clone)
        _sync_dirs(top)
    else:
        _clone(str(source), str(top))


def _clone(source: str, target: str) -> str:
    with open(source, "rb") as old, open(target, "wb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fsync(new.fileno())
    shutil.copystat(source, target)
    return target


def _write(path: Path, content: Buffer) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_dirs(top: Path) -> None:
    for path, _, _ in os.walk(top):
        _sync(Path(path))


def _sync(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
