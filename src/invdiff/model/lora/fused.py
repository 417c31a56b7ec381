"""The arithmetic of adapted layers in fewer passes over memory, for training.

PEFT adds B(A(x)) times a scale to a layer's output as a product, a scaling and a sum, each of which
reads and writes the whole output, forwards and backwards. The scale is 1 here (alpha is the rank),
and then product and sum are one operation of the linear algebra library. Results differ from PEFT's
by rounding.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.model.lora.adapter import NAME, adapted_layers


@contextmanager
def fused_branches(module: nn.Module) -> Iterator[None]:
    """The network with its adapted layers computed as told above, then as it was.

    A layer is left to PEFT while its adapter is off or not the only one, and if layer and adapter
    differ in precision.
    """
    with ExitStack() as after:
        for layer in adapted_layers(module).values():
            usual: Callable[..., Tensor] = layer.forward
            layer.forward = partial(_forward, layer, usual)
            after.callback(delattr, layer, "forward")
        yield


def _forward(layer: Any, usual: Callable[..., Tensor], x: Tensor) -> Tensor:
    down, up = layer.lora_A[NAME], layer.lora_B[NAME].weight
    plain = x.dtype == up.dtype == layer.base_layer.weight.dtype
    alone = layer.active_adapters == [NAME] and layer.scaling[NAME] == 1
    if layer.disable_adapters or layer.merged or not (alone and plain):
        return usual(x)
    base: Tensor = layer.base_layer(x)
    if up.dim() == 2:
        hidden = down(x).flatten(0, -2)
        return torch.addmm(base.flatten(0, -2), hidden, up.t()).view_as(base)
    each = up.flatten(1).expand(len(x), -1, -1)
    return torch.baddbmm(base.flatten(2), each, down(x).flatten(2)).view_as(base)
