"""Transfers: their numbers, their progress, and how they end."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import Nodes
from tqdm import tqdm

import portway


def tree(top: Path, size: int = 3 << 20) -> Path:
    """A model of `size` bytes that no other test has, and a small file of 6 bytes."""
    source = top / "step-1"
    (source / "shards").mkdir(parents=True)
    (source / "model").write_bytes(os.urandom(size))
    (source / "shards/a").write_bytes(os.urandom(6))
    return source


def content(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def test_a_tree_goes_there_and_back(engine, nodes: Nodes, name, tmp_path):
    source = tree(tmp_path)
    outcome = engine.push(source, f"onprem:{name}").wait()
    assert outcome.files == 2 and outcome.bytes_sent == outcome.bytes_total == (3 << 20) + 6
    assert content(source) == content(nodes.root / name)

    again = engine.push(source, f"onprem:{name}").wait(timeout=60)
    assert (again.bytes_sent, again.root) == (0, outcome.root)

    back = engine.pull(f"onprem:{name}", tmp_path / "back").wait()
    assert back.root == outcome.root
    assert content(source) == content(tmp_path / "back")


def test_several_sources_land_under_their_names(engine, nodes: Nodes, name, tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    engine.push([tmp_path / "a", str(tmp_path / "b")], f"onprem:{name}/").wait()
    assert content(nodes.root / name) == {"a": b"a", "b": b"b"}


def test_a_plan_changes_nothing_and_says_what_would_move(engine, nodes: Nodes, name, tmp_path):
    plan = engine.plan(tree(tmp_path), f"onprem:{name}")
    assert (plan.files, plan.bytes_to_send) == (2, (3 << 20) + 6)
    assert plan.transport in ("quic", "rdma") and plan.free_bytes > 0
    assert not (nodes.root / name).exists()


def test_listing_and_verifying(engine, nodes: Nodes, name, tmp_path):
    root = engine.push(tree(tmp_path), f"onprem:{name}/step-1").wait().root
    (entry,) = engine.ls(f"onprem:{name}")
    assert (entry.name, entry.kind, entry.digest) == ("step-1", "dir", root)
    assert engine.verify(f"onprem:{name}/step-1").ok

    with open(nodes.root / name / "step-1/model", "r+b") as model:
        model.write(b"rot")
    found = engine.verify(f"onprem:{name}/step-1")
    assert not found.ok and found.bad[0][0] == f"{name}/step-1/model"

    engine.pull(f"onprem:{name}/step-1/shards", tmp_path / "shards").wait()
    assert engine.verify(tmp_path / "shards").ok


def test_progress_moves_a_bar_to_its_end(engine, name, tmp_path):
    transfer = engine.push(tree(tmp_path, 30 << 20), f"onprem:{name}")
    with tqdm(unit="B", disable=True) as bar:
        outcome = transfer.follow(bar, interval_s=0.01)
        assert bar.n == bar.total == outcome.bytes_total
    seen = list(transfer.updates())
    assert seen[-1].phase == "ended" and seen[-1].bytes_done == outcome.bytes_total
    assert seen[-1].transfer_id == outcome.transfer_id and seen[-1].scan_done


def test_transfers_and_questions_are_awaitable(nodes: Nodes, name, tmp_path):
    async def both() -> None:
        with portway.Engine(nodes.home) as engine:
            transfer = engine.push(tree(tmp_path), f"onprem:{name}")
            # Two tasks may wait for one transfer.
            first, second = await asyncio.gather(transfer, transfer)
            assert first == second
            entries = await engine.aio.ls(f"onprem:{name}")
            assert {entry.name for entry in entries} == {"model", "shards"}
            assert (await engine.aio.verify(f"onprem:{name}")).ok
            assert (await engine.aio.plan(tmp_path, f"onprem:{name}")).bytes_to_send == 0
            with pytest.raises(portway.NotFoundError):
                await engine.aio.ls("onprem:nowhere")

    asyncio.run(both())


def unreachable(nodes: Nodes, tmp_path: Path, retry_s: int = 60) -> dict:
    """Arguments of a push that goes on for `retry_s`, or 10 s: nobody is there."""
    return {"source": tree(tmp_path), "target": "portway://127.0.0.1:9/x", "retry_s": retry_s}


def test_cancelling_an_awaiting_task_cancels_the_transfer(nodes: Nodes, tmp_path):
    async def cancelled() -> portway.Transfer:
        transfer = engine.push(**unreachable(nodes, tmp_path))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(transfer, 0.2)
        return transfer

    with portway.Engine(nodes.home) as engine:
        transfer = asyncio.run(cancelled())
        with pytest.raises(portway.StoppedError):
            transfer.wait(timeout=5)


def test_a_wait_ends_in_time_and_the_transfer_goes_on(engine, nodes: Nodes, tmp_path):
    transfer = engine.push(**unreachable(nodes, tmp_path))
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        transfer.wait(timeout=0.2)
    assert 0.2 <= time.monotonic() - begun < 2 and not transfer.done()
    assert transfer.progress().phase == "connecting"
    transfer.cancel()
    with pytest.raises(portway.StoppedError) as stopped:
        transfer.wait(timeout=5)
    assert stopped.value.advice == "resume"


def test_a_wait_does_not_hold_the_gil(engine, nodes: Nodes, tmp_path):
    transfer = engine.push(**unreachable(nodes, tmp_path))
    waiter = threading.Thread(target=lambda: pytest.raises(portway.StoppedError, transfer.wait))
    waiter.start()
    turns, end = 0, time.monotonic() + 0.3
    while time.monotonic() < end:
        time.sleep(0.001)
        turns += 1
    transfer.cancel()
    waiter.join(timeout=5)
    assert turns > 20 and not waiter.is_alive()


def test_ctrl_c_cancels_the_transfer_and_is_raised(engine, nodes: Nodes, tmp_path):
    transfer = engine.push(**unreachable(nodes, tmp_path))
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        transfer.wait(timeout=30)
    assert transfer.done()
    with pytest.raises(portway.StoppedError):
        transfer.wait()


def test_a_push_waits_for_a_node_that_comes_back(own_nodes: Nodes, tmp_path):
    source = tree(tmp_path, 1 << 20)
    with portway.Engine(own_nodes.home) as engine:
        own_nodes.stop()
        transfer = engine.push(source, "onprem:late")
        time.sleep(0.5)
        assert not transfer.done()
        own_nodes.start()
        transfer.wait(timeout=30)
    assert content(source) == content(own_nodes.root / "late")


def test_a_cancelled_push_goes_on_where_it_ended(own_nodes: Nodes, tmp_path):
    source = tree(tmp_path, 400 << 20)
    with portway.Engine(own_nodes.home) as engine:
        transfer = engine.push(source, "onprem:ck")
        while transfer.progress().bytes_done < 40 << 20:
            time.sleep(0.005)
        transfer.cancel()
        with pytest.raises(portway.StoppedError):
            transfer.wait()
        assert not (own_nodes.root / "ck").exists(), "nothing half done is visible"
        outcome = engine.push(source, "onprem:ck").wait()
    assert outcome.bytes_resumed > 0 and content(source) == content(own_nodes.root / "ck")
