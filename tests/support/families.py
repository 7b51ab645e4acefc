"""Tiny random models of every family that the lens is for.

Each is built by transformers' own causal class, with weights large enough that its layers disagree, and is small
enough to be decoded in milliseconds. Where a family has parts that only show after a while (a sliding window, a
pattern of layers, shared keys and values), the sizes bring them into play.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

VOCABULARY, CONTEXT = 97, 64
NO_IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
}
GPT = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": CONTEXT}
SIX_OF_THREE = {"num_hidden_layers": 6, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2}
SLIDING_AND_FULL = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 4}
UNTIED = {"tie_word_embeddings": False}  # where the tied model would only repeat its last token
GRANITE = {
    "embedding_multiplier": 3.0,
    "logits_scaling": 0.5,
    "residual_multiplier": 0.7,
    "attention_multiplier": 0.4,
}

EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
MAMBA2 = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
    "mamba_chunk_size": 8,
}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "head_dim": 8,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}

# What is refused where blocks cannot be separated, where nothing can be read on from a cache, or where blocks hand on
# more than one hidden state.
CUTS = ("own", "beam, sampling on a layer", "embeddings", "truncation")
CACHED = ("shared", "beam", "sampling", *CUTS)
STREAMS = ("shared", "beam", "text", *CUTS)
# And where a block is not its input with what an attention and an MLP add to it: mostly a norm comes after the sum.
WHOLE = ("halves", "why")


@dataclass(frozen=True)
class Family:
    """A family by the name people know it by: transformers' name of it, where its blocks are, and small sizes.

    `parameters` is what the tiny model must have. `quick` families are tested on every run.
    `refused` names the checks of `family_checks` in which the project says that it cannot; in all others it is exact.
    """

    name: str
    model_type: str
    blocks: str
    parameters: int
    sizes: dict[str, Any] = field(default_factory=dict)
    quick: bool = False
    seed: int = 0
    refused: tuple[str, ...] = ()

    @property
    def attentions(self) -> list[str]:
        """The attention implementations that the family's class has, of those that need no other library."""
        model_class = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[self.model_type]]
        return ["eager", "sdpa"] if model_class._supports_sdpa else ["eager"]

    def build(self, attention: str | None = None) -> Any:
        """The tiny model, the same at every call: in evaluation mode, without gradients and special tokens."""
        model = self.with_vocabulary(VOCABULARY)
        assert model.num_parameters() == self.parameters, f"{self.name}: {model.num_parameters():_} parameters"
        if attention is not None:
            model.set_attn_implementation(attention)
        return model

    def with_vocabulary(self, tokens: int) -> Any:
        """The model with as many tokens as a tokenizer of some kind has."""
        config_class = CONFIG_MAPPING[self.model_type]
        scale = "init_std" if hasattr(config_class, "init_std") else "initializer_range"
        sizes = {"vocab_size": tokens, scale: 0.3} | NO_IDS | self.sizes
        if hasattr(config_class, "vocab_size_per_layer_input"):
            sizes["vocab_size_per_layer_input"] = tokens
        torch.manual_seed(self.seed)
        model = MODEL_FOR_CAUSAL_LM_MAPPING[config_class](config_class(**sizes)).eval().requires_grad_(False)
        for parameter in model.parameters():
            # Norms begin as if they were not there, and biases are not always a vector.
            if parameter.ndim == 1 or parameter.std() == 0:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        return model


FAMILIES = (
    Family("GPT-2", "gpt2", "transformer.h", 56_032, GPT, quick=True),
    Family(
        "GPT-Neo",
        "gpt_neo",
        "transformer.h",
        55_648,
        {"hidden_size": 32, "num_layers": 4, "num_heads": 4, "max_position_embeddings": CONTEXT, "window_size": 4}
        | {"attention_types": [[["global", "local"], 2]]},
    ),
    Family("GPT-J", "gptj", "transformer.h", 56_417, GPT | {"rotary_dim": 4}),
    Family(
        "GPT-NeoX, Pythia", "gpt_neox", "gpt_neox.layers", 36_288, LLAMA | {"num_key_value_heads": None}, quick=True
    ),
    Family("OPT", "opt", "model.decoder.layers", 35_296, LLAMA | {"ffn_dim": 48}, quick=True),
    Family(
        "OPT-350m",
        "opt",
        "model.decoder.layers",
        34_704,
        LLAMA | {"ffn_dim": 48, "do_layer_norm_before": False, "word_embed_proj_dim": 16},
        refused=WHOLE,
    ),
    Family("BLOOM", "bloom", "transformer.h", 54_048, {"hidden_size": 32, "n_layer": 4, "n_head": 4}, quick=True),
    Family(
        "Falcon",
        "falcon",
        "transformer.h",
        48_736,
        LLAMA | {"num_kv_heads": 2, "new_decoder_architecture": True},
    ),
    Family("Falcon, ALiBi", "falcon", "transformer.h", 46_688, LLAMA | {"alibi": True, "parallel_attn": False}),
    Family(
        "MPT",
        "mpt",
        "transformer.blocks",
        52_544,
        {"d_model": 32, "n_heads": 4, "n_layers": 4, "max_seq_len": CONTEXT},
        refused=("own",),  # where there are as many heads as rows, its biases of heads pass for biases of rows
    ),
    Family("CodeGen", "codegen", "transformer.h", 56_417, GPT | {"rotary_dim": 4}),
    Family("GPT-BigCode, StarCoder", "gpt_bigcode", "transformer.h", 49_696, GPT),
    Family("StarCoder2", "starcoder2", "model.layers", 28_960, LLAMA | {"sliding_window": 4}),
    Family(
        "XGLM",
        "xglm",
        "model.layers",
        36_288,
        {"d_model": 32, "ffn_dim": 48, "num_layers": 4, "attention_heads": 4, "max_position_embeddings": CONTEXT}
        | UNTIED,
    ),
    Family("BioGPT", "biogpt", "biogpt.layers", 38_400, LLAMA | UNTIED),
    Family("Llama", "llama", "model.layers", 37_216, LLAMA, quick=True),
    Family(
        "Llama 4",
        "llama4_text",
        "model.layers",
        72_800,
        LLAMA
        | {"head_dim": 8, "intermediate_size_mlp": 40, "num_local_experts": 4, "attention_chunk_size": 4}
        | {"interleave_moe_layer_step": 2},
    ),
    Family("Mistral", "mistral", "model.layers", 37_216, LLAMA | {"sliding_window": 4}, quick=True, seed=1),
    Family("Mixtral", "mixtral", "model.layers", 93_024, LLAMA | {"num_local_experts": 4}),
    Family("Qwen2", "qwen2", "model.layers", 37_472, LLAMA),
    Family(
        "Qwen2-MoE",
        "qwen2_moe",
        "model.layers",
        50_400,
        LLAMA | EXPERTS | {"num_experts": 4, "shared_expert_intermediate_size": 16},
    ),
    Family("Qwen3", "qwen3", "model.layers", 37_280, LLAMA | {"head_dim": 8}),
    Family("Qwen3-MoE", "qwen3_moe", "model.layers", 43_936, LLAMA | EXPERTS | {"head_dim": 8, "num_experts": 4}),
    Family(
        "Qwen3-Next",
        "qwen3_next",
        "model.layers",
        55_328,
        LLAMA | EXPERTS | LINEAR | {"num_experts": 4, "shared_expert_intermediate_size": 16},
    ),
    Family("Qwen3.5", "qwen3_5_text", "model.layers", 42_400, LLAMA | LINEAR),
    Family("Gemma", "gemma", "model.layers", 34_112, LLAMA | {"head_dim": 8}),
    Family(
        "Gemma 2",
        "gemma2",
        "model.layers",
        37_472,
        LLAMA
        | SLIDING_AND_FULL
        | {"head_dim": 8, "query_pre_attn_scalar": 12, "final_logit_softcapping": 4.0, "attn_logit_softcapping": 2.0}
        | UNTIED,
        quick=True,
    ),
    Family(
        "Gemma 3",
        "gemma3_text",
        "model.layers",
        50_080,
        LLAMA | SIX_OF_THREE | {"head_dim": 8, "query_pre_attn_scalar": 12, "sliding_window": 4},
    ),
    Family(
        "Gemma 3n",
        "gemma3n_text",
        "model.layers",
        65_952,
        LLAMA
        | SIX_OF_THREE
        | {"head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 4.0}
        | {"hidden_size_per_layer_input": 8, "num_kv_shared_layers": 3, "laurel_rank": 4, "intermediate_size": [48] * 6}
        | {"activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0, 0.0, 0.0]},
        refused=(*STREAMS, *WHOLE),
    ),
    Family(
        "Gemma 4",
        "gemma4_text",
        "model.layers",
        383_624,
        LLAMA
        | SIX_OF_THREE
        | {"head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 4.0}
        | UNTIED
        | {"hidden_size_per_layer_input": 8, "num_kv_shared_layers": 3},
        refused=CUTS,
    ),
    Family("Phi", "phi", "model.layers", 31_905, LLAMA),
    Family("Phi-3, Phi-4", "phi3", "model.layers", 37_216, LLAMA | {"sliding_window": 4}),
    Family("Phi-MoE", "phimoe", "model.layers", 93_312, LLAMA | {"num_local_experts": 4, "sliding_window": 4}),
    Family("StableLM", "stablelm", "model.layers", 37_248, LLAMA | {"use_parallel_residual": True}),
    Family("OLMo", "olmo", "model.layers", 36_928, LLAMA | {"clip_qkv": 2.0}),
    Family("OLMo 2", "olmo2", "model.layers", 37_408, LLAMA),
    Family("OLMo 3", "olmo3", "model.layers", 37_408, LLAMA | SLIDING_AND_FULL),
    Family("OLMoE", "olmoe", "model.layers", 93_216, LLAMA | {"num_experts": 4, "num_experts_per_tok": 2}),
    Family("Cohere", "cohere", "model.layers", 33_984, LLAMA | {"logit_scale": 0.5}),
    Family("Cohere2", "cohere2", "model.layers", 33_984, LLAMA | SLIDING_AND_FULL | {"logit_scale": 0.5}),
    Family(
        "Granite",
        "granite",
        "model.layers",
        37_216,
        LLAMA | GRANITE,
    ),
    Family("SmolLM3", "smollm3", "model.layers", 34_112, LLAMA),
    Family("GLM", "glm", "model.layers", 37_472, LLAMA | {"head_dim": 8}),
    Family("GLM-4", "glm4", "model.layers", 37_728, LLAMA | {"head_dim": 8}),
    Family("Nemotron", "nemotron", "model.layers", 31_360, LLAMA),
    Family("Persimmon", "persimmon", "model.layers", 36_416, LLAMA),
    Family(
        "DeepSeek-V2",
        "deepseek_v2",
        "model.layers",
        46_128,
        LLAMA
        | EXPERTS
        | {"num_key_value_heads": 4, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1}
        | {"kv_lora_rank": 8, "q_lora_rank": 12, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8},
    ),
    Family(
        "DeepSeek-V3",
        "deepseek_v3",
        "model.layers",
        64_944,
        LLAMA
        | EXPERTS
        | {"num_key_value_heads": 4, "n_routed_experts": 8, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1}
        | {"kv_lora_rank": 8, "q_lora_rank": 12, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8},
    ),
    Family(
        "GPT-OSS",
        "gpt_oss",
        "model.layers",
        95_488,
        LLAMA | SLIDING_AND_FULL | {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    Family("Falcon-H1", "falcon_h1", "model.layers", 66_000, LLAMA | MAMBA2 | {"mamba_d_ssm": 64}),
    Family("Bamba", "bamba", "model.layers", 45_592, LLAMA | MAMBA2 | {"attn_layer_indices": [1, 3]}),
    Family(
        "Jamba",
        "jamba",
        "model.layers",
        76_296,
        LLAMA
        | {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 4, "mamba_d_state": 8, "mamba_dt_rank": 4}
        | {"use_mamba_kernels": False},
    ),
    Family(
        "Zamba2",
        "zamba2",
        "model.layers",
        86_160,
        LLAMA
        | {"layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "mamba_d_state": 8, "n_mamba_heads": 4}
        | {"use_mamba_kernels": False, "time_step_min": 1e-6, "chunk_size": 8, "num_key_value_heads": 4},
        refused=("halves",),
    ),
    Family("LFM2", "lfm2", "model.layers", 116_256, LLAMA | {"layer_types": ["conv", "full_attention"] * 2}),
    Family(
        "Recurrent Gemma",
        "recurrent_gemma",
        "model.layers",
        27_840,
        LLAMA | {"attention_window_size": 4},
        refused=("beam", "sampling", *CUTS),
    ),
    Family("GPT-1", "openai-gpt", "transformer.h", 55_968, GPT, refused=(*CACHED, *WHOLE)),
    Family("CTRL", "ctrl", "transformer.h", 33_281, GPT | {"dff": 48}),
    Family("Ministral 3", "ministral3", "model.layers", 37_216, LLAMA | {"head_dim": 8, "sliding_window": 4}),
    Family(
        "Qwen3.5-MoE",
        "qwen3_5_moe_text",
        "model.layers",
        55_328,
        LLAMA | EXPERTS | LINEAR | {"num_experts": 4, "shared_expert_intermediate_size": 16},
    ),
    Family(
        "VaultGemma",
        "vaultgemma",
        "model.layers",
        37_216,
        LLAMA
        | SLIDING_AND_FULL
        | {"head_dim": 8, "query_pre_attn_scalar": 12, "final_logit_softcapping": 4.0}
        | UNTIED,
    ),
    Family("Granite-MoE", "granitemoe", "model.layers", 93_024, LLAMA | GRANITE | {"num_local_experts": 4}),
    Family(
        "Granite 4",
        "granitemoehybrid",
        "model.layers",
        107_544,
        LLAMA
        | GRANITE
        | MAMBA2
        | {"num_local_experts": 4, "layer_types": ["mamba", "attention"] * 2, "shared_intermediate_size": 16},
    ),
    Family("GLM-4-MoE", "glm4_moe", "model.layers", 46_816, LLAMA | EXPERTS | {"n_routed_experts": 4, "head_dim": 8}),
    Family("EXAONE 4", "exaone4", "model.layers", 37_280, LLAMA | SLIDING_AND_FULL),
    Family("Seed-OSS", "seed_oss", "model.layers", 37_472, LLAMA | {"head_dim": 8}),
    Family("Hunyuan", "hunyuan_v1_dense", "model.layers", 37_280, LLAMA | {"head_dim": 8}),
    Family("ERNIE 4.5", "ernie4_5", "model.layers", 34_112, LLAMA | {"head_dim": 8}),
    Family("Helium", "helium", "model.layers", 37_216, LLAMA | {"head_dim": 8}),
    Family("Arcee", "arcee", "model.layers", 31_072, LLAMA),
    Family("Apertus", "apertus", "model.layers", 31_144, LLAMA),
    Family("BitNet", "bitnet", "model.layers", 37_536, LLAMA),
    Family("NanoChat", "nanochat", "model.layers", 30_784, LLAMA),
    Family("DiffLlama", "diffllama", "model.layers", 37_344, LLAMA),
    Family(
        "MiniMax",
        "minimax",
        "model.layers",
        97_184,
        LLAMA | {"num_local_experts": 4, "head_dim": 8},
        refused=(*CACHED, *WHOLE),
    ),
    Family(
        "Nemotron-H",
        "nemotron_h",
        "model.layers",
        25_020,
        LLAMA
        | {
            "head_dim": 8,
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "n_groups": 1,
            "ssm_state_size": 8,
            "time_step_min": 1e-6,
            "chunk_size": 8,
            "moe_intermediate_size": 16,
            "moe_shared_expert_intermediate_size": 16,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
        },
        refused=("halves",),
    ),
    Family(
        "LFM2-MoE",
        "lfm2_moe",
        "model.layers",
        41_376,
        LLAMA | EXPERTS | {"layer_types": ["conv", "full_attention"] * 2, "num_experts": 4, "num_dense_layers": 1},
    ),
    Family("BERT as a decoder", "bert", "bert.encoder.layer", 36_513, LLAMA | {"is_decoder": True}, refused=WHOLE),
)
