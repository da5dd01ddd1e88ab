"""One rank of a job that saves or loads a checkpoint; run by `torch_dcp.py`, one process each."""

from __future__ import annotations

import json
import os
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import portway
import portway.torch


def state(mesh: object, filled: bool) -> dict[str, object]:
    """A state of 72 MiB and small things, spread over all ranks; the same for any number of them."""
    torch.manual_seed(7)

    def spread(tensor: torch.Tensor, placement: object) -> DTensor:
        tensor = tensor if filled else torch.zeros_like(tensor)
        return distribute_tensor(tensor, mesh, [placement])

    return {
        "model": {
            "rows": spread(torch.randn(8192, 4096).to(torch.bfloat16), Shard(0)),
            "columns": spread(torch.randn(1024, 2048), Shard(1)),
            "uneven": spread(torch.randn(13, 7, dtype=torch.float64), Shard(0)),
            "everywhere": spread(torch.randn(100), Replicate()),
        },
        "scalar": torch.tensor(3.5 if filled else 0.0),
        "complex": torch.tensor([1 + 2j]) if filled else torch.zeros(1, dtype=torch.complex64),
        "step": 1000 if filled else 0,
    }


def flat(value: object, name: str = "") -> dict[str, object]:
    """Everything below `value`, whole."""
    if isinstance(value, dict):
        return {k: v for key, it in value.items() for k, v in flat(it, f"{name}.{key}").items()}
    return {name: value.full_tensor() if isinstance(value, DTensor) else value}


def same(one: object, other: object) -> bool:
    """Whether two states are equal to the last bit."""
    a, b = flat(one), flat(other)
    equal = (torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a)
    return a.keys() == b.keys() and all(list(equal))


def main(how: str, home: str, remote: str, *mirror: str) -> None:
    """Saves or loads, and prints what was read."""
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    with portway.Engine(home) as engine:
        if how == "load":
            found, reader = state(mesh, False), portway.torch.Reader(remote, engine=engine)
            dcp.load(found, storage_reader=reader)
            report = {"needed": reader.bytes_needed, "fetched": reader.bytes_fetched}
            print(json.dumps({"same": same(found, state(mesh, True)), **report}))
        else:
            writer = portway.torch.Writer(remote, engine=engine, mirror=mirror)
            if how == "async":
                dcp.async_save(state(mesh, True), storage_writer=writer).result()
            elif how == "crash" and dist.get_rank() == 1:
                os._exit(9)
            else:
                dcp.save(state(mesh, True), storage_writer=writer)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
