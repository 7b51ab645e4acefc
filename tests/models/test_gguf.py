"""Models in one GGUF file: the same model as its folder, and each way in which a file can fall short."""

import gguf
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import multi_layer_decoding_demo as demo
import reference
from layer_decoding import decode_layers, load_model
from layer_decoding.models import gguf as gguf_file
from layer_decoding.models.loading import quiet_libraries
from layer_decoding.models.prompts import encode_prompt
from refusals import refusal

END = "<|endoftext|>"
TOKENS = [*sorted(pre_tokenizers.ByteLevel.alphabet()), END, "on"]
CONTEXT, LAYERS, HEADS, WIDTH = 48, 3, 2, 16  # a context that is not GPT-2's 1,024


def writer_of(path, architecture, config):
    """A GGUF file under way: sizes and a byte tokenizer with one merge."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(4 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    kinds = [gguf.TokenType.NORMAL] * len(TOKENS)
    kinds[TOKENS.index(END)] = gguf.TokenType.CONTROL
    writer.add_token_types(kinds)
    writer.add_token_merges(["o n"])
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_bos_token_id(config.eos_token_id)
    return writer


def finish(writer, tensors):
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gpt2_file(path):
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
    torch.manual_seed(0)
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
    writer = writer_of(path, "gpt2", config)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    finish(writer, tensors)
    return model


def llama_file(path):
    """A random Llama and the GGUF file of it, in which the two halves of each rotated head are interleaved."""
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
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10_000.0)
    finish(writer, tensors)
    return model


@pytest.fixture
def file(tmp_path):
    """A GGUF file of a tiny GPT-2, to damage."""
    path = tmp_path / "tiny.gguf"
    gpt2_file(path)
    return path


@pytest.mark.parametrize("make", [gpt2_file, llama_file])
def test_a_file_is_the_model_it_was_made_of(make, tmp_path, capfd):
    model = make(tmp_path / "tiny.gguf")
    quiet_libraries()
    loaded = load_model(str(tmp_path / "tiny.gguf"), device="cpu")
    assert capfd.readouterr() == ("", "")  # no progress bar of the library
    assert (loaded.name, loaded.dtype, loaded.revision) == (str(tmp_path / "tiny.gguf"), "float32", None)
    assert loaded.model.config.max_position_embeddings == CONTEXT
    ids = encode_prompt(loaded.tokenizer, "once upon" + END)
    assert ids == [TOKENS.index(piece) for piece in ["on", "c", "e", "Ġ", "u", "p", "on", END]]
    assert loaded.tokenizer.decode(ids[:-1]) == "once upon"
    assert torch.allclose(reference.text_logits(loaded.model, ids), reference.text_logits(model, ids), atol=1e-4)
    decoding = decode_layers(loaded.model, ids, 5, context="own")
    assert list(decoding.final_row.ids) == reference.plain_greedy(model, ids, 5)


def test_a_script_reads_a_file(file, capsys):
    assert demo.main(["once", "--model", str(file), "--max-new-tokens", "3", "--color", "never"]) == 0
    out, err = capsys.readouterr()
    assert "Layer 3:" in out
    assert f"Running {file} on cpu" in err


def test_a_prompt_longer_than_the_files_context_is_refused(file, capsys):
    assert demo.main(["a" * CONTEXT, "--model", str(file)]) == 2
    assert f"context holds {CONTEXT}" in capsys.readouterr().err


def test_a_file_that_is_not_there(tmp_path):
    assert f"There is no file {tmp_path / 'absent.gguf'}" in refusal(str(tmp_path / "absent.gguf"))


def test_a_file_that_is_cut_short(file):
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    message = refusal(str(file))
    assert f"{len(whole) - 100:,} bytes" in message
    assert "cut short" in message


def test_a_file_cut_short_in_its_header(file):
    file.write_bytes(file.read_bytes()[:300])
    assert "300 bytes" in refusal(str(file))


@pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF"])
def test_a_file_that_is_something_else(content, tmp_path):
    path = tmp_path / "other.gguf"
    path.write_bytes(content)
    assert "no GGUF file that can be read" in refusal(str(path))


def test_a_folder_that_is_called_like_a_file(tmp_path):
    (tmp_path / "folder.gguf").mkdir()
    assert "There is no file" in refusal(str(tmp_path / "folder.gguf"))


def test_an_architecture_that_transformers_cannot_read(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "new.gguf", "unheard-of")
    finish(writer, {"token_embd.weight": torch.zeros(4, 4)})
    assert "unheard-of" in refusal(str(tmp_path / "new.gguf"))


def test_packages_that_are_not_installed(file, monkeypatch):
    monkeypatch.setattr(gguf_file, "find_spec", lambda package: None if package == "gguf" else package)
    message = refusal(str(file))
    assert "gguf to read it with" in message
    assert "pip install gguf accelerate" in message
