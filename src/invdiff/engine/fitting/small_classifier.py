"""The attribute classifier of a built-in set: trained on one half, measured on the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from invdiff.engine.distributed import randomness
from invdiff.engine.distributed.randomness import halves
from invdiff.engine.fitting.simple_loop import Recipe, fit
from invdiff.model.vision.attribute_classifier import AttributeClassifier

Augment = Callable[[Tensor, torch.Generator], Tensor]


def spoil(pictures: Tensor, noise: torch.Generator) -> Tensor:
    """Pictures with a generator's small flaws: shifted by up to 1 px, blurred, noisy.

    Two thirds of the pictures are shifted, each is blended with its 3 x 3 blur by a random share
    and gets Gaussian noise of a random strength up to 0.12 (of the range [-1, 1]).
    """
    count, _, height, width = pictures.shape
    padded = functional.pad(pictures, (1, 1, 1, 1), mode="replicate")
    down, right = torch.randint(3, (2, count), generator=noise)
    rows = (down[:, None] + torch.arange(height))[:, None, :, None]
    columns = (right[:, None] + torch.arange(width))[:, None, None, :]
    images, channels = torch.arange(count)[:, None, None, None], torch.arange(3)[:, None, None]
    shifted = padded[images, channels, rows, columns]

    around = functional.pad(shifted, (1, 1, 1, 1), mode="replicate")
    blurred = functional.avg_pool2d(around, 3, stride=1)
    share, strength = torch.rand((2, count, 1, 1, 1), generator=noise)
    grain = 0.12 * strength * torch.randn(pictures.shape, generator=noise)
    return (shifted.lerp(blurred, share.square()) + grain).clamp(-1, 1)


def through(autoencoder: Any, error: float = 0.15) -> Augment:
    """Pictures as the base model would draw them: encoded, slightly wrong, decoded.

    ``autoencoder`` is a diffusers ``AutoencoderKL``; ``error`` is in standard deviations of each
    latent channel.
    """

    def augment(pictures: Tensor, noise: torch.Generator) -> Tensor:
        latent = autoencoder.encode(pictures).latent_dist.mode()
        spread = error * latent.std((0, 2, 3), keepdim=True)
        wrong = latent + spread * torch.randn(latent.shape, generator=noise)
        return autoencoder.decode(wrong).sample.clamp(-1, 1)

    return augment


@dataclass(frozen=True)
class Pictures:
    """What a classifier is fitted on: the rows ``known`` of ``images`` (count, 3, 32, 32).

    ``targets`` has for each attribute the class numbers of all images. Half of what the classifier
    sees is from ``copies``, if there are any.
    """

    images: Tensor
    targets: Mapping[str, Tensor]
    known: Tensor
    copies: Tensor | None = None


def fit_classifier(
    model: AttributeClassifier,
    pictures: Pictures,
    recipe: Recipe,
    folder: Path,
    owner: str,
    *,
    title: str = "classifier",
    weight: Tensor | None = None,
    after_step: Callable[[int], None] = lambda _: None,
    best: torch.nn.Module | None = None,
) -> None:
    """Fit ``model`` to all attributes for the recipe's steps; goes on from ``folder``.

    ``owner`` names the random draws, ``weight`` is that of each class in the loss. ``after_step``
    may keep weights in ``best``, which is saved with the model.
    """

    def loss_of(step: int) -> Tensor:
        noise = randomness.generator(recipe.seed, owner, step)
        rows = randomness.batch_indices(len(pictures.known), recipe.batch, recipe.seed, step)
        rows = pictures.known[rows]
        seen = pictures.images[rows]
        if pictures.copies is not None:
            through = torch.rand((len(rows), 1, 1, 1), generator=noise) < 0.5
            seen = torch.where(through, pictures.copies[rows], seen)
        losses = [
            functional.cross_entropy(logits, pictures.targets[name][rows], weight)
            for name, logits in model(spoil(seen, noise)).items()
        ]
        return torch.stack(losses).sum()

    fit(
        title,
        folder,
        {"model": model} if best is None else {"model": model, "best": best},
        loss_of,
        steps=recipe.classifier_steps,
        rate=recipe.classifier_rate,
        save_every=recipe.save_every,
        after_step=after_step,
        frozen=("best",),
    )


def train_classifier(
    recipe: Recipe,
    images: Tensor,
    attributes: Mapping[str, Sequence[str]],
    folder: Path,
    augment: Augment | None = None,
) -> tuple[AttributeClassifier, dict[str, Any]]:
    """Fit a classifier of all ``attributes`` (name -> one label per image) on half of ``images``.

    ``images`` is (count, 3, 32, 32) in [-1, 1]. ``augment`` maps pictures and a generator to
    pictures of the same shape, see :func:`through`; half of what the classifier sees went through
    it. Returns the classifier, rounded to float16 as it will be stored, and the facts for its
    header: accuracy and confusion counts (row: true, column: estimated) on the other half. The
    first attribute is the one whose parity is measured.
    """
    classes = {name: tuple(sorted(set(labels))) for name, labels in attributes.items()}
    targets = {
        name: torch.tensor([classes[name].index(label) for label in labels])
        for name, labels in attributes.items()
    }
    known, unseen = map(torch.from_numpy, halves(len(images), recipe.seed))
    copies = images
    if augment is not None:
        owners = (randomness.generator(recipe.seed, "classifier copies", k) for k in count())
        with torch.no_grad():
            copies = torch.cat(list(map(augment, images.split(256), owners)))
    model = build(recipe, classes)

    fit_classifier(model, Pictures(images, targets, known, copies), recipe, folder, "classifier")
    model.half().float().requires_grad_(False).eval()
    held_out = {name: labels[unseen] for name, labels in targets.items()}
    facts = {
        "attribute": next(iter(classes)),
        "trained_on": len(known),
        "split_seed": recipe.seed,
        "parameters": sum(value.numel() for value in model.parameters()),
        "attributes": measure(model, images[unseen], held_out),
        "recipe": recipe.facts(),
    }
    if augment is not None:
        facts["augmented"] = measure(model, copies[unseen], held_out)
    model.facts = facts
    return model, facts


def build(recipe: Recipe, classes: Mapping[str, Sequence[str]]) -> AttributeClassifier:
    """An untrained classifier; its initial weights depend on the recipe's seed only."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(randomness.derive(recipe.seed, "classifier"))
        return AttributeClassifier(classes)


@torch.no_grad()
def measure(
    model: AttributeClassifier, images: Tensor, targets: Mapping[str, Tensor]
) -> dict[str, dict[str, Any]]:
    """Accuracy and confusion counts of every attribute on ``images`` (count, 3, 32, 32)."""
    logits = [model(part) for part in images.split(256)]
    found = {}
    for name, values in model.classes.items():
        estimated = torch.cat([part[name] for part in logits]).argmax(1)
        cells = targets[name] * len(values) + estimated
        confusion = cells.bincount(minlength=len(values) ** 2).reshape(len(values), -1)
        found[name] = {
            "classes": list(values),
            "accuracy": confusion.trace().item() / len(images),
            "held_out": len(images),
            "confusion": confusion.tolist(),
        }
    return found
