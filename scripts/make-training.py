#!/usr/bin/env python3
"""Trains a small language model and keeps its checkpoints, as a training job writes them.

    scripts/make-training.py OUT [--steps 100,110,120,2000,2010,2020] [--width 320] [--layers 8]

OUT gets a directory for each step, `ckpt-000100`, with the weights in bf16 (`model.safetensors`) and, in
fp32, the weights that the optimizer has and both moments of Adam (`optimizer.safetensors`). The model is a
decoder over bytes, some 10 M parameters, and learns the sources of Python's standard library. Its forward
pass uses the bf16 weights; the arithmetic is fp32. The learning rate rises for 50 steps and then falls, by a
cosine, to a tenth at the last step. It takes some 7 minutes of one processor (AMD EPYC).
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import sys
import sysconfig
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

HEAD_WIDTH = 64
BYTES_TRAINED = 16 << 20
RATE = 1e-3
RATE_LAST = 1e-4
STEPS_WARM = 50
BETAS = (0.9, 0.95)
DECAY = 0.1
NAMES = {torch.bfloat16: "BF16", torch.float32: "F32"}


def text() -> Tensor:
    """The sources of the standard library, one behind the other."""
    top = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in top.rglob("*.py") if "site-packages" not in path.parts)
    content = bytearray()
    for path in files:
        content += path.read_bytes()
        if len(content) >= BYTES_TRAINED:
            break
    return torch.frombuffer(content, dtype=torch.uint8)


def weights(width: int, layers: int) -> dict[str, Tensor]:
    """Tensors of a decoder with gated feed-forward, as they are before the first step."""
    inner = width * 11 // 4
    shapes = {"model.embed_tokens.weight": (256, width)}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        shapes[f"{at}.input_layernorm.weight"] = (width,)
        for name in ["q_proj", "k_proj", "v_proj", "o_proj"]:
            shapes[f"{at}.self_attn.{name}.weight"] = (width, width)
        shapes[f"{at}.post_attention_layernorm.weight"] = (width,)
        shapes[f"{at}.mlp.gate_proj.weight"] = (inner, width)
        shapes[f"{at}.mlp.up_proj.weight"] = (inner, width)
        shapes[f"{at}.mlp.down_proj.weight"] = (width, inner)
    shapes["model.norm.weight"] = (width,)
    shapes["lm_head.weight"] = (256, width)
    made = {}
    for name, shape in shapes.items():
        made[name] = torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * 0.02
    return made


def turned(x: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021) of [batch, heads, time, HEAD_WIDTH]."""
    half = HEAD_WIDTH // 2
    angles = torch.arange(x.shape[2])[:, None] * 1e4 ** (-torch.arange(half) / half)
    cos, sin = angles.cos(), angles.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def loss_of(w: dict[str, Tensor], layers: int, batch: Tensor) -> Tensor:
    """Cross entropy of each next byte."""
    tokens, wanted = batch[:, :-1], batch[:, 1:]
    x = functional.embedding(tokens, w["model.embed_tokens.weight"])
    width = x.shape[-1]

    def normed(x: Tensor, name: str) -> Tensor:
        return functional.rms_norm(x, (width,), w[name], eps=1e-6)

    def heads(x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, HEAD_WIDTH).transpose(1, 2)

    for layer in range(layers):
        at = f"model.layers.{layer}"
        y = normed(x, f"{at}.input_layernorm.weight")
        q, k, v = (heads(y @ w[f"{at}.self_attn.{name}_proj.weight"].T) for name in "qkv")
        y = functional.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
        x = x + y.transpose(1, 2).flatten(2) @ w[f"{at}.self_attn.o_proj.weight"].T
        y = normed(x, f"{at}.post_attention_layernorm.weight")
        gate = functional.silu(y @ w[f"{at}.mlp.gate_proj.weight"].T)
        x = x + (gate * (y @ w[f"{at}.mlp.up_proj.weight"].T)) @ w[f"{at}.mlp.down_proj.weight"].T
    scores = normed(x, "model.norm.weight") @ w["lm_head.weight"].T
    return functional.cross_entropy(scores.flatten(0, 1), wanted.flatten())


def write(path: Path, tensors: dict[str, Tensor]) -> None:
    """A safetensors file: the header's length, the header, the tensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.numel() * tensor.element_size()
        shape = list(tensor.shape)
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": shape, "data_offsets": [at, end]}
        at = end
    words = json.dumps(header, separators=(",", ":")).encode()
    words += b" " * (-len(words) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(words)) + words)
        for tensor in tensors.values():
            file.write(tensor.contiguous().view(torch.uint8).numpy().tobytes())


def keep(out: Path, step: int, masters: dict[str, Tensor], adam: torch.optim.AdamW) -> None:
    """Writes the checkpoint of a step; what has its name is whole."""
    place = out / f"ckpt-{step:06}"
    part = out / f".part-{step:06}"
    part.mkdir(parents=True)
    plain = {name: tensor.detach() for name, tensor in masters.items()}
    write(part / "model.safetensors", {name: t.bfloat16() for name, t in plain.items()})
    state = {f"master.{name}": tensor for name, tensor in plain.items()}
    for moment in ["exp_avg", "exp_avg_sq"]:
        state |= {f"{moment}.{name}": adam.state[t][moment] for name, t in masters.items()}
    write(part / "optimizer.safetensors", state)
    part.rename(place)


def rate(step: int, last: int) -> float:
    if step < STEPS_WARM:
        return RATE * step / STEPS_WARM
    share = (step - STEPS_WARM) / max(1, last - STEPS_WARM)
    return RATE_LAST + (RATE - RATE_LAST) * (1 + math.cos(math.pi * share)) / 2


def train(words: argparse.Namespace) -> None:
    torch.manual_seed(words.seed)
    steps = sorted(int(step) for step in words.steps.split(","))
    content = text()
    masters = {name: t.requires_grad_() for name, t in weights(words.width, words.layers).items()}
    count = sum(tensor.numel() for tensor in masters.values())
    print(f"{count / 1e6:.2f} M parameters, {len(content) / 1e6:.1f} MB of text", file=sys.stderr)
    adam = torch.optim.AdamW(masters.values(), betas=BETAS, weight_decay=DECAY, fused=True)
    began, mean = time.monotonic(), 6.0
    for step in range(1, steps[-1] + 1):
        adam.param_groups[0]["lr"] = rate(step, steps[-1])
        starts = torch.randint(len(content) - words.context - 1, (words.batch,)).tolist()
        rows = [content[at : at + words.context + 1] for at in starts]
        # What the model computes with is what its checkpoint holds.
        rounded = {
            name: tensor.detach().bfloat16().float().requires_grad_()
            for name, tensor in masters.items()
        }
        loss = loss_of(rounded, words.layers, torch.stack(rows).long())
        loss.backward()
        for name, tensor in masters.items():
            tensor.grad = rounded[name].grad
        torch.nn.utils.clip_grad_norm_(masters.values(), 1.0)
        adam.step()
        mean = 0.95 * mean + 0.05 * loss.item()
        if step in steps:
            keep(words.out, step, masters, adam)
        if step in steps or step % 100 == 0:
            spent = time.monotonic() - began
            print(f"step {step}: loss {mean:.3f}, {spent:.0f} s", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", default="100,110,120,2000,2010,2020", help="which are kept")
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4, help="sequences of a step")
    parser.add_argument("--context", type=int, default=64, help="bytes of a sequence")
    # Threads of OpenMP wait for each other by spinning: with others on the machine two are slower.
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    words = parser.parse_args()
    if words.out.exists() and any(words.out.iterdir()):
        sys.exit(f"error: {words.out} is not empty")
    torch.set_num_threads(words.threads)
    train(words)


if __name__ == "__main__":
    main()
