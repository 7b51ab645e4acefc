"""What the project is measured against: plain transformers, and plain arithmetic in float64."""

import copy
from contextlib import contextmanager

import torch
from transformers import GenerationConfig


def greedy(model, prompt_ids, max_new_tokens, *, use_cache=True):
    """The reference's greedy tokens: generate with end-of-text and padding ids as the model's only settings.

    The model's own configuration is replaced, not only overridden: transformers fills whatever a passed
    configuration leaves open from it.
    """
    shipped = model.generation_config
    end = shipped.eos_token_id
    pad = end[0] if isinstance(end, list) else end
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad)
    ids = torch.tensor([list(prompt_ids)])
    try:
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=use_cache,
        )
    finally:
        model.generation_config = shipped
    return out[0, len(prompt_ids) :].tolist()


def library_search(model, prompt, new, **options):
    """transformers' own answer: (ids without padding, score) of each text, best first."""
    end = model.generation_config.eos_token_id
    ends = end if isinstance(end, list) else [end]
    shipped = model.generation_config
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=ends[0])
    ids = torch.tensor([prompt])
    try:
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )
    finally:
        model.generation_config = shipped
    texts = []
    for row, score in zip(out.sequences[:, len(prompt) :].tolist(), out.sequences_scores.tolist(), strict=True):
        stops = [position + 1 for position, token in enumerate(row) if token in ends]
        texts.append((tuple(row[: min(stops, default=new)]), score))
    return texts


def lens_logits(model, ids):
    """Every layer's logits at the last position, by transformers' own hidden states: float32 [L + 1, V].

    The last entry of `hidden_states` is already after ln_f; the others are not.
    """
    out = model(torch.tensor([list(ids)]), output_hidden_states=True)
    *raw, final = (hidden[0, -1] for hidden in out.hidden_states)
    rows = [model.transformer.ln_f(hidden) for hidden in raw]
    return torch.stack([model.lm_head(row) for row in [*rows, final]])


def log_softmax64(logits):
    """Natural log-probabilities in float64, straight from the definition."""
    logits = logits.double()
    shifted = logits - logits.max(-1, keepdim=True).values
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


def entropy_bits64(logits):
    """- Σ p log2 p, 0 log 0 being 0."""
    logp = log_softmax64(logits)
    return -(logp.exp() * logp).nan_to_num().sum(-1) / torch.log(torch.tensor(2.0, dtype=torch.float64))


def kl_bits64(final_logits, logits):
    """Σ p_final log2(p_final / p)."""
    logp_final, logp = log_softmax64(final_logits), log_softmax64(logits)
    return (logp_final.exp() * (logp_final - logp)).nan_to_num().sum(-1) / torch.log(
        torch.tensor(2.0, dtype=torch.float64)
    )


def rank(logits, token):
    """1 + tokens more likely + equally likely ones with a lower id, by sorting."""
    order = sorted(range(len(logits)), key=lambda i: (-float(logits[i]), i))
    return order.index(token) + 1


# ---------------------------------------------------------------- models cut off after a block


def cut(model, layers, blocks):
    """A copy of a model that has its first `layers` blocks only, `blocks` being the name of its list of blocks.

    Whatever a configuration holds for each block, and whatever a model holds for all of them in one matrix, is cut too.
    """
    short = copy.deepcopy(model)
    parent, _, name = blocks.rpartition(".")
    whole = getattr(short.get_submodule(parent), name)
    setattr(short.get_submodule(parent), name, whole[:layers])
    config = short.config
    sharing = getattr(config, "num_kv_shared_layers", 0)  # the last blocks, which have no keys and values of their own
    per_input = getattr(config, "hidden_size_per_layer_input", 0)
    for field, value in vars(config).copy().items():
        if isinstance(value, list) and len(value) == len(whole):
            setattr(config, field, value[:layers])
    config.num_hidden_layers = layers
    if sharing:
        config.num_kv_shared_layers = max(0, layers - (len(whole) - sharing))
    if per_input:
        base, width = short.get_submodule(parent), layers * per_input
        base.embed_tokens_per_layer.weight.data = base.embed_tokens_per_layer.weight[:, :width].clone()
        base.per_layer_model_projection.weight.data = base.per_layer_model_projection.weight[:width].clone()
    return short


@contextmanager
def put_out(block, paths):
    """While open, the modules of a block at some paths answer zeros: of several on one path, the innermost."""
    there = [path for path in paths if path in dict(block.named_modules())]

    def hook(_module, _args, output):
        first, *others = output if isinstance(output, tuple) else [output]
        return type(output)([torch.zeros_like(first), *others]) if others else torch.zeros_like(first)

    deepest = [path for path in there if not any(other.startswith(f"{path}.") for other in there)]
    handles = [block.get_submodule(path).register_forward_hook(hook) for path in deepest]
    assert handles, [name for name, _ in block.named_children()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def text_logits(model, ids):
    """The logits after each token of a text, by one uncached pass: [S, V]."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]


def plain_greedy(model, prompt_ids, max_new_tokens):
    """Greedy tokens without `generate` and without a cache: the whole text read again for each."""
    ids = list(prompt_ids)
    for _ in range(max_new_tokens):
        ids.append(int(text_logits(model, ids)[-1].argmax()))
    return ids[len(prompt_ids) :]


def text_logprobs(model, prompt_ids, ids):
    """Each token's log-probability by one uncached pass, in float64 from the logits on."""
    logprobs = log_softmax64(text_logits(model, [*prompt_ids, *ids]))
    return [logprobs[len(prompt_ids) - 1 + step, token].item() for step, token in enumerate(ids)]
