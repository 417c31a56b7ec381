"""The guidance as a hook on the denoiser: base and adapted passes of one network, combined.

Used by `attach` on stock pipelines and by our own sampler on an adapter that is being trained. The
hook replaces `forward` (diffusers `HookRegistry`); a second, independent one watches from
`nn.Module.__call__` that it was not dropped, which other libraries' wrappers can do silently.
"""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from diffusers.hooks.hooks import StateManager
from torch import Tensor, nn

from invdiff.core.guidance import (
    coefficients,
    combine,
    conditional_half,
    noise_level,
    passes_needed,
)
from invdiff.errors import ModelError
from invdiff.model import adapter

HOOK = "invdiff_guidance"


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
    """f = f_base + s g(level) (f_adapted - f_base), with the LoRA switched within one network.

    `strength` may be set at any time. `calls` counts denoiser calls, `applied` those in which the
    adapter had a part. The whole output is combined, learned variances included, so that it goes
    over into the base at 0 and into the stock LoRA at 1 without a step.
    """

    _is_stateful = True

    def __init__(
        self,
        strength: float,
        window: tuple[float, float],
        timesteps: float,
        conditional_only: Callable[[], bool] | None,
    ) -> None:
        super().__init__()
        self.strength, self.timesteps = strength, timesteps
        self.window = (float(window[0]), float(window[1]))
        self.conditional_only = conditional_only
        self.calls = 0
        self.applied = 0
        self.cache_name = CacheName()
        self.watch: list[torch.utils.hooks.RemovableHandle] = []

    def reset_state(self, module: nn.Module) -> nn.Module:
        """Part of diffusers' protocol for hooks that hold a StateManager."""
        self.cache_name.reset()
        return module

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Called instead of the denoiser's `forward`."""
        self.calls += 1
        coefficient = self._coefficient(module, args, kwargs)
        passes = passes_needed(coefficient)
        self.applied += passes != "base"
        announced = self.cache_name.current

        def run(on: bool) -> Any:
            with adapter.switched(module, on), _own_cache(module, announced, on):
                return self.fn_ref.original_forward(*args, **kwargs)

        if passes != "both":
            return run(passes == "adapted")
        base, adapted = run(False), run(True)
        return _replaced(base, combine(_first(base), _first(adapted), coefficient))

    def _coefficient(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """Coefficient s g(level) of each sample, or one for all, on the CPU."""

        def given(*names: str) -> Any:
            call = inspect.signature(type(module).forward).bind(module, *args, **kwargs)
            return next(call.arguments[name] for name in names if name in call.arguments)

        level = torch.ones(1)  # any level: all are inside
        if self.window != (0.0, 1.0):
            timestep = torch.as_tensor(given("timestep")).detach().cpu().reshape(-1)
            level = noise_level(timestep, self.timesteps)
        coefficient = coefficients(level, float(self.strength), self.window)
        if self.conditional_only is None or not self.conditional_only():
            return coefficient
        return conditional_half(coefficient.expand(len(given("sample", "hidden_states"))))


def add_guidance(
    module: nn.Module,
    strength: float = 1.0,
    window: tuple[float, float] = (0.0, 1.0),
    num_train_timesteps: float = 1000,
    conditional_only: Callable[[], bool] | None = None,
) -> Guided:
    """Guide a network that carries an adapter already, one in training for instance.

    `num_train_timesteps` is the range of the timesteps the network is called with (1: they are
    levels). `conditional_only` says at each call whether the batch is [unconditional, conditional]
    and only its second half is to be guided. Raises ModelError without an adapter or if guided.
    """
    if not adapter.present(module):
        raise ModelError("the network carries no adapter; call add_lora or adapter.load first")
    if guidance_of(module) is not None:
        raise ModelError("the network is guided already; call remove_guidance first")
    guidance = Guided(strength, window, num_train_timesteps, conditional_only)
    HookRegistry.check_if_exists_or_initialize(module).register_hook(guidance, HOOK)
    guidance.watch = _watch(module, guidance)
    return guidance


def remove_guidance(module: nn.Module) -> None:
    """Take the hook off; the adapter stays in the network, switched as it was."""
    guidance = guidance_of(module)
    if guidance is None:
        raise ModelError("the network is not guided; call add_guidance first")
    for handle in guidance.watch:
        handle.remove()
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


def _first(output: Any) -> Tensor:
    prediction = output[0]
    if not isinstance(prediction, Tensor):
        raise ModelError("the denoiser returns no tensor first; it cannot be guided")
    return prediction


def _replaced(output: Any, prediction: Tensor) -> Any:
    """The output with another prediction, a tuple or an object like the one it was."""
    if isinstance(output, tuple):
        return (prediction, *output[1:])
    return type(output)(**{**output, next(iter(output)): prediction})
