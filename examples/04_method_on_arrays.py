"""The method on arrays, in a world where the right answer is known.

Two prompts, two values of an attribute that nobody names, a Gaussian for each of the four. Prompt
"a" shows attribute 1 in a tenth of its pictures, prompt "b" in nine tenths. Noised, a mixture of
Gaussians stays one, so the best prediction a model can make is a formula: one for these shares,
which plays the frozen model, and one for even shares, which is where balancing has to arrive.

    python examples/04_method_on_arrays.py

Nothing here has a run folder, a GPU or a diffusion pipeline. `min_step` is the readable reference
of the min step: objective, weights, target and step, with the functions that the package trains
with. What training a real model adds is a LoRA in the place of the small network, share feedback
and checkpoints.
"""

import argparse
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

import invdiff
from invdiff.app.arrays.find_groups import FoundGroups
from invdiff.app.arrays.skew import Bias
from invdiff.core.balancing.reweighting import mixture_shares, stable_target
from invdiff.core.diffusion.losses import latent_loss, score_one
from invdiff.core.diffusion.schedule import Schedule, add_noise

PROMPTS = ("a", "b")
SKEWED, EVEN = {"a": 0.1, "b": 0.9}, {"a": 0.5, "b": 0.5}  # shares of attribute 1
SPREAD = 0.35  # standard deviation of each of the four Gaussians
LEVELS = (0.98, 0.94, 0.88)  # high noise, where a model decides on an attribute
NONE = torch.zeros(2)  # the empty prompt; "a" and "b" are one-hot


def cosine_schedule(timesteps: int = 1000) -> Schedule:
    """The variance-preserving cosine schedule (Nichol & Dhariwal 2021), for v predictions."""
    fraction = torch.linspace(0, 1, timesteps, dtype=torch.float64)
    square = torch.cos((fraction + 0.008) / 1.008 * torch.pi / 2) ** 2
    return Schedule((square / square[0]).clamp(1e-5, 0.9999).float(), "v")


SCHEDULE = cosine_schedule()


@dataclass(frozen=True)
class Pictures:
    """Pictures (n, 2), the prompt of each, and the attribute, which the method never sees."""

    clean: Tensor
    prompts: list[str]
    attribute: np.ndarray

    @property
    def conditions(self) -> Tensor:
        """What a model is told of each (n, 2)."""
        return torch.stack([condition(prompt) for prompt in self.prompts])


def condition(prompt: str) -> Tensor:
    return torch.tensor([float(prompt == name) for name in PROMPTS])


def centres(prompt: str) -> Tensor:
    """Means (attribute, axis): the first axis shows the attribute, the second the prompt."""
    content = 1.0 if prompt == "a" else -1.0
    return torch.tensor([[-1.0, content], [1.0, content]])


def draw(shares: dict[str, float], count: int, random: np.random.Generator) -> Pictures:
    """``count`` pictures of each prompt, with these shares of attribute 1."""
    attribute = np.concatenate([random.permutation(count) < shares[p] * count for p in PROMPTS])
    names = [prompt for prompt in PROMPTS for _ in range(count)]
    pairs = zip(names, attribute, strict=True)
    means = torch.stack([centres(name)[int(value)] for name, value in pairs])
    noise = torch.from_numpy(random.normal(size=(len(names), 2))).float()
    return Pictures(means + SPREAD * noise, names, attribute)


class Exact(nn.Module):
    """The best v prediction there is if the prompts show attribute 1 in these shares."""

    def __init__(self, shares: dict[str, float]) -> None:
        super().__init__()
        self.means = torch.cat([centres(prompt) for prompt in PROMPTS])
        self.own = torch.tensor([[1 - shares[p], shares[p]] for p in PROMPTS])

    def forward(self, noisy: Tensor, timestep: Tensor, told: Tensor) -> Tensor:
        """The v prediction (n, 2)."""
        told = torch.where(told.sum(1, keepdim=True) > 0, told, 0.5)  # told nothing: either prompt
        chance = (told[..., None] * self.own).flatten(1)
        signal, sigma = SCHEDULE.factors(timestep, noisy)
        wide = (signal * SPREAD) ** 2 + sigma**2
        away = noisy[:, None] - signal[..., None] * self.means
        posterior = torch.softmax(chance.log() - away.square().sum(-1) / (2 * wide), 1)
        shrink = (signal * SPREAD**2 / wide)[..., None]
        clean = (posterior[..., None] * (self.means + shrink * away)).sum(1)
        return (signal * noisy - clean) / sigma


class Guided(nn.Module):
    """The frozen model plus a small correction that starts at exactly zero, as a LoRA does."""

    def __init__(self, base: nn.Module, width: int = 64) -> None:
        super().__init__()
        last = nn.Linear(width, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        layers = [nn.Linear(8, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last]
        self.base, self.correction = base, nn.Sequential(*layers)

    def forward(self, noisy: Tensor, timestep: Tensor, told: Tensor) -> Tensor:
        """The v prediction (n, 2)."""
        said = self.base(noisy, timestep, told)
        factors = SCHEDULE.factors(timestep, noisy)
        return said + self.correction(torch.cat([noisy, said, *factors, told], 1))


def max_step(base: nn.Module, data: Pictures, seed: int) -> FoundGroups:
    """What each picture costs the model under every prompt and none, and the groups in it."""
    owner, random = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    told = [*(condition(prompt) for prompt in PROMPTS), NONE]
    losses = np.empty((len(data.prompts), len(told), len(LEVELS), 2))
    for k, level in enumerate(LEVELS):
        for m in range(2):
            noise = torch.randn((1, 2), generator=owner)  # all pictures share it
            for c, one in enumerate(told):
                every = one.expand(len(losses), 2)
                losses[:, c, k, m] = score_one(base, SCHEDULE, data.clean, every, noise, level)
    own = [PROMPTS.index(prompt) for prompt in data.prompts]
    features = data.clean.numpy() @ random.normal(size=(2, 8))  # the pictures seen from 8 sides
    return invdiff.find_groups(
        data.prompts,
        features + 0.05 * random.normal(size=features.shape),
        own_loss=losses[np.arange(len(losses)), own],
        null_loss=losses[:, -1],
        prompt_losses=losses[:, :-1],
        levels=LEVELS,
        seed=seed,
    )


def min_step(
    base: nn.Module,
    data: Pictures,
    memberships: np.ndarray,
    *,
    steps: int = 600,
    batch_size: int = 64,
    variance_weight: float = 0.1,
    prompt_dropout: float = 0.25,
    seed: int = 0,
) -> Guided:
    """Train a correction of ``base`` under which the groups of each prompt are even.

    The objective, for the groups e of a prompt with wanted shares u_e, where L_e is the mean loss
    of group e and L0_e what it is under the frozen model:

        min over theta   sum_e u_e L_e + lambda Var_e (L_e - L0_e)

    Its gradient is that of the mean loss on a mixture of the groups which is tilted towards those
    with the larger regret R_e = L_e - L0_e (`core/balancing/reweighting.py`). So each step draws
    from that mixture and trains as usual, towards the posterior mean of all pictures in it.

    With lambda = 0 it arrives closest here: what the usual group loses and the unusual one gains is
    half of the picture in this world, and the second term holds that back.
    """
    torch.manual_seed(seed)
    guided, owner = Guided(base), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(guided.correction.parameters())
    prompt, told, even = np.array(data.prompts), data.conditions, np.full(2, 0.5)
    regrets = {name: np.zeros(2) for name in PROMPTS}  # running means of R_e

    for step in range(steps):
        # Weights: even groups within each prompt, tilted by their regrets; lambda rises slowly.
        tilt = variance_weight * min(1.0, step / 100)
        weights = np.ones(len(prompt))
        for name in PROMPTS:
            rows = prompt == name
            mixture = mixture_shares(regrets[name], even, tilt)
            weights[rows] = invdiff.balanced_weights(
                memberships[rows], prompt[rows], target=mixture.tolist()
            )

        # A batch of that mixture; some pictures are shown without their prompt.
        chance = torch.from_numpy(weights).float()
        chosen = torch.multinomial(chance, batch_size, replacement=True, generator=owner)
        clean, asked = data.clean[chosen], told[chosen]
        dropped = torch.rand(batch_size, generator=owner) < prompt_dropout
        asked = torch.where(dropped[:, None], NONE, asked)
        slices = (torch.arange(batch_size) + torch.rand(batch_size, generator=owner)) / batch_size
        timestep = (slices * (SCHEDULE.timesteps - 1)).round().long()  # all noise levels evenly
        noise = torch.randn(clean.shape, generator=owner)
        noisy = add_noise(SCHEDULE, clean, noise, timestep)

        # Target: the mean of the clean pictures that the noisy one may have come from, among those
        # of its prompt (of all, if it was dropped) with their weights.
        target = torch.empty_like(clean)
        for one in (*map(condition, PROMPTS), NONE):
            rows = (asked == one).all(1)
            known = (told == one).all(1) | (one.sum() == 0)
            target[rows] = stable_target(
                SCHEDULE, noisy[rows], timestep[rows], data.clean[known], chance[known].log()
            )

        # Step.
        optimizer.param_groups[0]["lr"] = 0.005 * (1 + np.cos(np.pi * step / steps))
        loss = latent_loss(SCHEDULE, guided(noisy, timestep, asked), noisy, target, timestep).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        # Regrets: now and then, what each group of the batch costs more than under the base.
        if step % 8 == 0:
            with torch.no_grad():
                risks = [
                    latent_loss(SCHEDULE, model(noisy, timestep, asked), noisy, clean, timestep)
                    for model in (guided, base)
                ]
            regret, q = (risks[0] - risks[1]).double().numpy(), memberships[chosen]
            for name in PROMPTS:
                own = q * (prompt[chosen] == name)[:, None]
                seen = own.T @ regret / own.sum(0).clip(1e-6)
                regrets[name] += 0.1 * (seen - regrets[name]) * (own.sum(0) > 0.5)
    return guided


@torch.no_grad()
def distance(model: nn.Module, count: int = 2000) -> float:
    """Root mean square error of a prediction against the exact one for even shares."""
    random, squares = np.random.default_rng(12345), []
    even, best = draw(EVEN, count, random), Exact(EVEN)
    for level in (0.5, 0.6, 0.7, 0.8, 0.9, 0.98):
        timestep = torch.full((2 * count,), SCHEDULE.timestep(level))
        noise = torch.from_numpy(random.normal(size=(2 * count, 2))).float()
        noisy = add_noise(SCHEDULE, even.clean, noise, timestep)
        told = even.conditions
        error = model(noisy, timestep, told) - best(noisy, timestep, told)
        squares.append(error.square().mean().item())
    return float(np.sqrt(np.mean(squares)))


@torch.no_grad()
def sample(model: nn.Module, count: int, seed: int, steps: int = 40) -> Bias:
    """Draw pictures of each prompt (DDIM) and see which attribute they show."""
    told = torch.cat([condition(prompt).expand(count, 2) for prompt in PROMPTS])
    noisy = torch.randn((2 * count, 2), generator=torch.Generator().manual_seed(seed))
    path = torch.linspace(SCHEDULE.timesteps - 1, 0, steps + 1).round().long()
    for now, then in pairwise(path):
        timestep = now.expand(2 * count)
        signal, sigma = SCHEDULE.factors(timestep, noisy)
        predicted = model(noisy, timestep, told)
        clean, noise = signal * noisy - sigma * predicted, sigma * noisy + signal * predicted
        noisy = add_noise(SCHEDULE, clean, noise, then.expand(2 * count))
    labels = np.where(noisy[:, 0].numpy() > 0, "attribute 1", "attribute 0").tolist()
    prompts = [prompt for prompt in PROMPTS for _ in range(count)]
    return invdiff.bias(labels, prompts, classes=["attribute 0", "attribute 1"])


@torch.no_grad()
def risks(model: nn.Module, data: Pictures, memberships: np.ndarray) -> np.ndarray:
    """The mean loss of each group of each prompt at one noise level, with noise that all share."""
    noise = torch.randn((1, 2), generator=torch.Generator().manual_seed(3))
    loss = score_one(model, SCHEDULE, data.clean, data.conditions, noise, 0.8).double().numpy()
    own = [memberships * (np.array(data.prompts) == name)[:, None] for name in PROMPTS]
    return np.concatenate([q.T @ loss / q.sum(0) for q in own])


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--quick", action="store_true", help="fewer pictures and steps: seconds")
    asked.add_argument("--seed", type=int, default=0)
    options = asked.parse_args()
    count, steps = (400, 200) if options.quick else (1000, 600)

    base = Exact(SKEWED)
    data = draw(SKEWED, count, np.random.default_rng(options.seed))
    groups = max_step(base, data, options.seed)
    print(groups)
    unusual = data.attribute == (np.array(data.prompts) == "a")
    right = ((groups.memberships[:, 1] > 0.5) == unusual).mean()
    print(f"in the group that was planted: {right:.1%} of the pictures\n")

    guided = min_step(base, data, groups.memberships, steps=steps, seed=options.seed)
    before, after = distance(base), distance(guided)
    print(f"distance to the known balanced score: {before:.3f} before, {after:.3f} after")
    for name, model in (("before", base), ("after", guided)):
        print(f"\n{name}: {sample(model, count, options.seed)}")
        print(invdiff.certificate(risks(model, data, groups.memberships)))


if __name__ == "__main__":
    main()
