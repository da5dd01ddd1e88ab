"""Tensors in memory of a GPU, against a fake libcuda over host memory; no GPU is needed or tried."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Nodes

import portway

# Runs in a process of its own: a library is loaded once and then for good.
JOB = """
import ctypes, gc, hashlib, json, sys
import portway
from portway import safetensors

home, remote, device, patterns = sys.argv[1:4] + [sys.argv[4].split(",")]
said = {}
with portway.Engine(home) as engine:
    try:
        loaded = safetensors.load(remote, patterns, engine=engine, device=device)
        said["tensors"] = {
            name: [list(t.shape), t.dtype, hashlib.sha256(t.numpy().tobytes()).hexdigest()]
            for name, t in loaded.items()
        }
        face = next(iter(loaded.values())).__cuda_array_interface__
        said["face"] = [face["typestr"], face["version"], bool(face["data"][0])]
        del loaded, face
    except (portway.Error, ValueError) as error:
        said["error"] = [type(error).__name__, str(error)]
gc.collect()
try:
    fake = ctypes.CDLL("libcuda.so.1")
    said["left"], said["copies"] = fake.fake_left(), fake.fake_copies()
except (OSError, AttributeError):
    pass
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a fake `libcuda.so.1`."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the fake libcuda")
    place = tmp_path_factory.mktemp("cuda")
    source = Path(__file__).with_name("fake_cuda.c")
    words = [compiler, "-shared", "-fPIC", "-O1", "-o", str(place / "libcuda.so.1"), str(source)]
    subprocess.run(words, check=True)
    return place


def load(
    nodes: Nodes, library: Path, remote: str, device: str = "cuda", **environment: str
) -> dict:
    """What the job said; `patterns` takes all tensors but `none`."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library), **environment}
    patterns = environment.pop("PATTERNS", "*")
    words = [sys.executable, "-c", JOB, str(nodes.home), remote, device, patterns]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def written(path: Path) -> dict[str, np.ndarray]:
    """A safetensors file with a tensor that takes several pieces, small ones, bits and nothing."""
    random = np.random.default_rng(11)
    arrays = {
        "wide": random.standard_normal((3, 1_600_003)).astype(np.float32),
        "bias": random.standard_normal(17).astype(np.float16),
        "half": random.integers(0, 1 << 16, (40, 50), dtype=np.uint16),
        "none": np.zeros((0, 4), np.float32),
        **{f"small.{n}": random.standard_normal(8) for n in range(20)},
    }
    header, at = {}, 0
    for name, array in arrays.items():
        kind = {"float32": "F32", "float16": "F16", "uint16": "BF16", "float64": "F64"}[
            str(array.dtype)
        ]
        place = [at, at + array.nbytes]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": place}
        at += array.nbytes
    text = json.dumps(header).encode()
    content = b"".join(array.tobytes() for array in arrays.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return arrays


@pytest.fixture
def model(engine: portway.Engine, name: str, tmp_path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Where a model is, and its tensors."""
    arrays = written(tmp_path / "model.safetensors")
    remote = f"onprem:{name}/model.safetensors"
    engine.push(tmp_path / "model.safetensors", remote).wait()
    return remote, arrays


def test_tensors_arrive_in_memory_of_the_device_and_nothing_is_left(nodes, library, model):
    import hashlib

    remote, arrays = model
    said = load(nodes, library, remote)
    assert set(said["tensors"]) == set(arrays)
    for name, (shape, dtype, digest) in said["tensors"].items():
        array = arrays[name]
        assert (shape, dtype) == (list(array.shape), str(array.dtype))
        assert digest == hashlib.sha256(array.tobytes()).hexdigest(), name
    assert said["face"] == ["<f4", 3, True]
    assert said["left"] == 0
    assert said["copies"] >= 3 + 22, "the wide one in pieces of 8 MiB"


def test_a_changed_chunk_never_gets_to_the_device(nodes, library, model):
    remote, _ = model
    path = nodes.root / remote.removeprefix("onprem:")
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    said = load(nodes, library, remote, PATTERNS="wide")
    assert said["error"][0] == "WrongContentError" and said["left"] == 0 and said["copies"] == 0


def test_a_device_that_is_full_gives_everything_back(nodes, library, model):
    said = load(nodes, library, model[0], FAKE_CUDA_BYTES="19201000")
    assert said["error"][0] == "DeviceMemoryError" and "fewer tensors" in said["error"][1]
    assert said["left"] == 0


def test_a_device_that_is_not_there_is_told(nodes, library, model, tmp_path):
    remote, _ = model
    said = load(nodes, library, remote, device="cuda:1")
    assert said["error"][0] == "NoDeviceError" and "1 GPUs" in said["error"][1]
    said = load(nodes, library, remote, device="tpu")
    assert said["error"][0] == "ValueError" and "cuda:N" in said["error"][1]
    (tmp_path / "libcuda.so.1").write_text("not a library")
    said = load(nodes, tmp_path, remote)
    assert said["error"][0] == "NoDeviceError" and 'device="cpu"' in said["error"][1]


def test_bits_are_what_ml_dtypes_says(engine, model):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    remote, arrays = model
    loaded = portway.safetensors.load(remote, ["half"], engine=engine, ml_dtypes=True)["half"]
    assert loaded.dtype == ml_dtypes.bfloat16
    assert (loaded.view(np.uint16) == arrays["half"]).all()
