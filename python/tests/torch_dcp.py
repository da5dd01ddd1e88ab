"""Checkpoints of `torch.distributed.checkpoint`, saved and loaded by real ranks over real nodes.

Needs PyTorch: `scripts/test-torch.sh` runs this.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Nodes

import portway
import portway.torch

RANK = Path(__file__).with_name("dcp_rank.py")


def job(world: int, *words: str) -> list[subprocess.CompletedProcess[str]]:
    """Runs a job of `world` ranks to its end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(RANK), *words],
            env={**os.environ, **common, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        ends = [rank.communicate(timeout=180) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [
        subprocess.CompletedProcess(rank.args, rank.returncode, out, err)
        for rank, (out, err) in zip(ranks, ends)
    ]


def well(ranks: list[subprocess.CompletedProcess[str]]) -> list[dict[str, int]]:
    """What the ranks of a job that went well print."""
    for rank in ranks:
        assert rank.returncode == 0, rank.stderr
    return [json.loads(line) for rank in ranks for line in rank.stdout.splitlines()]


@pytest.mark.parametrize("readers", [4, 2, 3, 1])
def test_another_number_of_ranks_loads_what_four_saved(
    nodes: Nodes, name: str, readers: int, engine: portway.Engine
) -> None:
    remote = f"onprem:{name.split('[')[0]}/step-1000"
    if not (nodes.root / remote.removeprefix("onprem:")).exists():
        well(job(4, "save", str(nodes.home), remote))
    reports = well(job(readers, "load", str(nodes.home), remote))
    assert [report["same"] for report in reports] == [True] * readers
    needed, fetched = (sum(report[key] for report in reports) for key in ("needed", "fetched"))
    print(f"{readers} ranks: needed {needed} bytes, fetched {fetched}, {fetched / needed:.3f}")
    # Ranks whose rows end within chunks fetch those at either end of them.
    assert fetched <= needed * (1.05 if 4 % readers == 0 else 1.15)


def test_the_checkpoint_is_there_when_all_have_saved_and_at_the_mirror_too(
    nodes: Nodes, name: str, engine: portway.Engine
) -> None:
    remote, mirror = f"onprem:{name}/a/step-5", f"onprem:{name}/b/step-5"
    well(job(2, "async", str(nodes.home), remote, mirror))
    for place in ("a", "b"):
        latest = engine.latest(f"onprem:{name}/{place}")
        assert latest is not None and latest.remote.endswith("step-5")
        reports = well(job(2, "load", str(nodes.home), f"onprem:{name}/{place}/step-5"))
        assert all(report["same"] for report in reports)


def test_what_a_crashed_job_left_is_no_checkpoint_and_the_next_save_takes_it_up(
    nodes: Nodes, name: str, engine: portway.Engine
) -> None:
    remote = f"onprem:{name}/step-7"
    assert job(2, "crash", str(nodes.home), remote)[1].returncode == 9
    assert not (nodes.root / name).exists(), "nobody sees what the first rank pushed"
    with pytest.raises(portway.torch.NotCompleteError, match="no complete checkpoint"):
        portway.torch.Reader(remote, engine=engine).read_metadata()
    well(job(2, "save", str(nodes.home), remote))
    assert all(report["same"] for report in well(job(2, "load", str(nodes.home), remote)))


def test_a_description_that_runs_code_is_refused(
    nodes: Nodes, name: str, engine: portway.Engine
) -> None:
    evil = nodes.home / name
    evil.mkdir()
    (evil / ".metadata").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    engine.push(evil, f"onprem:{name}").wait()
    with pytest.raises(portway.GiveUpError, match=r"os\.system does not belong"):
        portway.torch.Reader(f"onprem:{name}", engine=engine).read_metadata()
