"""Checkpoints: saved beside training, whole or not at all, the newest named, old ones removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Nodes, command

import portway


def steps(nodes: Nodes, name: str) -> list[str]:
    return sorted(path.name for path in (nodes.root / name).iterdir())


def test_the_newest_complete_checkpoint_is_named(engine, nodes: Nodes, name, tmp_path):
    with pytest.raises(portway.NotFoundError):
        engine.latest(f"onprem:{name}")
    (nodes.root / name / "step-99").mkdir(parents=True)
    assert engine.latest(f"onprem:{name}") is None, "nobody published step-99"
    (tmp_path / "model").write_text("weights")
    for step in (9, 10):
        engine.push(tmp_path, f"onprem:{name}/step-{step}").wait()
    newest = engine.latest(f"onprem:{name}")
    assert (newest.remote, newest.step) == (f"onprem:{name}/step-10", 10)
    assert (newest.files, newest.bytes) == (1, 7)
    engine.pull(newest.remote, tmp_path / "back").wait()
    assert (tmp_path / "back/model").read_text() == "weights"

    told = command(nodes.home, "watch", "--once", f"onprem:{name}")
    assert told.stdout.split()[0] == newest.remote


def test_watch_tells_of_each_newer_one(engine, nodes: Nodes, name, tmp_path):
    (tmp_path / "model").write_text("weights")
    engine.push(tmp_path, f"onprem:{name}/step-1").wait()
    environment = {"PORTWAY_HOME": str(nodes.home), "PATH": os.environ["PATH"]}
    words = [os.environ["PORTWAY_BIN"], "watch", "--interval", "1", f"onprem:{name}"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().startswith(f"onprem:{name}/step-1 ")
        engine.push(tmp_path, f"onprem:{name}/step-2").wait()
        assert watch.stdout.readline().startswith(f"onprem:{name}/step-2 ")
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=10) == 0


def test_old_checkpoints_go_unless_they_are_read(engine, nodes: Nodes, name, tmp_path):
    (tmp_path / "model").write_text("weights")
    for step in (1, 2, 3):
        engine.push(tmp_path, f"onprem:{name}/step-{step}").wait()
    with engine.hold(nodes.root / name / "step-1"):
        outcome = engine.push(tmp_path, f"onprem:{name}/step-4", keep=1, keep_every=3).wait()
        assert outcome.removed == ["step-2"]
        assert steps(nodes, name) == ["step-1", "step-3", "step-4"]
    assert engine.push(tmp_path, f"onprem:{name}/step-5", keep=1).wait().removed == [
        "step-4",
        "step-3",
        "step-1",
    ]
    with pytest.raises(portway.ConfigError):
        engine.push(tmp_path, f"onprem:{name}/step-6", keep=0)
    with pytest.raises(portway.ConfigError):
        engine.push(tmp_path, f"onprem:{name}/step-6", keep_every=5)
    with pytest.raises(FileNotFoundError):
        with engine.hold(nodes.root / name / "step-1"):
            pass


def test_a_save_returns_with_a_local_copy_and_is_pushed_from_there(
    engine, nodes: Nodes, name, tmp_path
):
    weights = np.arange(1 << 20, dtype=np.float32)
    files = {"model/weights": weights, "step": b"7"}
    save = engine.save(files, f"onprem:{name}/step-7", staging=tmp_path / "saves")
    weights[:] = 0
    outcome = save.wait()
    assert outcome.files == 2
    published = np.fromfile(nodes.root / name / "step-7/model/weights", np.float32)
    assert (published == np.arange(1 << 20)).all(), "what was there when save returned"
    assert list((tmp_path / "saves").iterdir()) == [], "nothing is left once it is published"

    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_text("content")
    engine.save(source, f"onprem:{name}/step-8").wait()
    assert (nodes.root / name / "step-8/sub/file").read_text() == "content"
    engine.save(source / "sub/file", f"onprem:{name}/one-file").wait()
    assert (nodes.root / name / "one-file").read_text() == "content"


def test_a_checkpoint_of_several_writers_appears_with_its_last_part(
    engine, nodes: Nodes, name, tmp_path
):
    def save(rank: int, attempt: str, content: bytes) -> None:
        target = f"onprem:{name}/step-7/rank-{rank}"
        engine.save({"w": content}, target, parts=3, attempt=attempt).wait()

    save(0, "first", b"of a job that died")
    for rank in (0, 1):
        save(rank, "second", f"of {rank}".encode())
    assert not (nodes.root / name).exists(), "nobody sees parts"
    save(2, "second", b"of 2")
    newest = engine.latest(f"onprem:{name}")
    assert (newest.step, newest.files) == (7, 3)
    contents = [(nodes.root / name / f"step-7/rank-{n}/w").read_text() for n in range(3)]
    assert contents == ["of 0", "of 1", "of 2"]

    (tmp_path / "part").write_text("part")
    target = f"onprem:{name}/step-8/"
    done = command(nodes.home, "push", "--parts", "1", str(tmp_path / "part"), target)
    assert done.returncode == 0, done.stderr
    assert engine.latest(f"onprem:{name}").step == 8
    with pytest.raises(portway.ConfigError, match="1 to 65536 parts"):
        engine.push(tmp_path, f"onprem:{name}/step-9/x", parts=0)
    with pytest.raises(portway.ReconfigureError, match="cannot be a part"):
        engine.push(tmp_path, "onprem:alone", parts=2).wait()


def test_a_save_that_cannot_be_written_leaves_nothing(engine, name, tmp_path):
    place = tmp_path / "saves"
    with pytest.raises(ValueError, match="not a path below"):
        engine.save({"a": b"1", "../b": b"2"}, f"onprem:{name}", staging=place)
    with pytest.raises(FileNotFoundError):
        engine.save(tmp_path / "none", f"onprem:{name}", staging=place)
    assert list(place.iterdir()) == []
    with pytest.raises(portway.UnknownNodeError):
        engine.save({"a": b"1"}, "onpram:x", staging=tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_killed_process_loses_no_save(nodes: Nodes, engine, name, tmp_path):
    place = tmp_path / "saves"
    text = f"""
        import portway, time
        engine = portway.Engine({str(nodes.home)!r})
        # Nobody is at that address, so it stays in the staging area.
        engine.save({{"model": b"7"}}, "portway://127.0.0.1:9/x", staging={str(place)!r})
        print("saved", flush=True)
        time.sleep(60)
    """
    words = [sys.executable, "-c", textwrap.dedent(text)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None and job.stdout.readline() == "saved\n"
        assert engine.resume_saves(staging=place) == [], "it is that process's"
        job.kill()
    (place / "half.tmp").mkdir()
    (save,) = (path for path in place.iterdir() if path.name != "half.tmp")
    order = (save / "save.json").read_text()
    (save / "save.json").write_text(order.replace("portway://127.0.0.1:9/x", f"onprem:{name}"))
    (push,) = engine.resume_saves(staging=place)
    push.wait()
    assert (nodes.root / name / "model").read_text() == "7"
    assert list(place.iterdir()) == []


def test_a_push_that_must_be_whole_publishes_nothing_else(engine, nodes: Nodes, name, tmp_path):
    (tmp_path / "good").write_text("good")
    restless: Path = tmp_path / "restless"
    restless.write_bytes(bytes(8 << 20))
    transfer = engine.push(tmp_path, f"onprem:{name}", whole=True)
    with open(restless, "ab", buffering=0) as file:
        while not transfer.done():
            file.write(b"more")
            time.sleep(0.0001)
    with pytest.raises(portway.IncompleteError, match="restless"):
        transfer.wait()
    assert not (nodes.root / name).exists()
