"""Inception v3 as the Fréchet inception distance has it, through torch-fidelity.

torch-fidelity would load a pickle from a shared cache or the network; it gets a private copy of
bytes that were hashed here, and nothing else.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from invdiff.errors import MissingExtra
from invdiff.model.vision.extractors.common import PLAIN, Extractor, trusted_bytes

FILE = "weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIDE = 299
FEATURES = 2048


def load(weights: Path) -> Extractor:
    """The 2,048 pooled features of FID.

    Its own resizing (TensorFlow's bilinear) takes pictures of any size.
    """
    hint = "get it with `invdiff weights fetch inception`"
    content = trusted_bytes(weights / FILE, SHA256, hint)
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as problem:
        raise MissingExtra("torch-fidelity", "fid") from problem
    with TemporaryDirectory() as private:  # nobody else can write there
        copy = Path(private) / FILE
        copy.write_bytes(content)
        model = FeatureExtractorInceptionV3(
            "inception-v3-compat", [str(FEATURES)], feature_extractor_weights_path=str(copy)
        )

    def features(pictures: Tensor) -> Tensor:
        whole = (pictures * 255).round().to(torch.uint8)
        found: Tensor = model(whole)[0]
        return found

    limits = "trained on ImageNet photographs; biased towards texture"
    return Extractor("inception", SHA256, FEATURES, 0, features, PLAIN, limits)
