"""The prompt encoder of a base model: a two-layer CLIP text model and its tokenizer."""

from collections.abc import Iterable

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from invdiff.engine.distributed import randomness
from invdiff.engine.fitting.simple_loop import Recipe

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"


def build_tokenizer(prompts: Iterable[str], length: int) -> CLIPTokenizer:
    """A byte-level tokenizer that knows each word of ``prompts`` and can spell all others."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + WORD_END for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in sorted({word for prompt in prompts for word in prompt.lower().split()}):
        left = word[0]
        for position, letter in enumerate(word[1:], start=2):
            right = letter + WORD_END if position == len(word) else letter
            if (left, right) not in merges:
                merges.append((left, right))
                tokens.append(left + right)
            left += right
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([START, END, *tokens]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def build_encoder(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder for ``tokenizer``."""
    torch.manual_seed(randomness.derive(recipe.seed, "text"))
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.text_width,
            intermediate_size=2 * recipe.text_width,
            projection_dim=recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=4,
            max_position_embeddings=recipe.text_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def token_ids(tokenizer: CLIPTokenizer, prompts: list[str]) -> torch.Tensor:
    """Token numbers (prompt, token), padded as the stock pipeline pads them."""
    return tokenizer(
        prompts,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
