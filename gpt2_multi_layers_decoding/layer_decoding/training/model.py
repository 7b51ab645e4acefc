"""A fresh GPT-2 of a recipe's shape, its optimizers, and as it is published."""

from typing import Any

import torch

from layer_decoding.training.muon import Muon
from layer_decoding.training.recipe import Recipe, derived_seed


def build_model(recipe: Recipe, vocabulary: int, end_id: int, device: str = "cpu") -> Any:
    """A GPT2LMHeadModel of the recipe's shape, its weights drawn from the seed."""
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

    torch.manual_seed(derived_seed(0, recipe.seed))
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        resid_pdrop=recipe.dropout,
        embd_pdrop=recipe.dropout,
        attn_pdrop=0.0,
        bos_token_id=end_id,
        eos_token_id=end_id,
        activation_function="gelu_pytorch_tanh",  # gelu_new in one fused kernel
    )
    model: Any = GPT2LMHeadModel(config)
    # Plain attention beats the CPU's flash kernel at short contexts; a GPU's is the faster one.
    model.set_attn_implementation("eager" if device == "cpu" else "sdpa")
    return model.to(device)


def to_publish(model: Any) -> Any:
    """The same model in float16, under the names that GPT-2's own configuration has for what was used."""
    model.config.activation_function = "gelu_new"
    model.config.resid_pdrop = model.config.embd_pdrop = 0.0
    return model.half()


def build_optimizers(model: Any, learning_rate: float) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the matrices of the blocks, AdamW for embeddings, norms and biases."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and ".h." in name else others).append(parameter)
    fast = torch.bfloat16 if model.device.type == "cuda" else torch.float32
    return (
        Muon(matrices, learning_rate, fast),
        torch.optim.AdamW(others, lr=learning_rate, weight_decay=0.0, betas=(0.9, 0.95), fused=True),
    )
