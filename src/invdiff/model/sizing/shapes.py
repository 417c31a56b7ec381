"""Networks on torch's meta device: what they take, would allocate and compute. No weights, no work.

The forward (and backward) pass runs on tensors without content. Every tensor that it makes is
counted while something still refers to it, as an allocator would; what autograd keeps for the
backward pass is kept here too. Attention is counted as the kernels of a GPU do it, which keep
query, key, value and result and never the attention matrix.

Not counted: workspaces of kernels, fragmentation, the device's own context. `MARGIN` stands in.
"""

import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import flop_registry

from invdiff.errors import ModelError
from invdiff.model.networks import NETWORKS, UNET
from invdiff.model.sizing.description import Component, Description

MARGIN = 1.2  # of what is not counted


def build(part: Component) -> nn.Module | None:
    """The component on the meta device; None for what has no weights (tokenizers, schedulers)."""
    import diffusers
    import transformers

    library: Any = {"diffusers": diffusers, "transformers": transformers}.get(part.library)
    if library is None:  # a module of its pipeline, as the safety checker
        library = getattr(diffusers.pipelines, part.library, None)
    kind = getattr(library, part.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        return None
    with torch.device("meta"):
        if part.library == "diffusers":
            module: nn.Module = kind.from_config(dict(part.config))  # type: ignore[attr-defined]
        else:
            config = kind.config_class.from_dict(dict(part.config))  # type: ignore[attr-defined]
            module = kind(config)
    return module.eval().requires_grad_(False)


def call(
    module: nn.Module, base: Description, batch: int, size: int, dtype: torch.dtype
) -> Callable[[], Any]:
    """One prediction for ``batch`` pictures of ``size`` pixels, on tensors without content.

    Raises:
        ModelError: the family's inputs are not known.
    """
    part = base.denoiser
    if part.kind not in NETWORKS:
        raise ModelError(
            f"what {part.kind} takes is not known, so its memory cannot be estimated; known are: "
            + ", ".join(NETWORKS)
        )
    with torch.device("meta"):
        inputs = _inputs(part, batch, size // base.latent_pixels, dtype)
    return lambda: module(**inputs, return_dict=False)


def guided_in_one_pass(part: Component) -> bool:
    """Whether guidance is an input of the network, so that a step is one pass (Flux dev)."""
    return "Transformer2DModel" in part.kind and bool(part.config.get("guidance_embeds"))


def _inputs(part: Component, n: int, side: int, dtype: torch.dtype) -> dict[str, Any]:
    """What the network takes for n latents of side x side cells, by the names of its arguments."""
    config, known = part.config, NETWORKS[part.kind]
    texts = known.tokens, config[known.width]

    def empty(*shape: int) -> Tensor:
        return torch.empty(n, *shape, dtype=dtype)

    inputs: dict[str, Any] = {
        "hidden_states": empty(config.get("in_channels", 4), side, side),
        "encoder_hidden_states": empty(*texts),
        "timestep": torch.empty(n, dtype=torch.long),
    }
    if part.kind in ("SD3Transformer2DModel", "FluxTransformer2DModel"):
        inputs["pooled_projections"] = empty(config["pooled_projection_dim"])
    if part.kind == "PixArtTransformer2DModel":
        inputs["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
    if part.kind == UNET:
        inputs["sample"] = inputs.pop("hidden_states")
    if config.get("addition_embed_type") == "text_time":
        sizes = 6 * config["addition_time_embed_dim"]
        pooled = config["projection_class_embeddings_input_dim"] - sizes
        inputs["added_cond_kwargs"] = {"text_embeds": empty(pooled), "time_ids": empty(6)}
    if part.kind == "ZImageTransformer2DModel":
        pictures = [*empty(config["in_channels"], 1, side, side)]
        return {"x": pictures, "t": empty(), "cap_feats": [*empty(*texts)]}
    if known.places is None:
        return inputs
    pieces = (side // 2) ** 2  # the pipeline packs 2 x 2 cells into one
    inputs |= {"hidden_states": empty(pieces, config["in_channels"]), "timestep": empty()}
    if guided_in_one_pass(part):
        inputs["guidance"] = torch.empty(n)
    if part.kind == "ChromaTransformer2DModel":
        inputs["attention_mask"] = empty(known.tokens + pieces)
    if not known.places:
        return inputs | {"img_shapes": [[(1, side // 2, side // 2)]] * n}
    ids = {"img_ids": pieces, "txt_ids": known.tokens}
    return inputs | {name: torch.empty(count, known.places) for name, count in ids.items()}


@dataclass(frozen=True)
class Trace:
    """Highest memory beside the weights (bytes) and operations of the forward pass.

    A multiplication and an addition are two operations.
    """

    peak: int
    operations: float


def trace(module: nn.Module, call: Callable[[], Any], backward: bool = False) -> Trace:
    """Run ``call``, which passes meta tensors through ``module``, and watch it.

    With ``backward`` the mean of the result's first tensor is propagated back, as in training.
    """
    allocations, attention = _Allocations(module), _Attention()
    with attention, allocations, torch.set_grad_enabled(backward):
        result = call()
        operations = allocations.operations + attention.operations
        if backward:
            first = next(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
            first.float().mean().backward()
    module.zero_grad(set_to_none=True)
    return Trace(allocations.peak, operations)


def checkpointed(module: nn.Module, *inputs: Any) -> Any:
    """Gradient checkpointing within a trace, as diffusers takes it.

    What is computed again runs in autograd's own thread state, without the mode for attention.
    """
    return checkpoint(
        module, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _Attention())
    )


class _Allocations(TorchDispatchMode):
    """Bytes of all storages alive that are not the module's own, and the most there ever were."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        own = [*module.parameters(), *module.buffers()]
        self.known = {tensor.untyped_storage()._cdata for tensor in own}
        self.alive, self.peak, self.operations = 0, 0, 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        counted = flop_registry.get(func._overloadpacket)
        if counted is not None:
            self.operations += counted(*args, **(kwargs or {}), out_val=result)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._watch(leaf.untyped_storage())
        return result

    def _watch(self, storage: torch.UntypedStorage) -> None:
        name, size = storage._cdata, storage.nbytes()
        if name in self.known:
            return
        self.known.add(name)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, name, size)

    def _forget(self, name: int, size: int) -> None:
        self.known.discard(name)
        self.alive -= size


class _Attention(TorchFunctionMode):
    """Puts attention without its matrix in place of torch's, and counts its operations."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0.0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **named)
        given = dict(zip(("query", "key", "value"), args, strict=False)) | named
        query, key, value = given["query"], given["key"], given["value"]
        pairs = query.shape[:-1].numel() * key.shape[-2]
        self.operations += 2.0 * pairs * (query.shape[-1] + value.shape[-1])
        return _Fused.apply(query, key, value)


class _Fused(torch.autograd.Function):
    """Shapes only: the result, and gradients like the inputs."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])
