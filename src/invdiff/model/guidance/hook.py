"""The guidance as a hook on the denoiser: base and adapted passes of one network, combined.

Used by `attach` on stock pipelines and by our own sampler on an adapter that is being trained. The
hook replaces `forward` (diffusers `HookRegistry`); a second, independent one watches from
`nn.Module.__call__` that it was not dropped, which other libraries' wrappers can do silently.
"""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from diffusers.hooks import HookRegistry, ModelHook
from diffusers.hooks.hooks import StateManager
from torch import Tensor, nn

from invdiff.core.diffusion.guidance import (
    Passes,
    Strength,
    coefficients,
    combine,
    conditional_half,
    noise_level,
    passes_needed,
)
from invdiff.errors import ModelError
from invdiff.model.lora import adapter

HOOK = "invdiff_guidance"
FULL = (0.0, 1.0)
BATCHES = ("sample", "hidden_states", "x")
"""What networks call their latents."""

Scaled = Literal["prediction", "weights"]
"""What a strength scales: the adapter's effect on the prediction, or its weights as in a file."""
Branch = Literal["cond", "uncond", "both", "own first"]
"""What the batch of a denoiser call holds; "both" is [unconditional, conditional] halves, "own
first" the same the other way round."""
Branches = Callable[[str | None], Branch]
"""Tells it, from the name that the pipeline announced for the call if it did."""


class CacheName(StateManager):
    """Remembers which call ("cond", "uncond") the pipeline announces to the cache hooks."""

    def __init__(self) -> None:
        super().__init__(object)
        self.current: Any = None

    def set_context(self, context: Any) -> None:
        """Called by `module.cache_context`."""
        self.current = context

    def reset(self, *args: Any, **kwargs: Any) -> None:
        """Called by the pipeline when it has finished."""
        self.current = None


class Guided(ModelHook):
    """f = f_base + s(level) g(level) (f_adapted - f_base), the LoRA switched within one network.

    With `scaled` "weights" it is the network with s(level) g(level) times the LoRA's weights, as a
    file is used. `strength` may be set at any time. With `branches` only conditional pictures are
    guided. `highest` is the timestep of level 1. `calls` counts denoiser calls, `applied` those in
    which the adapter had a part. The whole output is combined, learned variances included, so that
    it goes over into the base at 0 and into the stock LoRA at 1 without a step.
    """

    _is_stateful = True

    def __init__(self, strength: Strength, window: tuple[float, float], highest: float) -> None:
        super().__init__()
        self.strength, self.highest = strength, highest
        self.window = (float(window[0]), float(window[1]))
        self.scaled: Scaled = "prediction"
        self.branches: Branches | None = None
        self.calls = 0
        self.applied = 0
        self.cache_name = CacheName()
        self.cleanup: list[Callable[[], None]] = []

    def reset_state(self, module: nn.Module) -> nn.Module:
        """Part of diffusers' protocol for hooks that hold a StateManager."""
        self.cache_name.reset()
        return module

    # Of a compiled network the passes are compiled, the choice between them is not.
    @torch.compiler.disable(recursive=False)
    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Called instead of the denoiser's `forward`."""
        self.calls += 1
        weight, coefficient, passes = self._split(self._plan(module, args, kwargs))
        self.applied += passes != "base"
        announced = self.cache_name.current

        def run(on: bool) -> Any:
            at = adapter.weighted(module, weight) if on else nullcontext()
            with adapter.switched(module, on), at, _own_cache(module, announced, on):
                return self.fn_ref.original_forward(*args, **kwargs)

        if passes != "both":
            return run(passes == "adapted")
        base, adapted = run(False), run(True)
        return _mixed(base, adapted, coefficient)

    @torch.compiler.disable
    def _split(self, coefficient: Tensor) -> tuple[float, Tensor, Passes]:
        """What the LoRA's weights are multiplied by, what is left for the prediction; passes."""
        own = coefficient[coefficient != 0].unique()
        if self.scaled == "prediction" or not len(own):
            return 1.0, coefficient, passes_needed(coefficient)
        if len(own) > 1:
            raise ModelError(
                f"the strengths {own.tolist()} are asked for in one call, and the weights have one "
                "at a time; attach with scaled='prediction'"
            )
        applies = (coefficient != 0).to(coefficient.dtype)
        return float(own), applies, passes_needed(applies)

    @torch.compiler.disable
    def _plan(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Coefficient s(level) g(level) of each sample or one for all, on the CPU."""
        given = inspect.signature(type(module).forward).bind(module, *args, **kwargs).arguments
        level = torch.ones(1)  # any level will do: the strength is the same at all of them
        if self.window != FULL or not isinstance(self.strength, int | float):
            cleanness = given.get("t")  # what Z-Image is told instead of the noise
            timestep = given["timestep"] if cleanness is None else 1 - cleanness
            timestep = torch.as_tensor(timestep).detach().cpu().reshape(-1)
            level = noise_level(timestep, self.highest)
        coefficient = coefficients(level, self.strength, self.window)
        if not bool(coefficient.isfinite().all()):
            raise ModelError(
                f"the strength at noise level {level.tolist()} is {coefficient.tolist()}; "
                "it must be a finite number at every level in [0, 1]"
            )
        if self.branches is not None:
            batch = next(given[name] for name in BATCHES if name in given)
            batch = batch if isinstance(batch, Tensor) else torch.stack(batch)
            coefficient = self._conditional(coefficient.expand(len(batch)), batch)
        return coefficient

    def _conditional(self, coefficient: Tensor, batch: Tensor) -> Tensor:
        """The coefficients of the conditional pictures; the others' are 0."""
        assert self.branches is not None
        announced = self.cache_name.current  # older diffusers give the name alone
        holds = self.branches(getattr(announced, "name", announced))
        if holds == "cond":
            return coefficient
        if holds == "uncond":
            return torch.zeros_like(coefficient)
        halves = batch.chunk(2)
        if len(batch) % 2 or not torch.equal(*halves):
            raise ModelError(
                f"a batch of {len(batch)} is not [unconditional, conditional] halves of the same "
                "pictures; use apply_to='both' with this pipeline"
            )
        spared = conditional_half(coefficient)
        return spared.roll(len(spared) // 2) if holds == "own first" else spared


def add_guidance(
    module: nn.Module,
    strength: Strength = 1.0,
    window: tuple[float, float] = FULL,
    highest: float = 999,
) -> Guided:
    """Guide a network that carries an adapter already, one in training for instance.

    `highest` is the timestep that the network is called with at pure noise. Raises ModelError
    without an adapter or if guided.
    """
    if not adapter.has_adapter(module):
        raise ModelError("the network carries no adapter; call add_lora or adapter_file.load first")
    if guidance_of(module) is not None:
        raise ModelError("the network is guided already; call remove_guidance first")
    guidance = Guided(strength, window, highest)
    HookRegistry.check_if_exists_or_initialize(module).register_hook(guidance, HOOK)
    guidance.cleanup += [handle.remove for handle in _watch(module, guidance)]
    return guidance


def remove_guidance(module: nn.Module) -> None:
    """Take the hook off; the adapter stays in the network, switched as it was."""
    guidance = guidance_of(module)
    if guidance is None:
        raise ModelError("the network is not guided; call add_guidance first")
    for undo in guidance.cleanup:
        undo()
    module._diffusers_hook.remove_hook(HOOK)  # type: ignore[union-attr, operator]


def guidance_of(module: nn.Module) -> Guided | None:
    """The network's guidance, if it has one."""
    registry = getattr(module, "_diffusers_hook", None)
    found = registry.get_hook(HOOK) if registry is not None else None
    assert found is None or isinstance(found, Guided)
    return found


def _watch(module: nn.Module, guidance: Guided) -> list[torch.utils.hooks.RemovableHandle]:
    """Stop a pipeline whose denoiser is called past the guidance."""
    before = [0]

    def note(module: nn.Module, args: Any) -> None:
        before[0] = guidance.calls

    def compare(module: nn.Module, args: Any, output: Any) -> None:
        if guidance.calls == before[0]:
            raise ModelError(
                "another tool has replaced the denoiser's forward and dropped the guidance; "
                "detach, undo that (pipe.remove_all_hooks()), and attach before it is used again"
            )

    return [module.register_forward_pre_hook(note), module.register_forward_hook(compare)]


def _own_cache(module: nn.Module, announced: Any, on: bool) -> AbstractContextManager[Any]:
    """A cache of its own for each kind of pass and each of the pipeline's calls.

    First-block caches and their like would otherwise answer the second pass with the first one's
    residual: the guidance would shrink or vanish without a sign.
    """
    if not getattr(module, "is_cache_enabled", False):
        return nullcontext()
    details = dict(vars(announced)) if hasattr(announced, "name") else {"name": announced}
    name = f"invdiff_{'adapted' if on else 'base'}_{details.pop('name')}"
    context: AbstractContextManager[Any] = module.cache_context(name, **details)  # type: ignore[operator]
    return context


@torch.compiler.disable
def _mixed(base: Any, adapted: Any, coefficient: Tensor) -> Any:
    """The output between two outputs of the network, a tuple or an object like the base's."""
    own = base[0], adapted[0]
    if listed := isinstance(own[0], list):
        own = torch.stack(own[0]), torch.stack(own[1])
    if not isinstance(own[0], Tensor):
        raise ModelError("the denoiser returns no tensor first; it cannot be guided")
    prediction: Any = combine(*own, coefficient)
    prediction = list(prediction) if listed else prediction
    if isinstance(base, tuple):
        return (prediction, *base[1:])
    return type(base)(**{**base, next(iter(base)): prediction})
