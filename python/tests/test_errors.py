"""Each thing that can be wrong has its class, says what to do, and leaves nothing half done."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from conftest import Nodes, command

import portway


def test_a_missing_home(tmp_path):
    with pytest.raises(portway.HomeError) as error:
        portway.Engine(tmp_path / "none")
    assert error.value.code == "no-identity"
    assert "portway init" in error.value.hint and error.value.hint in str(error.value)
    assert (error.value.advice, error.value.exit_status) == ("reconfigure", 2)


def test_the_home_comes_from_the_environment(nodes: Nodes, monkeypatch):
    monkeypatch.setenv("PORTWAY_HOME", str(nodes.home))
    with portway.Engine() as engine:
        engine.ls("onprem:")


def test_a_home_that_nothing_names(monkeypatch):
    for variable in ("PORTWAY_HOME", "HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(portway.HomeError, match="PORTWAY_HOME"):
        portway.Engine()


def test_a_configuration_with_mistakes(nodes: Nodes, monkeypatch):
    monkeypatch.setenv("PORTWAY_LIMITS_SLAB_MIB", "many")
    with pytest.raises(portway.ConfigError, match="SLAB_MIB"):
        portway.Engine(nodes.home)


def test_an_unknown_node_is_noticed_at_once(engine, tmp_path):
    with pytest.raises(portway.UnknownNodeError, match="did you mean onprem"):
        engine.push(tmp_path, "onpram:x")
    with pytest.raises(portway.ConfigError):
        engine.push(tmp_path, "onprem:../x")
    with pytest.raises(portway.ConfigError, match="auto, rdma, quic"):
        engine.push(tmp_path, "onprem:x", transport="pigeon")
    with pytest.raises(portway.ConfigError, match="auto, always, never"):
        engine.pull("onprem:x", tmp_path / "x", compress="maybe")


def test_a_source_that_is_not_there(engine, nodes: Nodes, name, tmp_path):
    with pytest.raises(portway.SourceError):
        engine.push(tmp_path / "none", f"onprem:{name}").wait()
    assert not (nodes.root / name).exists()


def test_nothing_under_a_path(engine, tmp_path):
    with pytest.raises(portway.NotFoundError) as error:
        engine.pull("onprem:none", tmp_path / "none").wait()
    assert error.value.advice == "give up" and not (tmp_path / "none").exists()
    with pytest.raises(portway.NotFoundError):
        engine.ls("onprem:none")


def test_what_nobody_published(engine, nodes: Nodes, name):
    (nodes.root / name).mkdir()
    with pytest.raises(portway.NotPublishedError):
        engine.verify(f"onprem:{name}")
    with pytest.raises(portway.NotPublishedError):
        engine.verify(nodes.home)


def test_a_node_that_does_not_answer(engine, tmp_path):
    with pytest.raises(portway.UnreachableError) as error:
        engine.push(tmp_path, "portway://127.0.0.1:9/x", retry_s=0).wait()
    assert error.value.advice == "retry"


def test_two_pushes_to_one_path(engine, tmp_path):
    # Nobody is at that address, so the one that comes first waits.
    pushes = [engine.push(tmp_path, "portway://127.0.0.1:9/twice") for _ in range(2)]
    while not any(push.done() for push in pushes):
        time.sleep(0.01)
    pushes.sort(key=portway.Transfer.done)
    with pytest.raises(portway.ConflictError):
        pushes[1].wait()
    assert not pushes[0].done()
    pushes[0].cancel()


def test_a_node_of_another_domain_refuses(nodes: Nodes, tmp_path):
    from conftest import command

    stranger = tmp_path / "home"
    command(stranger, "init", "--name", "evil", "--site", "x", "--tier", "public")
    with portway.Engine(stranger) as engine:
        with pytest.raises(portway.RefusedError):
            engine.ls(f"portway://{nodes.address}/")


@pytest.fixture
def small(tmp_path: Path):
    """A file system of 8 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a full disk needs the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(engine, nodes: Nodes, name, tmp_path, small: Path):
    source = tmp_path / "model"
    source.write_bytes(bytes(range(256)) * (64 << 10))
    engine.push(source, f"onprem:{name}").wait()
    with pytest.raises(portway.NoSpaceError) as error:
        engine.pull(f"onprem:{name}", small / "model").wait()
    assert error.value.advice == "resume"
    assert not (small / "model").exists(), "nothing half done is visible"


def test_objects_that_fail_alone_are_an_error_with_the_outcome(
    engine, nodes: Nodes, name, tmp_path
):
    source = tmp_path / "source"
    source.mkdir()
    (source / "good").write_text("good")
    (source / "restless").write_bytes(bytes(8 << 20))
    transfer = engine.push(source, f"onprem:{name}")
    with open(source / "restless", "ab", buffering=0) as restless:
        while not transfer.done():
            restless.write(b"more")
    with pytest.raises(portway.PartialError) as error:
        transfer.wait()
    assert error.value.advice == "resume"
    assert [path for path, _ in error.value.outcome.failed] == ["restless"]
    assert error.value.outcome.failed_total == 1
    assert (nodes.root / name / "good").read_text() == "good"


def test_what_policy_forbids(nodes: Nodes, name, tmp_path):
    (nodes.root / name).write_bytes(b"not labelled, so internal")
    invite = ["--name", f"public-{name}", "--site", "eu", "--tier", "public", "--quiet"]
    token = command(Path(nodes.environment["PORTWAY_HOME"]), "invite", *invite).stdout.strip()
    command(tmp_path / "home", "join", token)
    with portway.Engine(tmp_path / "home") as engine:
        with pytest.raises(portway.DeniedError, match="private-stays-private") as error:
            engine.pull(f"onprem:{name}", tmp_path / "x").wait()
    assert (error.value.code, error.value.exit_status) == ("denied", 4)
    assert "portway policy explain" in error.value.hint
    assert not (tmp_path / "x").exists()
