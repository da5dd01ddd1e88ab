"""A real training job, killed again and again, ends with the losses of one that is left alone.

`TRAIN_STEPS`, `TRAIN_HIDDEN` and `TRAIN_KILLS` make it longer. With `TRAIN_REPORT=FILE` the losses
and the step times with and without saving are written there; `plot_training.py` draws them.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from conftest import Nodes

import portway

STEPS = int(os.environ.get("TRAIN_STEPS", "120"))
HIDDEN = int(os.environ.get("TRAIN_HIDDEN", "64"))
KILLS = int(os.environ.get("TRAIN_KILLS", "3"))
EVERY = max(STEPS // 12, 1)
TRAIN = Path(__file__).parent.parent / "examples/train.py"
SHARDS = 6


def job(nodes: Nodes, name: str, scratch: Path, *more: str) -> subprocess.Popen[str]:
    words = ["--data", f"onprem:{name}/tokens", "--runs", f"onprem:{name}/{scratch.name}"]
    words += ["--scratch", str(scratch), "--steps", str(STEPS), "--every", str(EVERY)]
    words += ["--hidden", str(HIDDEN), *more]
    # One thread: sums have one order, so losses are equal to the last bit.
    environment = {**os.environ, "PORTWAY_HOME": str(nodes.home), "OPENBLAS_NUM_THREADS": "1"}
    words = [sys.executable, str(TRAIN), *words]
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)


def ended_well(job: subprocess.Popen[str]) -> None:
    _, words = job.communicate(timeout=600)
    assert job.returncode == 0, words


def lines(scratch: Path) -> list[list[str]]:
    log = scratch / "steps.log"
    text = log.read_text() if log.exists() else ""
    # A line that a kill cut short is none.
    return [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]


def losses(scratch: Path) -> dict[int, float]:
    """Each step's loss; one that was computed again must be the same."""
    found: dict[int, float] = {}
    for step, loss, *_ in lines(scratch):
        assert found.setdefault(int(step), float(loss)) == float(loss), f"step {step}"
    return found


def tokens(nodes: Nodes, name: str) -> None:
    """Text with something to learn: each byte is likely to follow from the one before."""
    rng = np.random.default_rng(7)
    follows = rng.integers(0, 256, (256, 4))
    top = nodes.root / name / "tokens"
    top.mkdir(parents=True)
    for shard in range(SHARDS):
        choices, last, text = rng.integers(0, 4, 100_000), 0, bytearray()
        for choice in choices:
            last = int(follows[last, choice])
            text.append(last)
        (top / f"shard-{shard}").write_bytes(text)


def test_a_job_that_is_killed_ends_as_if_nothing_had_happened(engine, nodes: Nodes, name, tmp_path):
    tokens(nodes, name)
    calm, hit, bare = tmp_path / "calm", tmp_path / "hit", tmp_path / "bare"
    ended_well(job(nodes, name, calm))
    ended_well(job(nodes, name, bare, "--no-save"))

    seed = int(os.environ.get("TRAIN_SEED", time.time_ns() % 10_000))
    print(f"TRAIN_SEED={seed}")
    rng, done = random.Random(seed), 0
    for _ in range(KILLS):
        running = job(nodes, name, hit)
        until = rng.randrange(done, STEPS)
        while (done := max((int(line[0]) for line in lines(hit)), default=0)) < until:
            assert running.poll() is None, running.communicate()[1]
            time.sleep(0.001)
        # Saving and publishing go on behind the step that is logged.
        time.sleep(rng.random() * 0.02)
        running.kill()
        running.communicate()
    ended_well(job(nodes, name, hit))

    expected = losses(calm)
    assert losses(hit) == losses(bare) == expected and len(expected) == STEPS
    assert expected[STEPS - 1] < expected[0] - 0.2, "it learns"
    newest = engine.latest(f"onprem:{name}/hit")
    assert newest.step == STEPS // EVERY * EVERY
    left = {path.name for path in (nodes.root / name / "hit").iterdir()}
    saved = list(range(EVERY, STEPS + 1, EVERY))
    kept = saved[-3:] + [step for step in saved if step % 1000 == 0]
    assert left == {f"step-{step:06}" for step in kept}, "older checkpoints were removed"
    published = {
        p.name: p.read_bytes() for p in sorted((nodes.root / name / "hit").glob("*/outer"))
    }
    assert published, "checkpoints hold the parameters"
    if report := os.environ.get("TRAIN_REPORT"):
        copied = tmp_path / "copied"
        ended_well(job(nodes, name, copied, "--copy-only"))
        jobs = {"with saving": calm, "with a local copy": copied, "without saving": bare}
        write(Path(report), jobs, hit, newest)


def write(report: Path, jobs: dict[str, Path], hit: Path, newest: portway.Checkpoint) -> None:
    """Losses, and what saving costs."""
    calm, bare = jobs["with saving"], jobs["without saving"]
    with open(report, "w") as out:
        out.write(f"{STEPS} steps, a checkpoint of {newest.bytes} bytes every {EVERY}, ")
        out.write(f"{KILLS} kills; seconds\n")
        for name, scratch in jobs.items():
            computing = [float(line[2]) for line in lines(scratch)]
            whole = [float(line[2]) + float(line[3]) for line in lines(scratch)]
            saving = [float(line[3]) for line in lines(scratch) if float(line[3]) > 1e-3] or [0.0]
            out.write(f"{name}: median step {statistics.median(computing):.6f}, ")
            out.write(
                f"longest {max(computing):.6f}, mean with its save {statistics.mean(whole):.6f}"
            )
            out.write(f"; median save {statistics.median(saving):.6f}, longest {max(saving):.6f}\n")
        computed = len(lines(hit))
        out.write(f"killed job: {computed} steps computed for {STEPS}, ")
        out.write(f"{computed - STEPS} of them again\n")
        out.write("step, loss alone, loss when killed, seconds with and without saving\n")
        # With what saving took, which the step waited for.
        took = [
            {int(line[0]): float(line[2]) + float(line[3]) for line in lines(scratch)}
            for scratch in (calm, bare)
        ]
        alone = losses(calm)
        for step, loss in sorted(losses(hit).items()):
            times = f"{took[0][step]:.6f} {took[1][step]:.6f}"
            out.write(f"{step} {alone[step]!r} {loss!r} {times}\n")
