"""Tiny random vision models of the real transformers classes, saved as their authors would."""

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.model import tiny

SIDE = 16
TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
PICTURE = {"image_size": SIDE, "patch_size": 4}


def _saved(model, processor, folder):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def clip(folder):
    """A CLIP whose picture vectors differ from picture to picture."""
    tokens = tiny.tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokens), max_position_embeddings=16, eos_token_id=1, **TOWER
    )
    vision = CLIPVisionConfig(**TOWER, **PICTURE)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = CLIPModel(
            CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
        )
        for value in model.parameters():
            value.data += 0.1 * torch.randn_like(value)
    tokens.save_pretrained(folder)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    return _saved(model, processor, folder)


def siglip(folder):
    """A SigLIP; its texts are padded to the full length."""
    tokens = tiny.tokenizer()
    text = {"vocab_size": len(tokens), "max_position_embeddings": 16, **TOWER}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = SiglipModel(SiglipConfig(text_config=text, vision_config={**TOWER, **PICTURE}))
        for value in model.parameters():
            value.data += 0.1 * torch.randn_like(value)
    tokens.save_pretrained(folder)
    return _saved(model, _vit_processor(), folder)


def vit(folder, labels=("cat", "dog", "tree")):
    """An image classifier with these labels."""
    names = dict(enumerate(labels))
    config = ViTConfig(
        **TOWER, **PICTURE, id2label=names, label2id={name: key for key, name in names.items()}
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = ViTForImageClassification(config)
        for value in model.parameters():
            value.data += 0.1 * torch.randn_like(value)
    return _saved(model, _vit_processor(), folder)


def _vit_processor():
    return ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
