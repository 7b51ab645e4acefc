"""What the benchmarks share: a random GPT-2, ways to decode with it, and runs of them in turn.

Nothing here imports more than the standard library before a way runs, so that a benchmark of another library can use
it from that library's own environment.
"""

import importlib.metadata
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "gpt2_multi_layers_decoding"))

PROMPT_TOKENS, NEW_TOKENS = 8, 64
WIDTH, VOCABULARY = 768, 50257  # of GPT-2 with 124M parameters


def build_model(layers=12, width=WIDTH, vocabulary=VOCABULARY):
    """A GPT-2 with random weights, and a prompt; 124M parameters unless told otherwise.

    The weights are five times as large as a new model's, which repeats one token for ever: that two ways write the
    same tokens would then say little.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = {"n_layer": layers, "n_embd": width, "n_head": width // 64, "vocab_size": vocabulary}
    config = GPT2Config(**shape, initializer_range=0.1, bos_token_id=None, eos_token_id=None)
    model = GPT2LMHeadModel(config).eval()
    assert (layers, width) != (12, 768) or model.num_parameters() == 124_439_808
    return model, torch.randint(vocabulary, (PROMPT_TOKENS,)).tolist()


def generate(model, prompt, new=NEW_TOKENS, **options):
    """The ordinary decode: the yardstick."""
    import torch

    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, **options)
    return out[0, len(prompt) :].tolist()


def hidden_states_without_cache(model, prompt, new=NEW_TOKENS):
    """A common way: the whole text again for each token, every layer's states, one projection a layer."""
    import torch

    text = list(prompt)
    with torch.inference_mode():
        for _ in range(new):
            out = model(torch.tensor([text]), output_hidden_states=True, use_cache=False)
            for hidden in out.hidden_states[1:-1]:
                model.lm_head(model.transformer.ln_f(hidden[:, -1])).argmax(-1)
            text.append(int(out.logits[0, -1].argmax()))
    return text[len(prompt) :]


def ours(model, prompt, new=NEW_TOKENS, **options):
    """The last row of decode_layers."""
    from layer_decoding import decode_layers

    return list(decode_layers(model, prompt, new, **options).final_row.ids)


def run_in_turn(ways, rounds, slow=(), slow_rounds=1):
    """Run ways one after the other in each round, the slow ones in the first rounds only.

    `ways` is {name: function without arguments}. Returns {name: [seconds]} and {name: what its last run returned}.
    """
    seconds, results = {name: [] for name in ways}, {}
    for number in range(rounds):
        for name, way in ways.items():
            if name in slow and number >= slow_rounds:
                continue
            started = time.perf_counter()
            results[name] = way()
            seconds[name].append(time.perf_counter() - started)
    return seconds, results


def differing(rows, expected):
    """At how many places rows of tokens are not the same."""
    pairs = zip(rows, expected, strict=True)
    return sum(a != b for row, other in pairs for a, b in zip(row, other, strict=True))


def read_bandwidth(device="cpu", size=2**30, rounds=7):
    """Bytes a second at which this machine's memory can be read: a sum over `size` bytes, the best of some rounds."""
    import torch

    numbers = torch.ones(size // 4, device=device)
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        numbers.sum().item()  # `item` waits for a device that computes while we go on
        best = min(best, time.perf_counter() - started)
    return size / best


def bytes_a_token(model):
    """The weights that a decode reads for each token, the head once; of embeddings, which are looked up, one row."""
    looked_up = {module.weight for module in model.modules() if type(module).__name__ == "Embedding"}
    head = model.get_output_embeddings().weight
    return sum(weight.nbytes for weight in model.parameters() if weight is head or weight not in looked_up)


def versions(*libraries):
    """What runs here: {name: version}."""
    names = (*libraries, "torch", "transformers")
    return {name: importlib.metadata.version(name) for name in names} | {"python": platform.python_version()}
