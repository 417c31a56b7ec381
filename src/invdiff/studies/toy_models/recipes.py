"""The recipes of the base models of the built-in sets."""

from collections.abc import Mapping

from invdiff.engine.fitting.simple_loop import Recipe

VARIANT = Recipe(start="faces", autoencoder_steps=0, denoiser_steps=3000)
"""Other draws of the same faces: the autoencoder, which knows no prompts, serves as it is."""


RECIPES: Mapping[str, Recipe] = {
    "faces": Recipe(),
    "faces-balanced": VARIANT,
    "faces-marginal": VARIANT,
    "faces-named": VARIANT,
    "faces-race": VARIANT,
    "scenes": Recipe(start="faces", autoencoder_steps=1500, denoiser_steps=6000),
    "digits": Recipe(start="faces", autoencoder_steps=300, denoiser_steps=2500),
}
