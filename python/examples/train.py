"""A training job that stages its data and ships its checkpoints through Portway.

    python train.py --data onprem:datasets/tokens --runs onprem:runs/7 --scratch /nvme/job

The model is small (a neural language model after Bengio et al., 2003, with Adam), but what matters
is the same for a large one:

- shards are read in order while later ones are still on their way,
- a checkpoint is saved every `--every` steps, and training goes on as soon as it lies on the local
  disk; it is published at the node as a whole or not at all,
- killed at any moment and started again, it goes on from the newest complete checkpoint and ends as
  if nothing had happened: the data of a step depends on its number alone.

One line is logged for each step: number, loss, seconds of computing, seconds of saving.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import portway

VOCABULARY, CONTEXT, EMBEDDING, BATCH = 256, 16, 32, 128
LEARNING_RATE, BETA1, BETA2, EPSILON = 5e-3, 0.9, 0.999, 1e-8

Arrays = dict[str, np.ndarray]


def fresh(hidden: int) -> Arrays:
    """Parameters, and the two moments of Adam for each."""
    rng = np.random.default_rng(1)
    shapes = {
        "embedding": (VOCABULARY, EMBEDDING),
        "inner": (CONTEXT * EMBEDDING, hidden),
        "outer": (hidden, VOCABULARY),
    }
    state = {}
    for name, shape in shapes.items():
        state[name] = rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32)
        for moment in ("mean", "square"):
            state[f"{name}.{moment}"] = np.zeros(shape, np.float32)
    return state


def step_of(state: Arrays, tokens: np.ndarray, step: int) -> float:
    """One step of training on a batch of the shard; the loss in nats."""
    starts = np.random.default_rng(step).integers(0, len(tokens) - CONTEXT, BATCH)
    windows = tokens[starts[:, None] + np.arange(CONTEXT + 1)]
    seen, wanted = windows[:, :-1], windows[:, -1]

    embedded = state["embedding"][seen].reshape(BATCH, -1)
    hidden = np.tanh(embedded @ state["inner"])
    scores = hidden @ state["outer"]
    scores -= scores.max(axis=1, keepdims=True)
    chances = np.exp(scores)
    chances /= chances.sum(axis=1, keepdims=True)
    rows = np.arange(BATCH)
    loss = float(-np.log(chances[rows, wanted]).mean())

    chances[rows, wanted] -= 1
    chances /= BATCH
    inward = (chances @ state["outer"].T) * (1 - hidden**2)
    of_embedding = np.zeros_like(state["embedding"])
    np.add.at(of_embedding, seen, (inward @ state["inner"].T).reshape(*seen.shape, EMBEDDING))
    adam(state, "outer", hidden.T @ chances, step)
    adam(state, "inner", embedded.T @ inward, step)
    adam(state, "embedding", of_embedding, step)
    return loss


def adam(state: Arrays, name: str, gradient: np.ndarray, step: int) -> None:
    """Kingma and Ba, 2015, algorithm 1; steps count from 0 here."""
    mean, square = state[f"{name}.mean"], state[f"{name}.square"]
    mean += (1 - BETA1) * (gradient - mean)
    square += (1 - BETA2) * (gradient**2 - square)
    true_mean, true_square = mean / (1 - BETA1 ** (step + 1)), square / (1 - BETA2 ** (step + 1))
    state[name] -= LEARNING_RATE * true_mean / (np.sqrt(true_square) + EPSILON)


def restore(engine: portway.Engine, runs: str, scratch: Path, hidden: int) -> tuple[Arrays, int]:
    """The newest complete checkpoint and the step after it; else a fresh state and step 0."""
    # What an earlier process saved and did not get to publish may be newer than what is there.
    for push in engine.resume_saves(staging=scratch / "saves"):
        push.wait()
    try:
        newest = engine.latest(runs)
    except portway.NotFoundError:
        newest = None
    state = fresh(hidden)
    if newest is None or newest.step is None:
        return state, 0
    local = scratch / "restored"
    engine.pull(newest.remote, local).wait()
    for name, array in state.items():
        state[name] = np.fromfile(local / name, np.float32).reshape(array.shape)
    return state, json.loads((local / "step.json").read_text())["next"]


def copy(files: Mapping[str, Any], place: Path) -> None:
    """A checkpoint that goes nowhere: durable on this machine alone."""
    place.mkdir(exist_ok=True)
    for name, content in files.items():
        with open(place / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="NODE:PATH of the shards")
    parser.add_argument("--runs", required=True, help="NODE:PATH for the checkpoints")
    parser.add_argument("--scratch", required=True, type=Path, help="a fast local directory")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=50, help="steps from one save to the next")
    parser.add_argument("--hidden", type=int, default=512, help="width; sets a checkpoint's size")
    parser.add_argument("--no-save", action="store_true", help="to see what saving costs")
    parser.add_argument("--copy-only", action="store_true", help="to see what a local copy costs")
    words = parser.parse_args()
    words.scratch.mkdir(parents=True, exist_ok=True)

    with portway.Engine() as engine:
        state, begin = restore(engine, words.runs, words.scratch, words.hidden)
        shards = sorted(entry.name for entry in engine.ls(words.data) if entry.kind == "file")
        # Each shard serves as many steps, and they are needed from where training goes on.
        shard_of = lambda step: shards[step * len(shards) // words.steps]
        order = list(dict.fromkeys(shard_of(step) for step in range(begin, words.steps)))
        saving: portway.Transfer | None = None
        with (
            engine.stage(words.data, words.scratch / "tokens", order=order) as stage,
            open(words.scratch / "steps.log", "a", buffering=1) as log,
        ):
            name, tokens = "", np.empty(0, np.uint8)
            for step in range(begin, words.steps):
                if shard_of(step) != name:
                    name = shard_of(step)
                    tokens = np.fromfile(stage.path(name), np.uint8)
                begun = time.perf_counter()
                loss = step_of(state, tokens, step)
                computed = time.perf_counter()
                if (step + 1) % words.every == 0 and not words.no_save:
                    if saving is not None:
                        saving.wait()  # At most one checkpoint is on its way.
                    files = {**state, "step.json": json.dumps({"next": step + 1}).encode()}
                    target = f"{words.runs}/step-{step + 1:06}"
                    if words.copy_only:
                        copy(files, words.scratch / "copy")
                    else:
                        saves = words.scratch / "saves"
                        saving = engine.save(files, target, staging=saves, keep=3, keep_every=1000)
                saved = time.perf_counter()
                log.write(f"{step} {loss!r} {computed - begun:.6f} {saved - computed:.6f}\n")
        if saving is not None:
            saving.wait()


if __name__ == "__main__":
    main()
