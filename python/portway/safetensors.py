"""Tensors out of a safetensors file at a node: its header, then the chunks of those tensors only.

The format is that of https://github.com/huggingface/safetensors: eight bytes with the header's
length, a header in JSON, and tensors in row-major order.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import _cuda
from ._cuda import DeviceError, DeviceMemoryError, DeviceTensor, NoDeviceError
from ._engine import Engine
from ._errors import GiveUpError
from ._file import RemoteFile

if TYPE_CHECKING:
    import numpy as np

# The format's own bound, in bytes.
_HEADER_MAX = 100_000_000
_TYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    # NumPy has no such types: their bits.
    "BF16": "uint16",
    "F8_E4M3": "uint8",
    "F8_E5M2": "uint8",
}
_ML_TYPES = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
# What is read at once on the way to a device, in bytes and in pieces: what one question may ask for.
_PIECE_BYTES = 16 << 20
_PIECES = 1024


__all__ = [
    "DeviceError",
    "DeviceMemoryError",
    "DeviceTensor",
    "FormatError",
    "NoDeviceError",
    "NoSuchTensorError",
    "load",
    "read",
]


class NoSuchTensorError(GiveUpError):
    """No tensor of the file has such a name."""


class FormatError(GiveUpError):
    """The file is not a safetensors file."""


def load(
    remote: str,
    tensors: Sequence[str] = ("*",),
    *,
    engine: Engine,
    published: bool = True,
    device: str = "cpu",
    ml_dtypes: bool = False,
) -> dict[str, Any]:
    """Loads tensors from a file at a node, in three round trips and one more for every 16 MiB.

    Args:
        remote: `NODE:PATH` of the file.
        tensors: Names or patterns, as of `fnmatch`: `layers.0.*`.
        engine: The engine to use.
        published: Refuse a file that was not published, and so cannot be verified.
        device: `cpu`, `cuda` or `cuda:N`. Every chunk is compared with its digest before it is
            copied to a GPU, through pinned memory.
        ml_dtypes: On the CPU, arrays of BF16 and F8 have the types of the package `ml_dtypes`.

    Returns:
        By name, NumPy arrays, or with `cuda` a `DeviceTensor` each, which PyTorch and CuPy take as it
        is. BF16 comes as `uint16` and F8 as `uint8`, for NumPy has no such types: their bits, which
        `view` turns into what they are.

    Raises:
        NoSuchTensorError: A name or pattern meets nothing; nothing is loaded.
        FormatError: It is not a safetensors file.
        NoDeviceError: There is no such GPU, or no CUDA driver.
        DeviceMemoryError: The GPU has no room; what was loaded is freed.
        ImportError: `ml_dtypes` is wanted and not installed.
    """
    cuda = None if device == "cpu" else _cuda.Device(_cuda.device_of(device))
    with engine.open(remote, published=published) as file:
        return read(file, tensors, ml_dtypes) if cuda is None else _to_device(file, tensors, cuda)


def read(
    file: RemoteFile, tensors: Sequence[str], ml_dtypes: bool = False
) -> dict[str, np.ndarray[Any, Any]]:
    """`load` from a file that is open, to the CPU."""
    import numpy as np

    types: dict[str, Any] = dict(_TYPES)
    if ml_dtypes:
        import ml_dtypes as extra

        types.update({name: getattr(extra, kind) for name, kind in _ML_TYPES.items()})
    chosen = _chosen(file, tensors)
    loaded = {}
    contents = file.read([place for _, place in chosen.values()])
    for (name, (tensor, _)), content in zip(chosen.items(), contents):
        try:
            loaded[name] = np.frombuffer(content, types[tensor["dtype"]]).reshape(tensor["shape"])
        except ValueError:
            raise _wrong_shape(file, name) from None
    return loaded


def _to_device(
    file: RemoteFile, tensors: Sequence[str], device: _cuda.Device
) -> dict[str, _cuda.DeviceTensor]:
    loaded = {}
    with _cuda.Copier(device) as copier:
        wanted: list[tuple[int, tuple[int, int]]] = []
        for name, (tensor, (at, length)) in _chosen(file, tensors).items():
            kind = _TYPES[tensor["dtype"]]
            try:
                room = _cuda.tensor(device, tensor["shape"], kind, length)
            except (TypeError, ValueError):
                raise _wrong_shape(file, name) from None
            loaded[name] = room
            for begin in range(0, length, _PIECE_BYTES):
                piece = (at + begin, min(_PIECE_BYTES, length - begin))
                if len(wanted) == _PIECES or _bytes(wanted) + piece[1] > _PIECE_BYTES:
                    _move(file, copier, wanted)
                    wanted = []
                wanted.append((room.pointer + begin, piece))
        _move(file, copier, wanted)
    return loaded


def _bytes(wanted: list[tuple[int, tuple[int, int]]]) -> int:
    return sum(length for _, (_, length) in wanted)


def _move(
    file: RemoteFile, copier: _cuda.Copier, wanted: list[tuple[int, tuple[int, int]]]
) -> None:
    """Reads places of the file and begins to copy each to its address."""
    for (address, _), content in zip(wanted, file.read([place for _, place in wanted])):
        copier.copy(address, content)


def _chosen(
    file: RemoteFile, tensors: Sequence[str]
) -> dict[str, tuple[dict[str, Any], tuple[int, int]]]:
    """What the header says of these tensors, and where they lie."""
    header, begin = _header(file)
    names: list[str] = []
    for pattern in tensors:
        met = [name for name in header if fnmatch.fnmatchcase(name, pattern)]
        if not met:
            raise NoSuchTensorError(
                f"no tensor of {file.remote} is called {pattern}",
                code="no-tensor",
                hint=f"it has {', '.join(list(header)[:8])}{' ...' if len(header) > 8 else ''}",
                advice="give up",
            )
        names.extend(met)
    chosen = {}
    for name in dict.fromkeys(names):
        tensor = header[name]
        place = _place(file, begin, tensor)
        if tensor.get("dtype") not in _TYPES:
            raise _broken(file, f"{name} has the type {tensor.get('dtype')}")
        if not isinstance(tensor.get("shape"), list):
            raise _wrong_shape(file, name)
        chosen[name] = (tensor, place)
    return chosen


def _wrong_shape(file: RemoteFile, name: str) -> FormatError:
    return _broken(file, f"the bytes of {name} are not of its shape")


def _header(file: RemoteFile) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(file.read([(0, 8)])[0], "little")
    if file.size < 8 or length > min(_HEADER_MAX, file.size - 8):
        raise _broken(file, "its header does not fit")
    # Chunks of what was published end where the header ends, so this brings the header alone.
    text = file.read([(8, length)])[0]
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
    except (ValueError, AttributeError):
        raise _broken(file, "its header is not JSON") from None
    return header, 8 + length


def _place(file: RemoteFile, begin: int, tensor: Any) -> tuple[int, int]:
    try:
        first, end = (int(at) for at in tensor["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise _broken(file, "a tensor has no place") from None
    if not 0 <= first <= end <= file.size - begin:
        raise _broken(file, "a tensor lies outside")
    return begin + first, end - first


def _broken(file: RemoteFile, how: str) -> FormatError:
    return FormatError(
        f"{file.remote} is not a safetensors file: {how}", code="format", advice="give up"
    )
