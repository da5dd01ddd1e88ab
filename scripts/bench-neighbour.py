#!/usr/bin/env python3
"""What a bulk transfer costs one that comes first: paired runs of two nodes on loopback.

    scripts/bench-neighbour.py PORTWAY [--pairs 9] [--bytes 96] [--rate-mbit 400] [--own-mbit 0]

Each pair is a push of BYTES MB alone, then the same push while another process of the same node pushes
beside it: `bulk`, and `interactive` to show what that would cost without priorities. Runs take turns,
so that what else the machine does hits all alike; medians are printed. With --rate-mbit N loopback has
that rate (tc, in a network namespace of its own: needs root and `unshare`), 0 leaves it as fast as the
processors are. With --own-mbit N the push itself has that cap, and what is left is the other's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MB = 1_000_000


class Nodes:
    """`here` pushes to `there`; of two sites, so that links between sites count."""

    def __init__(self, portway: str, top: Path) -> None:
        self.portway, self.top = portway, top
        self.root = top / "root-there"
        (top / "root-here").mkdir()
        self.root.mkdir()
        self.serves = []
        self.say("here", "init", "--name", "here", "--site", "dc", "--tier", "private")
        border = '[border]\ndefault_class = "public"\n'
        self.config("here").write_text(border)
        self.serve("here")
        words = ["--name", "there", "--site", "eu", "--tier", "public", "--quiet"]
        token = self.say("here", "invite", *words).stdout.strip()
        self.say("there", "join", token)
        self.config("there").write_text(border + self.config("there").read_text())
        self.say("here", "nodes", "add", "there", self.serve("there"))

    def config(self, node: str) -> Path:
        return self.top / f"home-{node}/portway.toml"

    def environment(self, node: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "PORTWAY_HOME": str(self.top / f"home-{node}")}

    def say(self, node: str, *words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.portway, *words], env=self.environment(node), capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"portway {' '.join(words)}: {done.stderr}")
        return done

    def serve(self, node: str) -> str:
        root = str(self.top / f"root-{node}")
        words = [self.portway, "serve", "--json", "--quiet", "--admin", "off", "--root", root]
        words += ["--listen", "127.0.0.1:0"]
        serve = subprocess.Popen(
            words, env=self.environment(node), stdout=subprocess.PIPE, text=True
        )
        self.serves.append(serve)
        assert serve.stdout
        return json.loads(serve.stdout.readline())["address"]

    def push(self, source: Path, target: str, *flags: str) -> subprocess.Popen[str]:
        words = [self.portway, "push", "--json", "--quiet", "--compress", "never", *flags]
        return subprocess.Popen(
            [*words, str(source), f"there:{target}"],
            env=self.environment("here"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> None:
        for serve in self.serves:
            serve.terminate()
        for serve in self.serves:
            serve.wait()


class Beside:
    """A push that goes on and on, and what it moves."""

    def __init__(self, nodes: Nodes, source: Path, priority: str) -> None:
        self.nodes, self.source, self.priority = nodes, source, priority

    def __enter__(self) -> Beside:
        self.target = self.nodes.root / "beside"
        shutil.rmtree(self.target, ignore_errors=True)
        self.running = self.nodes.push(self.source, "beside/x", "--priority", self.priority)
        time.sleep(1.5)
        self.before = self.moved()
        return self

    def moved(self) -> int:
        """Bytes that lie at the other node by now, staged or published."""
        staged = (self.nodes.root / ".portway/staging").rglob("*")
        files = [path for path in staged if path.is_file()]
        return sum(path.stat().st_blocks * 512 for path in files)

    def still_runs(self) -> bool:
        return self.running.poll() is None

    def __exit__(self, *_: object) -> None:
        if self.still_runs():
            self.running.terminate()
        self.running.communicate()
        shutil.rmtree(self.target, ignore_errors=True)
        for path in (self.nodes.root / ".portway/staging").iterdir():
            shutil.rmtree(path, ignore_errors=True)


def timed(nodes: Nodes, source: Path, flags: list[str]) -> float:
    begun = time.perf_counter()
    push = nodes.push(source, "first/x", *flags)
    _, words = push.communicate()
    took = time.perf_counter() - begun
    if push.returncode:
        sys.exit(words)
    shutil.rmtree(nodes.root / "first")
    return took


def measure(nodes: Nodes, top: Path, words: argparse.Namespace) -> None:
    first, beside = top / "first", top / "beside"
    first.write_bytes(os.urandom(words.bytes * MB))
    beside.write_bytes(os.urandom(words.beside * MB))
    flags = ["--limit", f"{words.own_mbit}Mb/s"] if words.own_mbit else []
    timed(nodes, first, flags)
    alone, losses, rates = [], {"bulk": [], "interactive": []}, {"bulk": [], "interactive": []}
    for _ in range(words.pairs):
        for priority in losses:
            base = timed(nodes, first, flags)
            with Beside(nodes, beside, priority) as other:
                took = timed(nodes, first, flags)
                rates[priority].append((other.moved() - other.before) / took * 8 / MB)
                if not other.still_runs():
                    sys.exit("the transfer beside it ended too early: give it more with --beside")
            alone.append(base)
            losses[priority].append(took / base - 1)
    rate = words.bytes * 8 / statistics.median(alone)
    print(f"alone: {statistics.median(alone):.2f} s in the median of {len(alone)}, {rate:.0f} Mb/s")
    for priority, found in losses.items():
        print(
            f"beside {priority}: {statistics.median(found):+.1%} in the median of {len(found)} pairs "
            f"({min(found):+.1%} to {max(found):+.1%}); "
            f"that one moved {statistics.median(rates[priority]):.0f} Mb/s"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("portway")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--bytes", type=int, default=96, help="in MB")
    parser.add_argument("--beside", type=int, default=2000, help="in MB")
    parser.add_argument("--rate-mbit", type=int, default=400)
    parser.add_argument("--own-mbit", type=int, default=0)
    words = parser.parse_args()
    if words.rate_mbit and "NEIGHBOUR_NETWORK" not in os.environ:
        os.environ["NEIGHBOUR_NETWORK"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    if words.rate_mbit:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        shape = f"tbf rate {words.rate_mbit}mbit burst 512kb latency 20ms"
        subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", *shape.split()], check=True)
    with tempfile.TemporaryDirectory(dir=os.environ.get("WORK")) as top:
        nodes = Nodes(os.path.abspath(words.portway), Path(top))
        try:
            measure(nodes, Path(top), words)
        finally:
            nodes.stop()


if __name__ == "__main__":
    main()
