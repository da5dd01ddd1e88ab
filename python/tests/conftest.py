"""Real nodes on loopback: `onprem` serves a root, and the tests are `trainer`, another node."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import portway

BINARY = os.environ.get("PORTWAY_BIN", "portway")


def command(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs `portway` with a home of its own; it must succeed."""
    environment = {"PORTWAY_HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [BINARY, *words], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done


@dataclass
class Nodes:
    """`onprem`'s root, and `trainer`'s home."""

    root: Path
    home: Path
    server: subprocess.Popen[str]
    address: str
    serve: list[str]
    environment: dict[str, str]

    def stop(self) -> None:
        """Stops `onprem` as an operator would."""
        self.server.terminate()
        self.server.communicate(timeout=30)

    def start(self) -> None:
        """Starts it again, where it was."""
        listen = ["--listen", self.address]
        self.server, _ = _served(self.serve + listen, self.environment)


def _served(words: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[str], str]:
    server = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    listening = json.loads(server.stdout.readline())
    assert listening["event"] == "listening", listening
    return server, listening["address"]


def _nodes(top: Path) -> Nodes:
    onprem, trainer, root = top / "home-onprem", top / "home-trainer", top / "root"
    root.mkdir()
    command(onprem, "init", "--name", "onprem", "--site", "dc", "--tier", "private")
    environment = {"PORTWAY_HOME": str(onprem), "PATH": os.environ["PATH"]}
    serve = [BINARY, "serve", "--json", "--quiet", "--root", str(root), "--admin", "off"]
    server, address = _served([*serve, "--listen", "127.0.0.1:0"], environment)
    invite = ["--name", "trainer", "--site", "dc", "--tier", "private", "--quiet"]
    token = command(onprem, "invite", *invite).stdout.strip()
    command(trainer, "join", token)
    return Nodes(root, trainer, server, address, serve, environment)


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Shared by tests that do not stop the node."""
    nodes = _nodes(tmp_path_factory.mktemp("nodes"))
    yield nodes
    nodes.stop()


@pytest.fixture
def own_nodes(tmp_path: Path) -> Iterator[Nodes]:
    """For a test that stops the node."""
    nodes = _nodes(tmp_path)
    yield nodes
    nodes.stop()


@pytest.fixture
def engine(nodes: Nodes) -> Iterator[portway.Engine]:
    """An engine of `trainer`."""
    with portway.Engine(nodes.home) as engine:
        yield engine


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A path at `onprem` that no other test uses."""
    return request.node.name
