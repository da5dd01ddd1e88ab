"""Tensors out of a safetensors file at a node: its header, then the chunks of those tensors only.

The format is that of https://github.com/huggingface/safetensors: eight bytes with the header's
length, a header in JSON, and tensors in row-major order.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
) -> dict[str, np.ndarray[Any, Any]]:
    """Loads tensors from a file at a node, in three round trips and one more for every 16 MiB.

    Args:
        remote: `NODE:PATH` of the file.
        tensors: Names or patterns, as of `fnmatch`: `layers.0.*`.
        engine: The engine to use.
        published: Refuse a file that was not published, and so cannot be verified.

    Returns:
        Arrays by name. BF16 comes as `uint16` and F8 as `uint8`, for NumPy has no such types.

    Raises:
        NoSuchTensorError: A name or pattern meets nothing; nothing is loaded.
        FormatError: It is not a safetensors file.
    """
    with engine.open(remote, published=published) as file:
        return read(file, tensors)


def read(file: RemoteFile, tensors: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """`load` from a file that is open."""
    import numpy as np

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
    names = list(dict.fromkeys(names))
    ranges = [_place(file, begin, header[name]) for name in names]
    loaded = {}
    for name, content in zip(names, file.read(ranges)):
        tensor = header[name]
        if tensor["dtype"] not in _TYPES:
            raise _broken(file, f"{name} has the type {tensor['dtype']}")
        array = np.frombuffer(content, _TYPES[tensor["dtype"]])
        try:
            loaded[name] = array.reshape(tensor["shape"])
        except ValueError:
            raise _broken(file, f"the bytes of {name} are not of its shape") from None
    return loaded


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
