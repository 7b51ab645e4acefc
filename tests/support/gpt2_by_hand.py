"""GPT-2 written out from its weights in float64: what each part adds to the hidden state at the last position."""

import math

import torch


def parts(model, ids):
    """{"embeddings": [D], ("attention", k): [D], ("heads", k): [H, D], ("mlp", k): [D]} at the last position."""
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    heads, found = model.config.n_head, {}
    state = weights["transformer.wte.weight"][ids] + weights["transformer.wpe.weight"][: len(ids)]
    found["embeddings"] = state[-1]
    for layer in range(1, model.config.n_layer + 1):
        own = {name.split(f"h.{layer - 1}.")[1]: w for name, w in weights.items() if f".h.{layer - 1}." in name}
        per_head = attention(normalised(state, own["ln_1.weight"], own["ln_1.bias"]), own, heads)
        added = per_head.sum(0) + own["attn.c_proj.bias"]
        found["heads", layer], found["attention", layer] = per_head[:, -1], added[-1]
        state = state + added
        inner = normalised(state, own["ln_2.weight"], own["ln_2.bias"]) @ own["mlp.c_fc.weight"] + own["mlp.c_fc.bias"]
        added = gelu(inner) @ own["mlp.c_proj.weight"] + own["mlp.c_proj.bias"]
        found["mlp", layer] = added[-1]
        state = state + added
    return found


def logits_of(model, parts_of_text, token, against):
    """What each part adds to the logit of one token less that of another, and the norm's bias."""
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    towards = weights["transformer.wte.weight"][token] - weights["transformer.wte.weight"][against]
    whole = sum(part for name, part in parts_of_text.items() if name[0] != "heads")
    size = math.sqrt(float((whole - whole.mean()).pow(2).mean()) + 1e-5)

    def logit(part):
        centred = part - part.mean(-1, keepdim=True)
        return (centred / size * weights["transformer.ln_f.weight"]) @ towards

    return {name: logit(part) for name, part in parts_of_text.items()} | {
        "norm bias": weights["transformer.ln_f.bias"] @ towards
    }


def attention(given, own, heads):
    """[H, S, D]: what each head adds at every position."""
    length, width = given.shape
    three = (given @ own["attn.c_attn.weight"] + own["attn.c_attn.bias"]).view(length, 3, heads, width // heads)
    queries, keys, values = three.permute(1, 2, 0, 3)  # [H, S, E] each
    scores = queries @ keys.transpose(1, 2) / math.sqrt(width // heads)
    scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
    brought = scores.softmax(-1) @ values
    return brought @ own["attn.c_proj.weight"].view(heads, width // heads, width)


def normalised(state, weight, bias):
    centred = state - state.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
