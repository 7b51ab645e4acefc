"""Tiny models and the GGUF files of them, as llama.cpp's converter writes them."""

import gguf
import torch
from tokenizers import pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

END = "<|endoftext|>"
TOKENS = [*sorted(pre_tokenizers.ByteLevel.alphabet()), END, "on"]
CONTEXT, LAYERS, HEADS, WIDTH = 48, 3, 2, 16  # a context that is not GPT-2's 1,024


def writer_of(path, architecture, config, pre=None):
    """A GGUF file under way: sizes and a byte tokenizer with one merge; `pre` names how it splits a text."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(4 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    kinds = [gguf.TokenType.NORMAL] * len(TOKENS)
    kinds[TOKENS.index(END)] = gguf.TokenType.CONTROL
    writer.add_token_types(kinds)
    writer.add_token_merges(["o n"])
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_bos_token_id(config.eos_token_id)
    return writer


def finish(writer, tensors, half=False):
    """Write what is left; with `half` the matrices in 16 bits, and the vectors in 32 as ever."""
    for name, tensor in tensors.items():
        numbers = tensor.half() if half and tensor.ndim == 2 else tensor.float()
        writer.add_tensor(name, numbers.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gpt2_file(path, pre=None, half=False, seed=0):
    """A random GPT-2 and the GGUF file of it, in which matrices lie the other way round."""
    config = GPT2Config(
        vocab_size=len(TOKENS),
        n_positions=CONTEXT,
        n_layer=LAYERS,
        n_head=HEADS,
        n_embd=WIDTH,
        eos_token_id=256,
        bos_token_id=256,
        initializer_range=0.3,
    )
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    names = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output"}
    names |= {"ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
    state = model.transformer.state_dict()
    tensors = {
        "token_embd.weight": state["wte.weight"],
        "position_embd.weight": state["wpe.weight"],
        "output_norm.weight": state["ln_f.weight"],
        "output_norm.bias": state["ln_f.bias"],
        "output.weight": state["wte.weight"],
    }
    for layer in range(LAYERS):
        for ours, theirs in names.items():
            weight = state[f"h.{layer}.{ours}.weight"]
            tensors[f"blk.{layer}.{theirs}.weight"] = weight.T if weight.ndim == 2 else weight
            tensors[f"blk.{layer}.{theirs}.bias"] = state[f"h.{layer}.{ours}.bias"]
    writer = writer_of(path, "gpt2", config, pre)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    finish(writer, tensors, half)
    return model


def llama_file(path, rope=None, extra=(), settings=(), heads_shared_by=HEADS):
    """A random Llama and the GGUF file of it, in which the two halves of each rotated head are interleaved.

    `rope` are the model's rope parameters, `extra` tensors and `settings` metadata that the file holds besides.
    """
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        max_position_embeddings=CONTEXT,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        eos_token_id=256,
        bos_token_id=256,
        initializer_range=0.3,
        rope_parameters=rope,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    names = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.o_proj": "attn_output"}
    names |= {f"self_attn.{letter}_proj": f"attn_{letter}" for letter in "qkv"}
    names |= {f"mlp.{name}_proj": f"ffn_{name}" for name in ("gate", "up", "down")}
    state = model.model.state_dict()
    tensors = {
        "token_embd.weight": state["embed_tokens.weight"],
        "output_norm.weight": state["norm.weight"],
        "output.weight": model.lm_head.weight,
    }
    for layer in range(LAYERS):
        for ours, theirs in names.items():
            weight = state[f"layers.{layer}.{ours}.weight"]
            if theirs in ("attn_q", "attn_k"):
                weight = weight.view(HEADS, 2, -1, WIDTH).transpose(1, 2).reshape(WIDTH, WIDTH)
            tensors[f"blk.{layer}.{theirs}.weight"] = weight
    writer = writer_of(path, "llama", config)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if heads_shared_by is not None:
        writer.add_head_count_kv(heads_shared_by)
    for name, value in dict(settings).items():
        getattr(writer, f"add_{name}")(value)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10_000.0)
    finish(writer, tensors | dict(extra))
    return model


def tokenizer_file(path, tokens, merges, pre=None, model="gpt2", **settings):
    """A GGUF file of a tokenizer, over bytes unless `model` says otherwise, and of one tensor."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(tokens))
    writer.add_token_merges([" ".join(pair) for pair in merges])
    for name, value in settings.items():
        getattr(writer, f"add_{name}")(value)
    finish(writer, {"token_embd.weight": torch.zeros(4, 4)})
