"""Memory of NVIDIA GPUs, through libcuda, which is loaded when it is first needed.

Content goes through two buffers of pinned memory: while one is copied to the device, the other is
filled. What the engine hands out was compared with its digests before, so nothing else is copied.
"""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any

from ._errors import ReconfigureError, RetryError

_LIBRARY = "libcuda.so.1"
# Bytes of each of the two pinned buffers.
_BUFFER_BYTES = 8 << 20
_POINTER = ctypes.c_void_p
_ADDRESS = ctypes.c_uint64
# Types of the calls that are used (cuda.h); each answers with a CUresult.
_CALLS: dict[str, list[Any]] = {
    "cuInit": [ctypes.c_uint],
    "cuGetErrorString": [ctypes.c_int, _POINTER],
    "cuDeviceGetCount": [_POINTER],
    "cuDeviceGet": [_POINTER, ctypes.c_int],
    "cuDevicePrimaryCtxRetain": [_POINTER, ctypes.c_int],
    "cuDevicePrimaryCtxRelease_v2": [ctypes.c_int],
    "cuCtxPushCurrent_v2": [_POINTER],
    "cuCtxPopCurrent_v2": [_POINTER],
    "cuMemAlloc_v2": [_POINTER, ctypes.c_size_t],
    "cuMemFree_v2": [_ADDRESS],
    "cuMemHostAlloc": [_POINTER, ctypes.c_size_t, ctypes.c_uint],
    "cuMemFreeHost": [_POINTER],
    "cuMemcpyHtoDAsync_v2": [_ADDRESS, _POINTER, ctypes.c_size_t, _POINTER],
    "cuMemcpyDtoH_v2": [_POINTER, _ADDRESS, ctypes.c_size_t],
    "cuStreamCreate": [_POINTER, ctypes.c_uint],
    "cuStreamSynchronize": [_POINTER],
    "cuStreamDestroy_v2": [_POINTER],
}
_OUT_OF_MEMORY = 2


class NoDeviceError(ReconfigureError):
    """There is no GPU of this number, or no CUDA driver on this machine."""


class DeviceMemoryError(RetryError):
    """The GPU has not enough free memory for the tensors."""


class DeviceError(ReconfigureError):
    """The CUDA driver refuses a call."""


class DeviceTensor:
    """A tensor in memory of a GPU, which is freed with it.

    Libraries take it as it is, without a copy, by `__cuda_array_interface__` (version 3):
    `torch.as_tensor(tensor, device="cuda")`, `cupy.asarray(tensor)`. Types that NumPy does not have
    come as their bits, `uint16` or `uint8`: `torch.as_tensor(tensor).view(torch.bfloat16)`.
    """

    def __init__(self, device: Device, shape: tuple[int, ...], kind: str, bytes_: int) -> None:
        self._device = device
        self._freed = False
        self.shape = shape
        """Lengths by dimension."""
        self.dtype = kind
        """NumPy's name of the type."""
        self.nbytes = bytes_
        """Its length in bytes."""
        self.pointer: int = device.allocate(bytes_) if bytes_ else 0
        """Its address at the device; 0 if it has no bytes."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        import numpy as np

        return {
            "shape": self.shape,
            "typestr": np.dtype(self.dtype).str,
            "data": (self.pointer, False),
            "strides": None,
            "version": 3,
        }

    def numpy(self) -> Any:
        """A copy in host memory."""
        import numpy as np

        array = np.empty(self.shape, self.dtype)
        if self.nbytes:
            self._device.read(array.ctypes.data, self.pointer, self.nbytes)
        return array

    def free(self) -> None:
        """Gives the memory back now."""
        if not self._freed:
            self._freed = True
            if self.pointer:
                self._device.free(self.pointer)

    def __del__(self) -> None:
        # Not made, or the interpreter ends and with it the memory.
        if not getattr(self, "_freed", True):
            try:
                self.free()
            except Exception:
                pass


class Device:
    """A GPU, by its number; its primary context, which other libraries use, too."""

    def __init__(self, number: int) -> None:
        self._driver = _driver()
        count = ctypes.c_int()
        self._driver("cuDeviceGetCount", ctypes.byref(count))
        if not 0 <= number < count.value:
            raise NoDeviceError(
                f"this machine has {count.value} GPUs, so none is number {number}",
                code="no-device",
                hint="cuda:0 is the first; CUDA_VISIBLE_DEVICES hides others",
                advice="reconfigure",
            )
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._driver("cuDeviceGet", ctypes.byref(device), number)
        self._driver("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._device, self._context = device, context

    def allocate(self, bytes_: int) -> int:
        """Memory of the device; its address."""
        at = ctypes.c_uint64()
        with self:
            self._driver("cuMemAlloc_v2", ctypes.byref(at), bytes_)
        return at.value

    def free(self, at: int) -> None:
        """Gives memory back."""
        with self:
            self._driver("cuMemFree_v2", at)

    def read(self, to: int, at: int, bytes_: int) -> None:
        """Copies from the device to host memory."""
        with self:
            self._driver("cuMemcpyDtoH_v2", to, at, bytes_)

    def call(self, name: str, *arguments: Any) -> None:
        """A call of the driver in this device's context."""
        with self:
            self._driver(name, *arguments)

    def __enter__(self) -> Device:
        self._driver("cuCtxPushCurrent_v2", self._context)
        return self

    def __exit__(self, *_: object) -> None:
        before = ctypes.c_void_p()
        self._driver("cuCtxPopCurrent_v2", ctypes.byref(before))

    def __del__(self) -> None:
        if hasattr(self, "_context"):
            try:
                self._driver("cuDevicePrimaryCtxRelease_v2", self._device)
            except Exception:
                pass


class Copier:
    """Copies content to a device, for a `with` block; at its end all of it is there."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffers: list[tuple[ctypes.c_void_p, ctypes.c_void_p]] = []
        self._turn = 0

    def __enter__(self) -> Copier:
        try:
            for _ in range(2):
                pinned, stream = ctypes.c_void_p(), ctypes.c_void_p()
                self._device.call("cuMemHostAlloc", ctypes.byref(pinned), _BUFFER_BYTES, 0)
                self._buffers.append((pinned, stream))
                self._device.call("cuStreamCreate", ctypes.byref(stream), 0)
        except BaseException:
            self._end()
            raise
        return self

    def copy(self, at: int, content: bytes) -> None:
        """Begins to copy `content` to the address `at`."""
        whole = ctypes.cast(ctypes.c_char_p(content), ctypes.c_void_p).value or 0
        for begin in range(0, len(content), _BUFFER_BYTES):
            length = min(_BUFFER_BYTES, len(content) - begin)
            pinned, stream = self._buffers[self._turn]
            self._turn = 1 - self._turn
            # What was in this buffer before has to have left it.
            self._device.call("cuStreamSynchronize", stream)
            ctypes.memmove(pinned, whole + begin, length)
            self._device.call("cuMemcpyHtoDAsync_v2", at + begin, pinned, length, stream)

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        failed: Exception | None = None
        buffers, self._buffers = self._buffers, []
        for pinned, stream in buffers:
            calls = [("cuStreamSynchronize", stream), ("cuStreamDestroy_v2", stream)]
            for name, what in [*(calls if stream else []), ("cuMemFreeHost", pinned)]:
                try:
                    self._device.call(name, what)
                except Exception as error:
                    failed = failed or error
        if failed:
            raise failed


def device_of(word: str) -> int:
    """The number of `cuda` or `cuda:N`."""
    kind, colon, number = word.partition(":")
    if kind != "cuda" or (colon and not number.isdigit()):
        raise ValueError(f"device cannot be {word!r}: cpu, cuda or cuda:N")
    return int(number or 0)


def tensor(device: Device, shape: list[int], kind: str, bytes_: int) -> DeviceTensor:
    """Room for a tensor.

    Raises:
        ValueError: The shape has another length.
    """
    import numpy as np

    if math.prod(shape) * np.dtype(kind).itemsize != bytes_:
        raise ValueError("the bytes are not of this shape")
    return DeviceTensor(device, tuple(shape), kind, bytes_)


@functools.cache
def _driver() -> Driver:
    return Driver()


class Driver:
    """The library, initialised."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise NoDeviceError(
                f"no CUDA driver can be loaded: {error}",
                code="no-device",
                hint='install the NVIDIA driver, or load with device="cpu"',
                advice="reconfigure",
            ) from None
        self._calls = {}
        for name, arguments in _CALLS.items():
            call = getattr(library, name, None)
            if call is None:
                raise NoDeviceError(
                    f"{_LIBRARY} has no {name}",
                    code="no-device",
                    hint="a newer NVIDIA driver has it",
                    advice="reconfigure",
                )
            call.argtypes, call.restype = arguments, ctypes.c_int
            self._calls[name] = call
        self("cuInit", 0)

    def __call__(self, name: str, *arguments: Any) -> None:
        result = self._calls[name](*arguments)
        if result == 0:
            return
        words = ctypes.c_char_p()
        self._calls["cuGetErrorString"](result, ctypes.byref(words))
        told = f"{name}: {(words.value or b'unknown error').decode()} ({result})"
        if result == _OUT_OF_MEMORY:
            raise DeviceMemoryError(
                told, code="no-memory", hint="load fewer tensors at a time", advice="retry"
            )
        kind = NoDeviceError if name == "cuInit" else DeviceError
        raise kind(told, code="device", hint="`portway doctor` tells of GPUs", advice="reconfigure")
