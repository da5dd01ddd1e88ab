"""Draws a report of `test_training.py`: the losses of both jobs, and what saving costs a step.

python plot_training.py REPORT OUT.png      # pip install matplotlib
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main(report: str, out: str) -> None:
    text = Path(report).read_text().splitlines()
    begin = next(n for n, line in enumerate(text) if line.startswith("step,")) + 1
    step, alone, killed, saving, bare = np.loadtxt(text[begin:], unpack=True)
    figure, (losses, times) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    losses.plot(step, alone, color="tab:gray", linewidth=4, alpha=0.5, label="left alone")
    losses.plot(step, killed, color="tab:red", linewidth=1, label="killed and started again")
    losses.set(xlabel="step", ylabel="loss (nats)", title=text[0].split(";")[0])
    losses.legend()
    bins = np.linspace(0, 1000 * max(np.percentile(saving, 99), np.percentile(bare, 99)), 60)
    for name, seconds, colour in (("without", bare, "tab:gray"), ("with", saving, "tab:red")):
        median = 1000 * np.median(seconds)
        label = f"{name} saving: median {median:.2f} ms"
        times.hist(1000 * seconds, bins, histtype="step", color=colour, label=label)
        times.axvline(median, color=colour, linestyle=":")
    times.set(xlabel="step with its save (ms)", ylabel="steps", title="what saving costs")
    times.legend()
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:])
