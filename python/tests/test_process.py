"""What an engine leaves in its process: threads, forks, exits, log records."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from conftest import Nodes

import portway


def engine_threads() -> set[str]:
    """Names of the threads of this process that are the engine's."""
    names = set()
    for thread in Path("/proc/self/task").iterdir():
        try:
            names.add((thread / "comm").read_text().strip())
        except OSError:
            pass  # It ended just now.
    return {name for name in names if name.startswith("portway")}


def no_thread_is_left() -> bool:
    """A thread that has ended and was joined may be listed for a moment longer."""
    end = time.monotonic() + 1
    while engine_threads() and time.monotonic() < end:
        time.sleep(0.01)
    return not engine_threads()


def test_a_closed_engine_leaves_no_thread_and_no_descriptor(nodes: Nodes, tmp_path):
    (tmp_path / "a").write_text("a")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        engine = portway.Engine(nodes.home)
        engine.push(tmp_path / "a", "onprem:closed/").wait()
        assert engine_threads()
        engine.close()
        engine.close()
        assert no_thread_is_left()
    assert threading.active_count() == 1
    del engine
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_closed_engine_says_so(nodes: Nodes):
    with portway.Engine(nodes.home) as engine:
        pass
    with pytest.raises(portway.ReconfigureError) as closed:
        engine.ls("onprem:")
    assert closed.value.code == "engine-closed"


def test_closing_interrupts_what_runs(nodes: Nodes, tmp_path):
    with portway.Engine(nodes.home) as engine:
        transfer = engine.push(tmp_path, "portway://127.0.0.1:9/x")
    with pytest.raises(portway.StoppedError):
        transfer.wait()


def script(text: str, *words: str, timeout: int = 30) -> subprocess.CompletedProcess[str]:
    words = (sys.executable, "-c", textwrap.dedent(text), *words)
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout)


def test_a_process_ends_though_nobody_closed_the_engine(nodes: Nodes, tmp_path):
    text = """
        import logging, portway, sys
        logging.disable()
        engine = portway.Engine(sys.argv[1])
        transfer = engine.push(sys.argv[2], "portway://127.0.0.1:9/x")
        print("ends", flush=True)
    """
    done = script(text, str(nodes.home), str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")


def in_a_child(engine: portway.Engine, home: Path, out) -> None:
    try:
        engine.ls("onprem:")
    except portway.ForkedError as error:
        out.put(error.code)
    with portway.Engine(home) as own:
        out.put(len(own.ls("onprem:")) >= 0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_needs_an_engine_of_its_own(nodes: Nodes):
    context = multiprocessing.get_context("fork")
    out = context.SimpleQueue()
    with portway.Engine(nodes.home) as engine:
        child = context.Process(target=in_a_child, args=(engine, nodes.home, out))
        child.start()
        child.join(timeout=30)
        assert child.exitcode == 0
        assert (out.get(), out.get()) == ("forked", True)
        engine.ls("onprem:")


def test_the_log_comes_through_logging(nodes: Nodes, tmp_path, caplog):
    (tmp_path / "a").write_text("a")
    with caplog.at_level(logging.INFO, logger="portway"):
        with portway.Engine(nodes.home) as engine:
            engine.push(tmp_path / "a", "onprem:logged/").wait()
    pushing = [r for r in caplog.records if r.message.startswith("pushing ")]
    assert [r.levelname for r in pushing] == ["INFO"]
    assert pushing[0].name == "portway.api.push" and "peer=onprem" in pushing[0].message


def test_without_a_wish_the_log_has_warnings_only(nodes: Nodes, tmp_path, caplog):
    (tmp_path / "a").write_text("a")
    with portway.Engine(nodes.home) as engine:
        engine.push(tmp_path / "a", "onprem:quiet/").wait()
    assert all(r.levelno >= logging.WARNING for r in caplog.records)
