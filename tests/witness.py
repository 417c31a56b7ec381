"""A world whose exact denoiser is known, for every mixture of its groups.

Two prompts, two values of an attribute that nobody names, a Gaussian for each of the four: noised,
a mixture of Gaussians stays one, so the best possible prediction is a formula. Prompt "a" shows
attribute 1 in a tenth of its pictures, prompt "b" in nine tenths. The frozen base is the formula
for these shares; where the guidance has to arrive is the formula for even ones.
"""

from dataclasses import dataclass

import numpy as np
import torch

from invdiff.core.diffusion import schedule as levels
from invdiff.core.diffusion.losses import latent_loss, score_batch
from invdiff.core.discovery.grouping import Grouping, infer_groups
from invdiff.core.discovery.scores import Scores
from invdiff.engine.training.min_step import step_owner, stratified_levels
from invdiff.engine.training.mixture import Mixture, Regrets

PROMPTS = ("a", "b")
SKEWED = {"a": 0.1, "b": 0.9}
EVEN = {"a": 0.5, "b": 0.5}
ALIKE, UNLIKE = (0.35, 0.35), (0.2, 0.7)
"""Standard deviations of the pictures with attribute 0 and 1: as hard to denoise, or not."""
HIGH = (0.5, 0.6, 0.7, 0.8, 0.9, 0.98)


def cosine_schedule(prediction="v", timesteps=1000):
    """The variance-preserving cosine schedule (Nichol & Dhariwal 2021)."""
    fraction = torch.linspace(0, 1, timesteps, dtype=torch.float64)
    square = torch.cos((fraction + 0.008) / 1.008 * torch.pi / 2) ** 2
    return levels.Schedule((square / square[0]).clamp(1e-5, 0.9999).float(), prediction)


SCHEDULE = cosine_schedule()


def centres(prompt):
    """Means (2 attributes, 2 axes) of a prompt: axis 0 is the attribute, axis 1 the content."""
    content = 1.0 if prompt == "a" else -1.0
    return torch.tensor([[-1.0, content], [1.0, content]])


def draw(prompt, share, count, random, spread=ALIKE):
    """``count`` latents of a prompt, and their attribute, at a share of attribute 1."""
    attribute = torch.from_numpy(random.permutation(count) < round(share * count)).long()
    noise = torch.from_numpy(random.normal(size=(count, 2))).float()
    return centres(prompt)[attribute] + torch.tensor(spread)[attribute, None] * noise, attribute


def exact_clean(noisy, timestep, chance, means, spread):
    """E[z | z_t] under sum_k chance_k N(means_k, spread_k^2 I), one row of chances an image."""
    signal, sigma = SCHEDULE.factors(timestep, noisy)
    wide = (signal * spread) ** 2 + sigma**2
    away = noisy[:, None] - signal[..., None] * means
    # In two dimensions the density of a component is exp(-|away|^2 / (2 wide)) / wide.
    posterior = torch.softmax(chance.log() - wide.log() - away.square().sum(-1) / (2 * wide), 1)
    shrink = signal * spread**2 / wide
    return (posterior[..., None] * (means + shrink[..., None] * away)).sum(1)


def condition(prompt):
    """One token: which prompt, or none."""
    return torch.tensor([[float(prompt == "a"), float(prompt == "b")]])


NULL = torch.zeros(1, 1, 2)


class Exact(torch.nn.Module):
    """The best v prediction there is when the prompts show the attribute in these shares."""

    def __init__(self, shares, spread=ALIKE):
        super().__init__()
        self.spread = torch.tensor(spread * len(PROMPTS))
        self.means = torch.cat([centres(prompt) for prompt in PROMPTS])
        self.own = torch.tensor([[1 - shares[p], shares[p]] for p in PROMPTS])

    def forward(self, noisy, timestep, tokens):
        asked = tokens[:, 0]
        asked = torch.where(asked.sum(1, keepdim=True) > 0, asked, 0.5)
        chance = (asked[..., None] * self.own).flatten(1)
        signal, sigma = SCHEDULE.factors(timestep, noisy)
        clean = exact_clean(noisy, timestep, chance, self.means, self.spread)
        return (signal * noisy - clean) / sigma


class Guided(torch.nn.Module):
    """The frozen base plus a small trainable correction that starts at exactly zero.

    The correction sees what the base says, as a LoRA does.
    """

    def __init__(self, base, seed, width=64):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            first, middle = torch.nn.Linear(8, width), torch.nn.Linear(width, width)
        last = torch.nn.Linear(width, 2)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
        smooth = torch.nn.SiLU()
        self.correction = torch.nn.Sequential(first, smooth, middle, smooth, last)
        self.base = base

    def forward(self, noisy, timestep, tokens):
        signal, sigma = SCHEDULE.factors(timestep, noisy)
        said = self.base(noisy, timestep, tokens)
        return said + self.correction(torch.cat([noisy, said, signal, sigma, tokens[:, 0]], 1))


@dataclass(frozen=True)
class Data:
    """Training latents and their prompts; the planted attribute is for the tests to look at."""

    latents: torch.Tensor
    prompt: np.ndarray
    attribute: np.ndarray
    spread: tuple[float, float]

    @property
    def unusual(self):
        """Whether an image shows what is rare under its prompt: who belongs in group 1."""
        return (self.attribute == 1) == (self.prompt == "a")

    @property
    def tokens(self):
        return torch.stack([condition(prompt) for prompt in self.prompt])


def data(seed, count=1000, spread=ALIKE, shares=SKEWED):
    random = np.random.default_rng(seed)
    drawn = [draw(prompt, shares[prompt], count, random, spread) for prompt in PROMPTS]
    latents, attribute = torch.cat([x for x, _ in drawn]), torch.cat([a for _, a in drawn])
    return Data(latents, np.repeat(PROMPTS, count), attribute.numpy(), spread)


def scores(model, found, seed, at=(0.98, 0.94, 0.88), draws=2):
    """Losses of every image under its own prompt and none, with noise that all images share."""
    owner = torch.Generator().manual_seed(seed)
    tokens = found.tokens
    both = torch.cat([tokens, NULL.expand_as(tokens)])
    own, null = np.empty((2, len(tokens), len(at), draws))
    for level, fraction in enumerate(at):
        for number in range(draws):
            noise = torch.randn((1, 2), generator=owner)
            pair = score_batch(model, SCHEDULE, found.latents, both, noise, fraction)
            own[:, level, number], null[:, level, number] = (loss.numpy() for loss in pair)
    return Scores(own, null)


def groups(found, seed) -> Grouping:
    """The max step, on the base's excess; the features are the latents seen from eight sides."""
    random = np.random.default_rng(seed)
    features = found.latents.numpy() @ random.normal(size=(2, 8))
    features += 0.05 * random.normal(size=features.shape)
    known = scores(Exact(SKEWED, found.spread), found, seed)
    excess = known.excess.mean((1, 2))
    return infer_groups(
        excess,
        known.loss.mean((1, 2)),
        None,
        features,
        np.arange(len(excess)),
        found.prompt,
        min_share=0.02,
        false_alarm=0.01,
        seed=seed,
    )


def train(
    found, against, balanced, seed, *, target="stable", objective="mean", weight=1.0, steps=600
):
    """The min step as the package does it, with the correction in the place of the LoRA."""
    base, batch = Exact(SKEWED, found.spread), 64
    model, every = Guided(base, seed), found.tokens
    mixture = Mixture(found.latents, found.prompt, found.prompt, against, balanced)
    regrets = Regrets(balanced)
    optimiser = torch.optim.AdamW(model.correction.parameters())
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.005 * (1 + np.cos(np.pi * step / steps))
        owner = step_owner(seed, step)
        tilt = 0.0 if objective == "mean" else weight * min(1.0, step / 100)
        chance = mixture.weights(regrets, tilt)
        chosen = torch.multinomial(chance, batch, replacement=True, generator=owner)
        timestep = (stratified_levels(batch, 1.0, owner) * (SCHEDULE.timesteps - 1)).round().long()
        dropped = torch.rand(batch, generator=owner) < 0.25
        clean, tokens = found.latents[chosen], every[chosen] * ~dropped[:, None, None]
        noise = torch.randn(clean.shape, generator=owner)
        noisy = levels.add_noise(SCHEDULE, clean, noise, timestep)
        wanted = clean
        if target == "stable":
            wanted = mixture.target(SCHEDULE, noisy, timestep, chosen, dropped, chance, owner)
        loss = errors(model, noisy, timestep, tokens, wanted).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if objective != "mean" and step % 8 == 0:
            with torch.no_grad():
                risk = errors(model, noisy, timestep, tokens, clean)
                if objective == "regret":
                    risk -= errors(base, noisy, timestep, tokens, clean)
            rows = chosen.numpy()
            regrets.update(risk.numpy(), found.prompt[rows], against[rows])
    return model.eval()


def errors(model, noisy, timestep, tokens, wanted):
    """The loss of each image in v space."""
    return latent_loss(SCHEDULE, model(noisy, timestep, tokens), noisy, wanted, timestep)


@torch.no_grad()
def distance(model, spread=ALIKE, at=HIGH, count=2000):
    """Root mean square error of a v prediction against the exact one for even shares.

    Over both prompts, the noise levels ``at``, and noisy latents of the *even* mixture.
    """
    random = np.random.default_rng(12345)
    wanted, squares = Exact(EVEN, spread), []
    for prompt in PROMPTS:
        clean, _ = draw(prompt, 0.5, count, random, spread)
        tokens = condition(prompt).expand(count, 1, 2)
        for level in at:
            timestep = torch.full((count,), SCHEDULE.timestep(level))
            noise = torch.from_numpy(random.normal(size=(count, 2))).float()
            noisy = levels.add_noise(SCHEDULE, clean, noise, timestep)
            error = model(noisy, timestep, tokens) - wanted(noisy, timestep, tokens)
            squares.append(error.square().mean().item())
    return float(np.sqrt(np.mean(squares)))
