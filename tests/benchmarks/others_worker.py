"""The other side of benchmark_others.py: one library in its own environment, its ways to every layer's greedy choice.

    python tests/benchmarks/others_worker.py transformer-lens FOLDER

FOLDER holds a GPT-2 (config.json, model.safetensors) and work.json: prompt, number of new tokens, runs, and the rows
of tokens that ours wrote. Prints one line of JSON: versions, seconds of each way and of `generate`, and how many
tokens differ. Each way takes the library's cheapest documented reading: hidden states at the last position only.
"""

import functools
import json
import sys
from pathlib import Path

from timing import differing, generate, run_in_turn, versions

WHOLE_TEXT = "the whole text again for each token"


def lens_choices(bridge, tokens, **options):
    """run_with_cache, and the logit lens over the residual stream: what it returned, and blocks 1 to L's choices."""
    names = lambda name: name.endswith(("hook_resid_pre", "hook_resid_post"))  # noqa: E731
    out, cache = bridge.run_with_cache(tokens, names_filter=names, pos_slice=-1, **options)
    stream = cache.accumulated_resid(apply_ln=True)[1:, :, -1]  # [L, 1, D]: the first is the embeddings
    return out, bridge.unembed(stream).argmax(-1).flatten().tolist()


def lens_whole_text(bridge, prompt, new):
    """TransformerLens, without a key-value cache: L rows of tokens."""
    import torch

    text, steps = list(prompt), []
    with torch.inference_mode():
        for _ in range(new):
            steps.append(lens_choices(bridge, torch.tensor([text]))[1])
            text.append(steps[-1][-1])
    return [list(row) for row in zip(*steps, strict=True)]


def lens_cached(bridge, prompt, new):
    """TransformerLens, with the model's key-value cache handed on from step to step: L rows of tokens."""
    import torch

    tokens, past, steps = list(prompt), None, []
    with torch.inference_mode():
        for _ in range(new):
            options = {"return_type": "logits_and_cache", "past_key_values": past, "use_cache": True}
            (_, past), choices = lens_choices(bridge, torch.tensor([tokens]), **options)
            steps.append(choices)
            tokens = [choices[-1]]
    return [list(row) for row in zip(*steps, strict=True)]


def transformer_lens(folder):
    """A bridge to the model, and the ways."""
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(folder, device="cpu")
    ways = {f"run_with_cache, {WHOLE_TEXT}": lens_whole_text, "run_with_cache, key-value cache": lens_cached}
    return bridge, ways


def trace_each_step(lm, prompt, new):
    """nnsight, a trace a token over the whole text: L rows of tokens."""
    import nnsight
    import torch

    text, steps = list(prompt), []
    with torch.inference_mode():
        for _ in range(new):
            with lm.trace(torch.tensor([text])):
                choices = nnsight.save([])
                for block in lm.transformer.h:
                    choices.append(lm.lm_head(lm.transformer.ln_f(block.output[:, -1])).argmax(-1).item())
            steps.append(list(choices))
            text.append(choices[-1])
    return [list(row) for row in zip(*steps, strict=True)]


def trace_generate(lm, prompt, new):
    """nnsight, one trace of a cached generate, a projection a layer: L rows of tokens."""
    import nnsight
    import torch

    ids = torch.tensor([prompt])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": new, "do_sample": False}
    with torch.inference_mode(), lm.generate(ids, **options) as tracer:
        steps = nnsight.save([])
        for _ in tracer.iter[:new]:
            choices = []
            for block in lm.transformer.h:
                choices.append(lm.lm_head(lm.transformer.ln_f(block.output[:, -1])).argmax(-1).item())
            steps.append(choices)
    return [list(row) for row in zip(*steps, strict=True)]


def trace_generate_stacked(lm, prompt, new):
    """The same with every layer's state in one projection: L rows of tokens."""
    import nnsight
    import torch

    ids = torch.tensor([prompt])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": new, "do_sample": False}
    with torch.inference_mode(), lm.generate(ids, **options) as tracer:
        steps = nnsight.save([])
        for _ in tracer.iter[:new]:
            states = []
            for block in lm.transformer.h:
                states.append(block.output[:, -1])
            steps.append(lm.lm_head(lm.transformer.ln_f(torch.cat(states))).argmax(-1).tolist())
    return [list(row) for row in zip(*steps, strict=True)]


def nnsight(folder):
    """The model wrapped for tracing, and the ways."""
    from nnsight import TransformersModel

    lm = TransformersModel(folder, task="text-generation", dispatch=True)
    ways = {
        f"a trace a token, {WHOLE_TEXT}": trace_each_step,
        "a traced generate, a projection a layer": trace_generate,
        "a traced generate, one projection of all layers": trace_generate_stacked,
    }
    return lm, ways


LIBRARIES = {"transformer-lens": transformer_lens, "nnsight": nnsight}
SLOW = {f"run_with_cache, {WHOLE_TEXT}", f"a trace a token, {WHOLE_TEXT}", "a traced generate, a projection a layer"}


def main():
    """Run the library's ways and `generate` in turn, and print what came out."""
    library, folder = sys.argv[1:]
    work = json.loads((Path(folder) / "work.json").read_text())
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    wrapped, functions = LIBRARIES[library](folder)
    prompt, new = work["prompt"], work["new"]
    ways = {name: functools.partial(function, wrapped, prompt, new) for name, function in functions.items()}
    expected = generate(model, prompt, new)
    for function in functions.values():
        function(wrapped, prompt, 2)  # what only a first run pays
    seconds, rows = run_in_turn(
        {"generate": functools.partial(generate, model, prompt, new), **ways}, work["runs"], SLOW
    )
    result = {
        "versions": versions(library),
        "seconds": seconds,
        "differ_from_generate": {name: differing(rows[name][-1:], [expected]) for name in ways},
        "differ_from_ours": {name: differing(rows[name], work["rows"]) for name in ways},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
