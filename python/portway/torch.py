"""Checkpoints of `torch.distributed.checkpoint` at a node, written and read by all ranks.

    import torch.distributed.checkpoint as dcp

    writer = portway.torch.Writer("onprem:runs/7/step-1000", engine=engine)
    dcp.save(state, storage_writer=writer)          # or dcp.async_save
    dcp.load(state, storage_reader=portway.torch.Reader("onprem:runs/7/step-1000", engine=engine))

Each rank pushes what it holds as one safetensors file, `rank-00003.safetensors`, a part of the checkpoint
that nobody sees for itself. When all have, the coordinator adds `.metadata`, which says where everything
is, and the checkpoint appears: by one rename, or never. What a crashed job pushed is taken up by
the same save of as many ranks, and removed after a week.

A reader with another number of ranks fetches the rows that it needs of each tensor, and the rest of
their chunks.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadItemType,
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    SavePlanner,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from ._engine import Engine, StrPath
from ._errors import GiveUpError, NotFoundError

_METADATA = ".metadata"
# Most that is read at once, in bytes.
_READ_MAX = 64 << 20
# Names of types in safetensors; what has none is kept as bytes.
_TYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}

# Where something is: file, first byte, length.
_Place = tuple[str, int, int]


class NotCompleteError(NotFoundError):
    """There is no checkpoint, or not all ranks have saved theirs."""


class Writer(StorageWriter):
    """Writes the checkpoint `target` at a node; for `dcp.save` and `dcp.async_save`.

    Args:
        target: `NODE:PATH`, which becomes the checkpoint.
        engine: The engine to use.
        mirror: Further `NODE:PATH`s that get the same.
        staging: A local directory for a rank's file while it is pushed; None takes the system's
            temporary directory.
        keep, keep_every: See `Engine.push`; the coordinator's count.
        priority: See `Engine.push`; `bulk` leaves training alone that goes on beside an
            asynchronous save.

    Raises, from `dcp.save`: what `Transfer.wait` raises, within PyTorch's `CheckpointException`.
    """

    def __init__(
        self,
        target: str,
        *,
        engine: Engine,
        mirror: str | Sequence[str] = (),
        staging: StrPath | None = None,
        keep: int | None = None,
        keep_every: int | None = None,
        priority: str = "interactive",
    ) -> None:
        super().__init__()
        self._priority = priority
        mirrors = [mirror] if isinstance(mirror, str) else list(mirror)
        self._targets = [place.rstrip("/") for place in (target, *mirrors)]
        self._engine = engine
        self._staging = staging
        self._keep = {"keep": keep, "keep_every": keep_every}
        self._parts: dict[str, Any] = {}

    def reset(self, checkpoint_id: Any = None) -> None:
        """A checkpoint of another name, if one is given."""
        if checkpoint_id is not None:
            self._targets[0] = str(checkpoint_id).rstrip("/")

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing has to be prepared."""
        if not kwargs.get("use_collectives", True):
            raise ValueError("a checkpoint is sealed by the coordinator: use collectives")

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Everything is written as planned."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Each rank gets a file: a part of the checkpoint, if there is anything in it."""
        names = [f"rank-{rank:05}.safetensors" for rank in range(len(plans))]
        filled = [name for plan, name in zip(plans, names) if plan.items]
        digest = hashlib.blake2b("\n".join(filled).encode(), digest_size=16)
        # The coordinator's description is a part, too.
        self._parts = {"parts": len(filled) + 1, "attempt": digest.hexdigest()}
        return [replace(plan, storage_data=(name, self._parts)) for plan, name in zip(plans, names)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Writes and pushes what this rank holds."""
        name, parts = plan.storage_data
        done: Future[list[WriteResult]] = Future()
        with tempfile.TemporaryDirectory(dir=self._staging, prefix="portway-") as staging:
            file = Path(staging) / name
            results = _write(file, name, plan.items, planner)
            # A rank may have nothing of its own.
            if results:
                self._push(file, name, **parts)
        done.set_result(results)
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Brings the last part, with which the checkpoint appears; only at the coordinator."""
        metadata.storage_data = {it.index: it.storage_data for some in results for it in some}
        metadata.storage_meta = self.storage_meta()
        with tempfile.TemporaryDirectory(dir=self._staging, prefix="portway-") as staging:
            file = Path(staging) / _METADATA
            file.write_bytes(pickle.dumps(metadata))
            self._push(file, _METADATA, **self._parts, **self._keep)

    def storage_meta(self) -> StorageMeta:
        """Names the checkpoint."""
        return StorageMeta(checkpoint_id=self._targets[0])

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """Whether this may be `NODE:PATH`."""
        return ":" in str(checkpoint_id)

    def _push(self, source: Path, name: str, **how: Any) -> None:
        how["priority"] = self._priority
        places = [f"{target}/{name}" for target in self._targets]
        for push in [self._engine.push(source, place, **how) for place in places]:
            push.wait()


class Reader(StorageReader):
    """Reads the checkpoint `source` at a node; for `dcp.load`.

    Every chunk is compared with what was published. `bytes_needed` and `bytes_fetched` say what this
    rank asked for so far, and what came.
    """

    def __init__(self, source: str, *, engine: Engine) -> None:
        super().__init__()
        self._source = source.rstrip("/")
        self._engine = engine
        self._metadata: Metadata | None = None
        self.bytes_needed = 0
        self.bytes_fetched = 0

    def reset(self, checkpoint_id: Any = None) -> None:
        """Another checkpoint, if one is given."""
        if checkpoint_id is not None:
            self._source = str(checkpoint_id).rstrip("/")

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What is in the checkpoint, and where.

        Raises:
            NotCompleteError: There is none, or it is not sealed.
        """
        place = f"{self._source}/{_METADATA}"
        try:
            with self._engine.open(place, published=True) as file:
                content = file.read([(0, file.size)])[0]
        except NotFoundError as error:
            raise NotCompleteError(
                f"there is no complete checkpoint {self._source}",
                code="not-complete",
                hint="Engine.latest names the newest complete one",
                advice="give up",
            ) from error
        return _unpickled(content, self._source)

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Keeps what was read of the checkpoint."""
        self._metadata = metadata

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Everything is read as planned."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Ranks read for themselves."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Reads what this rank needs, file by file."""
        items: dict[str, list[ReadItem]] = {}
        for item in plan.items:
            items.setdefault(self._place(item.storage_index)[0], []).append(item)
        for name, wanted in items.items():
            with self._engine.open(f"{self._source}/{name}", published=True) as file:
                for batch in _batches(wanted, self._range):
                    ranges = [self._range(item) for item in batch]
                    for item, content in zip(batch, file.read(ranges)):
                        self._load(item, content, planner)
                    self.bytes_needed += sum(length for _, length in ranges)
                self.bytes_fetched += file.bytes_fetched
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """Whether this may be `NODE:PATH`."""
        return ":" in str(checkpoint_id)

    def _place(self, index: MetadataIndex) -> _Place:
        assert self._metadata is not None and self._metadata.storage_data is not None
        return self._metadata.storage_data[index]  # type: ignore[no-any-return]

    def _tensor(self, index: MetadataIndex) -> tuple[torch.Size, torch.dtype]:
        """Shape and type of a stored part of a tensor."""
        assert self._metadata is not None
        stored = self._metadata.state_dict_metadata[index.fqn]
        assert isinstance(stored, TensorStorageMetadata)
        sizes = (chunk.sizes for chunk in stored.chunks if chunk.offsets == index.offset)
        return next(sizes, stored.size), stored.properties.dtype

    def _range(self, item: ReadItem) -> tuple[int, int]:
        """First byte and length of what is needed: rows, for they lie together."""
        _, first, length = self._place(item.storage_index)
        if item.type == LoadItemType.BYTE_IO:
            return first, length
        sizes, dtype = self._tensor(item.storage_index)
        if not sizes:
            return first, length
        row = sizes[1:].numel() * dtype.itemsize
        return first + item.storage_offsets[0] * row, item.lengths[0] * row

    def _load(self, item: ReadItem, content: bytes, planner: LoadPlanner) -> None:
        if item.type == LoadItemType.BYTE_IO:
            return planner.load_bytes(item, io.BytesIO(content))
        sizes, dtype = self._tensor(item.storage_index)
        rows = (item.lengths[0], *sizes[1:]) if sizes else ()
        # A buffer of its own: `bytes` cannot be written to, and PyTorch asks for more.
        tensor = (
            torch.frombuffer(bytearray(content), dtype=dtype)
            if content
            else torch.empty(0, dtype=dtype)
        )
        tensor = tensor.reshape(rows)
        for dim in range(1, len(sizes)):
            tensor = tensor.narrow(dim, item.storage_offsets[dim], item.lengths[dim])
        target = planner.resolve_tensor(item).detach()
        target.copy_(tensor)
        planner.commit_tensor(item, target)


def _write(
    file: Path, name: str, items: Iterable[WriteItem], planner: SavePlanner
) -> list[WriteResult]:
    """Writes items as a safetensors file, and says where each is."""
    # Large elements first, so that each begins at a multiple of its size.
    contents = [(item, _content(item, planner)) for item in items]
    contents.sort(key=lambda it: -it[1].dtype.itemsize)
    header: dict[str, Any] = {}
    places: list[tuple[WriteItem, int, int]] = []
    at = 0
    for item, tensor in contents:
        length = tensor.numel() * tensor.dtype.itemsize
        kept = tensor.dtype if tensor.dtype in _TYPES else torch.uint8
        shape = list(tensor.shape) if kept == tensor.dtype else [length]
        header[_name(item.index)] = {
            "dtype": _TYPES[kept],
            "shape": shape,
            "data_offsets": [at, at + length],
        }
        places.append((item, at, length))
        at += length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    begin = 8 + len(text)
    with open(file, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in contents:
            if tensor.numel():
                out.write(tensor.reshape(-1).view(torch.uint8).numpy())
    return [
        WriteResult(index=item.index, size_in_bytes=length, storage_data=(name, begin + at, length))
        for item, at, length in places
    ]


def _content(item: WriteItem, planner: SavePlanner) -> torch.Tensor:
    data = planner.resolve_data(item)
    if item.type == WriteItemType.BYTE_IO:
        assert isinstance(data, io.BytesIO)
        return torch.frombuffer(bytearray(data.getbuffer()), dtype=torch.uint8)
    assert isinstance(data, torch.Tensor)
    return data.detach().cpu().contiguous()


def _name(index: MetadataIndex) -> str:
    """A name of a part of a tensor that no other part has."""
    offset = "" if index.offset is None or not any(index.offset) else f"@{list(index.offset)}"
    return index.fqn + offset


def _batches(items: Sequence[ReadItem], place: Any) -> Iterator[list[ReadItem]]:
    """Items by their place, with at most `_READ_MAX` bytes or one item together."""
    batch: list[ReadItem] = []
    size = 0
    for item in sorted(items, key=place):
        length = place(item)[1]
        if batch and size + length > _READ_MAX:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += length
    if batch:
        yield batch


class _Unpickler(pickle.Unpickler):
    """Makes what describes checkpoints, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        plain = module == "torch" and (
            name == "Size" or isinstance(getattr(torch, name, None), torch.dtype)
        )
        if (
            plain
            or module == "torch.distributed.checkpoint.metadata"
            or (module, name) in _FUNCTIONS
        ):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into a checkpoint")


# How PyTorch pickles the properties of tensors.
_FUNCTIONS = {
    ("torch.serialization", "_get_layout"),
    ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"),
}


def _unpickled(content: bytes, source: str) -> Metadata:
    try:
        metadata = _Unpickler(io.BytesIO(content)).load()
    except Exception as error:
        raise _foreign(source, str(error)) from error
    if not isinstance(metadata, Metadata) or metadata.storage_data is None:
        raise _foreign(source, "its .metadata describes none")
    return metadata


def _foreign(source: str, how: str) -> GiveUpError:
    return GiveUpError(
        f"{source} is not a checkpoint of portway.torch: {how}", code="format", advice="give up"
    )
