"""Who goes first, how fast and until when."""

from __future__ import annotations

import datetime
import os
import threading
import time
from pathlib import Path

import pytest
from conftest import Nodes

import portway


def written(path: Path, size: int) -> Path:
    path.write_bytes(bytes(range(256)) * (size // 256))
    return path


@pytest.mark.parametrize("priority", ["interactive", "staging", "bulk"])
def test_every_priority_moves_the_same(engine, nodes: Nodes, name, tmp_path, priority):
    source = written(tmp_path / "file", 1_024_000)
    pushed = engine.push(source, f"onprem:{name}/file", priority=priority).wait()
    assert pushed.bytes_total == 1_024_000
    engine.pull(f"onprem:{name}/file", tmp_path / "back", priority=priority).wait()
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    with engine.stage(f"onprem:{name}", tmp_path / "staged", priority=priority, share=False) as s:
        assert s.path("file", timeout=30).stat().st_size == 1_024_000


def native_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_threads_of_bulk_end_with_the_engine(nodes: Nodes, name, tmp_path):
    before = native_threads()
    with portway.Engine(nodes.home) as engine:
        engine.push(written(tmp_path / "f", 2560), f"onprem:{name}/f", priority="bulk").wait()
        names = [(p / "comm").read_text() for p in Path("/proc/self/task").iterdir()]
        assert any(it.startswith("portway-bulk") for it in names)
    until = time.monotonic() + 5
    while native_threads() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert native_threads() <= before and threading.active_count() >= 1


@pytest.mark.parametrize("limit", [3_000_000, "24Mb/s"])
def test_a_limit_holds(engine, nodes: Nodes, name, tmp_path, limit):
    source = tmp_path / "noise"
    source.write_bytes(os.urandom(3_000_000))
    begun = time.monotonic()
    engine.push(source, f"onprem:{name}/noise".replace("[", "-"), limit=limit).wait()
    assert time.monotonic() - begun > 0.8, "3 MB at 3 MB/s"


def test_what_cannot_be_in_time_is_refused(nodes: Nodes, name, tmp_path):
    source = tmp_path / "noise"
    source.write_bytes(os.urandom(20_000_000))
    with portway.Engine(nodes.home) as engine:
        remote = f"onprem:{name}/noise"
        # The rate of the way inside a site is that of the last transfer.
        engine.push(source, remote).wait()
        soon = datetime.timedelta(seconds=-1)
        with pytest.raises(portway.DeadlineError) as refused:
            engine.pull(remote, tmp_path / "late", deadline=soon).wait()
        assert refused.value.code == "deadline" and refused.value.advice == "reconfigure"
        assert isinstance(refused.value, portway.RefusedError)
        assert not (tmp_path / "late").exists()
        engine.pull(remote, tmp_path / "back").wait()
        later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        for target, deadline in (("a", later), ("b", later.timestamp())):
            engine.pull(remote, tmp_path / target, deadline=deadline).wait()
        with pytest.raises(portway.DeadlineError):
            engine.stage(f"onprem:{name}", tmp_path / "staged", deadline=soon)


def test_words_that_make_no_sense_are_told_at_once(engine, name, tmp_path):
    source, target = written(tmp_path / "f", 256), f"onprem:{name}/f"
    with pytest.raises(portway.ConfigError, match="priority"):
        engine.push(source, target, priority="urgent")
    with pytest.raises(portway.ConfigError, match="limit"):
        engine.push(source, target, limit="fast")
    with pytest.raises(portway.ConfigError, match="max_cost"):
        engine.push(source, target, max_cost="much")
    with pytest.raises(portway.LinkError):
        engine.push(source, target, link="none").wait()
