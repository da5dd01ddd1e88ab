"""Reading parts of files: ranges, fsspec, single tensors; only what is needed travels."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import numpy as np
import pytest
from conftest import Nodes

import portway
from portway import safetensors
from portway.fsspec import PortwayFileSystem

LAYERS, SIDE = 8, 512


def model(path: Path) -> dict[str, np.ndarray]:
    """A safetensors file with a large tensor and a small one for each layer."""
    rng = np.random.default_rng(3)
    arrays = {}
    for layer in range(LAYERS):
        weight = rng.normal(size=(SIDE, SIDE)).astype(np.float32)
        arrays[f"layers.{layer}.weight"] = weight
        arrays[f"layers.{layer}.bias"] = rng.normal(size=SIDE).astype(np.float64)
    header: dict[str, object] = {"__metadata__": {"format": "np"}}
    at = 0
    for name, array in arrays.items():
        kind = {"float32": "F32", "float64": "F64"}[str(array.dtype)]
        offsets = [at, at := at + array.nbytes]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = b"".join(array.tobytes() for array in arrays.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return arrays


def test_ranges_are_read_and_verified(engine, nodes: Nodes, name, tmp_path):
    content = np.random.default_rng(1).bytes(9_000_000)
    (tmp_path / "file").write_bytes(content)
    engine.push(tmp_path / "file", f"onprem:{name}/file").wait()
    with engine.open(f"onprem:{name}/file", published=True) as file:
        assert (file.size, file.verified) == (9_000_000, True)
        read = file.read([(8_999_990, 100), (5, 7), (0, 0)])
        assert read == [content[8_999_990:], content[5:12], b""]
        assert file.bytes_fetched < 1 << 20

        with open(nodes.root / name / "file", "r+b") as rot:
            rot.seek(5_000_000)
            rot.write(b"rot")
        with pytest.raises(portway.ChangedError):
            file.read([(0, 1)])
    with engine.open(f"onprem:{name}/file") as file:
        with pytest.raises(portway.WrongContentError):
            file.read([(5_000_000, 1)])
    (nodes.root / name / "plain").write_bytes(b"0123456789")
    with pytest.raises(portway.NotPublishedError):
        engine.open(f"onprem:{name}/plain", published=True)
    with engine.open(f"onprem:{name}/plain") as file:
        assert not file.verified and file.read([(2, 3)]) == [b"234"]


def test_tensors_are_read_one_by_one(engine, nodes: Nodes, name, tmp_path):
    arrays = model(tmp_path / "model.safetensors")
    remote = f"onprem:{name}/model.safetensors"
    engine.push(tmp_path / "model.safetensors", remote).wait()
    with engine.open(remote, published=True) as file:
        loaded = safetensors.read(file, ["layers.3.*", "layers.5.weight"])
        fetched = file.bytes_fetched
    assert set(loaded) == {"layers.3.weight", "layers.3.bias", "layers.5.weight"}
    for tensor, array in loaded.items():
        assert (array == arrays[tensor]).all() and array.dtype == arrays[tensor].dtype
    needed = sum(array.nbytes for array in loaded.values())
    print(f"needed {needed} bytes, fetched {fetched}")
    # With the header, whose length and content are two reads.
    assert fetched <= needed * 1.05

    everything = safetensors.load(remote, engine=engine)
    assert set(everything) == set(arrays)
    with pytest.raises(safetensors.NoSuchTensorError, match="layers.9"):
        safetensors.load(remote, ["layers.0.*", "layers.9.*"], engine=engine)
    (nodes.root / name / "noise").write_bytes(b"\xff" * 100)
    with pytest.raises(safetensors.FormatError):
        safetensors.load(f"onprem:{name}/noise", engine=engine, published=False)


def test_fsspec_opens_lists_and_reads_ranges(engine, nodes: Nodes, name, tmp_path):
    content = np.random.default_rng(2).bytes(12_000_000)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/table").write_bytes(content)
    (tmp_path / "text").write_text("one\ntwo\n")
    engine.push(tmp_path, f"onprem:{name}").wait()
    assert fsspec.get_filesystem_class("portway") is PortwayFileSystem
    fs = PortwayFileSystem(engine=engine, published=True, skip_instance_cache=True)
    assert fs.ls(f"portway://onprem/{name}", detail=False) == [
        f"onprem/{name}/sub",
        f"onprem/{name}/text",
    ]
    assert fs.info(f"onprem/{name}/sub/table")["size"] == 12_000_000
    assert fs.isdir(f"onprem/{name}/sub") and not fs.exists(f"onprem/{name}/none")
    assert sorted(fs.find(f"onprem/{name}")) == [f"onprem/{name}/sub/table", f"onprem/{name}/text"]
    with fs.open(f"portway://onprem/{name}/sub/table", block_size=1 << 20) as table:
        table.seek(6_000_000)
        assert table.read(1000) == content[6_000_000:6_001_000]
        table.seek(-10, 2)
        assert table.read() == content[-10:]
    assert fs.cat_file(f"onprem/{name}/sub/table", 10, 20) == content[10:20]
    ranges = fs.cat_ranges([f"onprem/{name}/sub/table"] * 2, [0, 9_000_000], [5, 9_000_005])
    assert ranges == [content[:5], content[9_000_000:9_000_005]]
    with fs.open(f"portway://{nodes.address}/{name}/text", "r") as text:
        assert text.readlines() == ["one\n", "two\n"]
    (nodes.root / name / "one").mkdir()
    (nodes.root / name / "one/one").write_text("1")
    assert fs.ls(f"onprem/{name}/one", detail=False) == [f"onprem/{name}/one/one"]
    assert fs.ls(f"onprem/{name}/text", detail=False) == [f"onprem/{name}/text"]
    with pytest.raises(NotImplementedError):
        fs.open(f"onprem/{name}/new", "wb")
    with pytest.raises(FileNotFoundError):
        fs.open(f"onprem/{name}/none")
