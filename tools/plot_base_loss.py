"""Draw docs/evidence/base-loss.svg from the loss curves that `make base` wrote."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Two curves, steps against the mean loss of each stretch."""
    record = json.loads((ROOT / "src/invdiff/assets/faces/base_recipe.json").read_text())
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
    for axis, part in zip(axes, ("autoencoder", "denoiser"), strict=True):
        curve, steps = record["curves"][part], record["recipe"][f"{part}_steps"]
        axis.plot([steps * (k + 0.5) / len(curve) for k in range(len(curve))], curve)
        axis.set(title=part, xlabel="step", ylabel="loss", yscale="log")
    plt.rcParams["svg.hashsalt"] = "invdiff"
    figure.savefig(ROOT / "docs/evidence/base-loss.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
