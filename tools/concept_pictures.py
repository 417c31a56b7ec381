"""Draw docs/concepts/pictures/: what the pages on the method show.

    python tools/concept_pictures.py

Everything is computed here, from planted data with the package's own functions, in a few seconds;
the faces are the embedded set's. The same command draws the same files.
"""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import numpy as np
import pyarrow.parquet as pq
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image
from scipy.special import expit, logit, logsumexp

from invdiff.core.balancing.certificate import bound, tight_bound
from invdiff.core.balancing.reweighting import balanced_weights, stable_target
from invdiff.core.diffusion.schedule import Schedule, add_noise
from invdiff.core.discovery.evidence import Contrasts
from invdiff.core.measurement.parity import bias, parity_value

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs/concepts/pictures"
FACES = ROOT / "src/invdiff/assets/faces"
OVER, UNDER, GREY = "#1f77b4", "#d95f02", "#777777"
PROMPTS = ("a hat", "plain", "a headband", "glasses")
SHARES = np.array([0.1, 0.2, 0.5, 0.9])  # of one group under each prompt

plt.rcParams.update(
    {
        "svg.hashsalt": "invdiff",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "figure.figsize": (5.4, 3.1),
        "figure.constrained_layout.use": True,
    }
)


def save(name: str) -> None:
    """Write the current figure without the trailing blanks and the date of matplotlib."""
    path = PICTURES / f"{name}.svg"
    plt.savefig(path, metadata={"Date": None})
    plt.close()
    text = "\n".join(line.rstrip() for line in path.read_text().splitlines())
    path.write_text(text + "\n")


def schedule(levels: int = 1000) -> Schedule:
    """A cosine schedule that predicts v."""
    angle = (np.arange(levels) + 0.5) / levels * np.pi / 2
    return Schedule(torch.tensor(np.cos(angle) ** 2, dtype=torch.float32), "v")


def mixture_loss(z: np.ndarray, level: float, noise: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Loss in v space of the best denoiser of a mixture, for latents ``z`` of two numbers.

    The first number is the content, the second the attribute, both at -2 or 2; ``share`` (2, 2)
    is how often each pair comes.
    """
    signal, sigma = np.cos(level * np.pi / 2), np.sin(level * np.pi / 2)
    noisy = signal * z + sigma * noise
    corner = np.array([(c, a) for c in (-2.0, 2.0) for a in (-2.0, 2.0)])
    far = ((noisy[:, None] - signal * corner) ** 2).sum(2)
    chance = -far / (2 * (signal**2 * 0.09 + sigma**2)) + np.log(share.ravel() + 1e-12)
    chance = np.exp(chance - logsumexp(chance, 1, keepdims=True))
    gain = signal * 0.09 / (signal**2 * 0.09 + sigma**2)  # each corner is 0.3 wide
    mean = corner + gain * (noisy[:, None] - signal * corner)
    clean = (chance[:, :, None] * mean).sum(1)
    return ((clean - z) ** 2).mean(1) / sigma**2


def excess_by_level() -> None:
    """How much more an under-represented picture costs under its own prompt than under none."""
    draw = np.random.default_rng(0)
    own = np.array([[0.0, 0.0], [0.9, 0.1]])  # one prompt: one content, attribute 90 : 10
    null = (own + np.array([[0.1, 0.9], [0.0, 0.0]])) / 2  # beside it another, 10 : 90
    levels = np.linspace(0.3, 0.99, 40)
    for attribute, label, colour in (
        (-2, "over-represented", OVER),
        (2, "under-represented", UNDER),
    ):
        z = np.array([2.0, attribute]) + 0.3 * draw.standard_normal((4000, 2))
        noise = draw.standard_normal((4000, 2))
        curve = [
            (mixture_loss(z, k, noise, own) - mixture_loss(z, k, noise, null)).mean()
            for k in levels
        ]
        plt.plot(levels, curve, color=colour, label=label, lw=2)
    plt.axhline(0, color=GREY, lw=0.8)
    plt.xlabel("noise level (1 = pure noise)")
    plt.ylabel("excess")
    plt.legend(loc="lower left")
    save("excess-by-level")


def planted() -> tuple[Contrasts, np.ndarray, np.ndarray, np.ndarray]:
    """Losses under four prompts of pictures with a skewed attribute and one that is not skewed."""
    draw = np.random.default_rng(1)
    prompt = np.repeat(np.arange(4), 300)
    skewed = (draw.random(1200) < SHARES[prompt]) * 1.0
    other = (draw.random(1200) < 0.4) * 1.0
    losses = draw.standard_normal((1200, 1)) * 3 - np.outer(skewed, logit(SHARES))
    losses = losses + np.outer(other, [1.2, -1.5, 1.0, -0.6])  # costs, but not by its shares
    losses = losses + draw.standard_normal((1200, 4))
    names = np.array(PROMPTS)[prompt]
    return Contrasts(losses[:, :, None], PROMPTS, np.arange(1200)), names, skewed, other


def contrast_direction(contrasts: Contrasts, prompt: np.ndarray, member: np.ndarray) -> None:
    """Pictures of one prompt along the direction that the log-odds of the shares give."""
    losses, rows = contrasts.losses[:, :, 0], prompt == PROMPTS[0]
    odds = logit([member[prompt == name].mean() for name in PROMPTS])
    lean = (losses - losses.mean(1, keepdims=True)) @ (odds - odds.mean())
    bins = np.linspace(lean[rows].min(), lean[rows].max(), 36).tolist()
    groups = [lean[rows & (member == k)] for k in (0, 1)]
    labels = ["over-represented", "under-represented"]
    plt.hist(groups, bins, stacked=True, color=[OVER, UNDER], label=labels)
    plt.xlabel("losses under all prompts, along the log-odds")
    plt.ylabel("pictures of one prompt")
    plt.legend()
    save("contrast-direction")


def shift_and_odds(
    contrasts: Contrasts, prompt: np.ndarray, skewed: np.ndarray, other: np.ndarray
) -> None:
    """The losses' shift between two groups against minus the log-odds, both less their mean."""
    losses = contrasts.losses[:, :, 0]
    relative = losses - losses.mean(1, keepdims=True)
    figure, axes = plt.subplots(1, 2, sharey=True, figsize=(6.2, 3.1))
    for axis, member, title in zip(axes, (skewed, other), ("a skew", "no skew"), strict=True):
        within = [prompt == name for name in PROMPTS]
        shift = np.mean(
            [
                relative[r & (member == 1)].mean(0) - relative[r & (member == 0)].mean(0)
                for r in within
            ],
            axis=0,
        )
        odds = np.array([-logit(member[r].mean()) for r in within])
        axis.scatter(odds - odds.mean(), shift, color=UNDER, zorder=3)
        _line(axis)
        axis.set(title=title, xlabel="minus its log-odds", xlim=(-2.8, 2.8), ylim=(-2.8, 2.8))
    axes[0].set_ylabel("shift of the loss, by prompt")
    figure.align_labels()
    save("shift-and-log-odds")


def _line(axis: Axes) -> None:
    axis.plot([-2.6, 2.6], [-2.6, 2.6], color=GREY, lw=0.8)


def weights_within_prompts() -> None:
    """Shares of the groups before, with one weight for the data, and balanced within the prompt."""
    prompt = np.repeat(np.array(PROMPTS), 200)
    member = np.concatenate([np.arange(200) < 200 * share for share in SHARES]) * 1.0
    even = {name: np.array([0.5, 0.5]) for name in PROMPTS}
    whole = balanced_weights(member, np.full(800, "all"), {"all": np.array([0.5, 0.5])})
    rows = (
        ("as they are", np.ones(800)),
        ("balanced over the whole data", whole),
        ("balanced within each prompt", balanced_weights(member, prompt, even)),
    )
    place = np.arange(len(PROMPTS))
    for k, ((label, weight), colour) in enumerate(zip(rows, (GREY, OVER, UNDER), strict=True)):
        share = [np.average(member[prompt == n], weights=weight[prompt == n]) for n in PROMPTS]
        plt.bar(place + 0.27 * (k - 1), share, 0.25, color=colour, label=label)
    plt.axhline(0.5, color="black", lw=0.8)
    plt.xticks(place, PROMPTS)
    plt.ylim(0, 1.38)
    plt.yticks([0, 0.5, 1])
    plt.ylabel("weighted share of one group")
    plt.legend(loc="upper left")
    save("weights-within-prompts")


def target_variance() -> None:
    """How much of the plain target cannot be told from the noisy latent, by noise level."""
    torch.manual_seed(0)
    references = torch.randn(256, 16)
    known, levels, left = schedule(), np.linspace(0.02, 0.99, 40), []
    for level in levels:
        rows = torch.randint(256, (512,))
        timestep = torch.full((512,), known.timestep(float(level)))
        noise = torch.randn(512, 16)
        noisy = add_noise(known, references[rows], noise, timestep)
        target = stable_target(known, noisy, timestep, references, torch.zeros(256))
        spread = references.var().item()
        left.append((references[rows] - target).square().mean().item() / spread)
    plt.plot(levels, left, color=OVER, lw=2)
    plt.xlabel("noise level (1 = pure noise)")
    plt.ylabel("share of the target that is noise")
    save("target-variance")


def shares_and_scale() -> None:
    """Shares that classifier-free guidance makes of a share, if the null prompt is even."""
    scale = np.linspace(1, 7.5, 60)
    for share, colour in zip(
        (0.9, 0.7, 0.6, 0.55, 0.5), plt.cm.viridis(np.linspace(0, 0.85, 5)), strict=True
    ):
        plt.plot(scale, expit(scale * logit(share)), color=colour, lw=2, label=f"{share:g}")
    plt.xlabel("guidance scale")
    plt.ylabel("share in the pictures")
    plt.legend(title="at scale 1", loc="center left", bbox_to_anchor=(1, 0.5))
    save("shares-and-scale")


def bounds() -> None:
    """The bound over lambda, beside what it bounds."""
    risks = np.array([0.30, 0.34, 0.45, 0.50])
    weights = np.geomspace(0.3, 100, 200)
    plt.plot(weights, [bound(risks, w) for w in weights], color=OVER, lw=2, label="bound")
    plt.axhline(tight_bound(risks), color=OVER, ls="--", label="smallest")
    plt.axhline(risks.max(), color=UNDER, label="worst group")
    plt.axhline(risks.mean(), color=GREY, label="mean group")
    plt.xscale("log")
    plt.ylim(0.35, 1)
    plt.xlabel("variance weight")
    plt.ylabel("risk")
    plt.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    save("bounds")


def parity_and_count() -> None:
    """What a perfectly balanced sampler shows, by the number of pictures."""
    counts = np.unique(np.geomspace(10, 1000, 40).astype(int))
    draw = np.random.default_rng(0)
    seen = [draw.binomial(n, 0.5, (2000, 4)) for n in counts]
    shown = [bias(np.stack([c, n - c], -1)) for c, n in zip(seen, counts, strict=True)]
    low, high = np.quantile(shown, (0.025, 0.975), axis=1)
    plt.fill_between(
        counts, low, high, color=OVER, alpha=0.2, lw=0, label="95 of 100 such samplers"
    )
    mean = [parity_value(np.full(4, n), 2) for n in counts]
    plt.plot(counts, mean, color=OVER, lw=2, label="on average")
    plt.xscale("log")
    plt.xticks([10, 30, 100, 300, 1000], ["10", "30", "100", "300", "1,000"])
    plt.ylim(0)
    plt.xlabel("pictures of each of four prompts")
    plt.ylabel("Bias of a balanced sampler")
    plt.legend()
    save("parity-and-count")


def faces() -> None:
    """Some training pictures of each prompt of the embedded set."""
    sheet = Image.open(FACES / "train.webp").convert("RGB")
    prompt = np.array(pq.read_table(FACES / "train.parquet")["prompt"].to_pylist())
    across = sheet.width // 32
    draw = np.random.default_rng(3)
    names = ("a person wearing a hat", "a person wearing glasses", "a person wearing a headband")
    names += tuple(sorted(set(prompt) - set(names)))
    page = Image.new("RGB", (14 * 34 + 2, 4 * 34 + 2), "white")
    for row, name in enumerate(names):
        for column, k in enumerate(draw.choice(np.flatnonzero(prompt == name), 14, replace=False)):
            left, top = int(k) % across * 32, int(k) // across * 32
            one = sheet.crop((left, top, left + 32, top + 32))
            page.paste(one, (2 + column * 34, 2 + row * 34))
    page.resize((page.width * 2, page.height * 2), Image.Resampling.NEAREST).save(
        PICTURES / "faces.webp", lossless=True, method=6
    )


def main() -> None:
    """Draw all of them."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    excess_by_level()
    contrasts, prompt, skewed, other = planted()
    contrast_direction(contrasts, prompt, skewed)
    shift_and_odds(contrasts, prompt, skewed, other)
    weights_within_prompts()
    target_variance()
    shares_and_scale()
    bounds()
    parity_and_count()
    faces()


if __name__ == "__main__":
    main()
