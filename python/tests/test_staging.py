"""Staging: files in order, the needed one first, each published as a whole."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from conftest import Nodes

import portway

SIZE = 2 << 20


def shards(nodes: Nodes, name: str, count: int) -> list[str]:
    (nodes.root / name).mkdir()
    names = [f"shard-{n:02}" for n in range(count)]
    for shard in names:
        (nodes.root / name / shard).write_bytes(os.urandom(SIZE))
    return names


def test_a_file_is_there_when_path_returns(engine, nodes: Nodes, name, tmp_path):
    order = shards(nodes, name, 8)
    with engine.stage(f"onprem:{name}", tmp_path / "tokens", order=order) as stage:
        for shard in order:
            path = stage.path(shard)
            assert path == tmp_path / "tokens" / shard
            assert path.read_bytes() == (nodes.root / name / shard).read_bytes()
        assert stage.wait() == portway.StageProgress(8, 8, 0, 8 * SIZE, 8 * SIZE, 0)
    # A second job finds all of it there.
    with engine.stage(f"onprem:{name}", tmp_path / "tokens", order=order) as stage:
        assert [path.name for path in stage] == order
        assert stage.progress().bytes_sent == 0


def test_a_file_that_is_needed_overtakes(engine, nodes: Nodes, name, tmp_path):
    order = shards(nodes, name, 40)
    with engine.stage(f"onprem:{name}", tmp_path / "t", order=order, at_once=1) as stage:
        stage.path(order[-1], timeout=30)
        assert stage.progress().files_done < 40


def test_without_an_order_files_come_by_name_and_asyncio_may_wait(nodes: Nodes, name, tmp_path):
    order = shards(nodes, name, 3)

    async def read() -> list[str]:
        with portway.Engine(nodes.home) as engine:
            with engine.stage(f"onprem:{name}", tmp_path / "t") as stage:
                return [path.name async for path in stage]

    assert asyncio.run(read()) == order


def test_a_missing_file_is_an_error_and_others_go_on(engine, nodes: Nodes, name, tmp_path):
    order = shards(nodes, name, 2)
    with engine.stage(f"onprem:{name}", tmp_path / "t", order=["none", *order]) as stage:
        assert stage.path(order[1]).exists()
        with pytest.raises(portway.NotFoundError):
            stage.path("none")
        with pytest.raises(portway.NotFoundError):
            stage.wait()
        # It is there now, so asking again tries again.
        (nodes.root / name / "none").write_text("late")
        assert stage.path("none").read_text() == "late"
        with pytest.raises(portway.ConfigError):
            stage.path("../outside")
    with pytest.raises(portway.NotFoundError):
        engine.stage("onprem:nowhere", tmp_path / "n")


def test_leaving_the_block_stops_and_a_later_stage_goes_on(engine, nodes: Nodes, name, tmp_path):
    order = shards(nodes, name, 30)
    target: Path = tmp_path / "t"
    with engine.stage(f"onprem:{name}", target, order=order, at_once=1) as stage:
        stage.path(order[0])
        begun = time.monotonic()
    assert time.monotonic() - begun < 10
    there = sum(path.name.startswith("shard") for path in target.iterdir())
    assert 1 <= there < 30
    with pytest.raises(portway.StoppedError):
        stage.path(order[-1])
    with engine.stage(f"onprem:{name}", target, order=order) as stage:
        assert stage.wait().bytes_sent <= (30 - there) * SIZE


def test_jobs_with_one_store_have_one_copy_on_disk(engine, nodes: Nodes, name, tmp_path):
    order = shards(nodes, name, 3)
    sent = []
    for job in "ab":
        how = {"store": tmp_path / "store", "copies": "hardlink"}
        with engine.stage(f"onprem:{name}", tmp_path / job, order=order, **how) as stage:
            assert [path.parent.name for path in stage] == [job] * 3
            sent.append(stage.wait().bytes_sent)
    assert sent == [3 * SIZE, 0]
    for shard in order:
        assert (tmp_path / "a" / shard).samefile(tmp_path / "b" / shard)


def test_copies_that_cannot_be_made_are_refused(engine, nodes: Nodes, name, tmp_path):
    shards(nodes, name, 1)
    with pytest.raises(portway.ConfigError, match="reflink, hardlink"):
        engine.stage(f"onprem:{name}", tmp_path / "t", store=tmp_path / "s", copies="symlink")
