"""What transformers leaves out or gets wrong where it makes a model of a GGUF file's tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

FREQUENCIES = "rope_freqs.weight"


@contextmanager
def converting(dropped: list[str]) -> Iterator[None]:
    """While open, transformers' conversion of GGUF tensors tells `dropped` the names of those it has no place for.

    And it draws no progress bar, for which it has no switch; and where a file does not say how many heads share keys,
    none do: it would leave queries and keys in llama.cpp's order, which pairs other numbers than transformers rotates.
    """
    conversion: Any = import_module("transformers.modeling_gguf_pytorch_utils")
    before = conversion.tqdm, conversion.TENSOR_PROCESSORS
    conversion.tqdm = lambda tensors, **_: tensors
    conversion.TENSOR_PROCESSORS = _Processors(conversion.TENSOR_PROCESSORS)
    conversion.TENSOR_PROCESSORS.dropped = dropped
    try:
        yield
    finally:
        conversion.tqdm, conversion.TENSOR_PROCESSORS = before


class _Processors(dict[str, Any]):
    """transformers' table of an architecture's own steps, each made to note what is dropped."""

    dropped: list[str]

    def get(self, architecture: str, default: Any = None) -> Any:
        own, dropped = super().get(architecture, default), self.dropped

        class Noting(own):  # type: ignore[misc, valid-type]  # which it is, is only known now
            def __init__(self, config: dict[str, Any]) -> None:
                super().__init__({"num_key_value_heads": config.get("num_attention_heads")} | config)

            def process(self, name: str, **what: Any) -> Any:
                places = what["tensor_key_mapping"]
                try:
                    result = super().process(name=name, **what)
                except Exception:
                    if name in places:
                        raise
                    dropped.append(name)  # of the shape of nothing that belongs there
                    return import_module(own.__module__).GGUFTensor(what["weights"], name, {})
                if result.name is not None and result.name not in places:  # without a name it is in its place already
                    dropped.append(name)
                return result

        return Noting


def scale_frequencies(model: "PreTrainedModel", file: Path) -> None:
    """Divide the frequencies of rotary positions by the factors in `file`, as llama.cpp does (Llama 3.1 and later)."""
    factors = _read(file, FREQUENCIES)
    rotary = [module for module in model.modules() if getattr(module, "inv_freq", None) is not None]
    if not rotary or any(module.inv_freq.shape != factors.shape for module in rotary):
        raise LayerDecodingError(
            f"{file} holds {FREQUENCIES}, {len(factors)} factors for rotary positions, and the model has no place for"
            " them; take the model as a folder with config.json and safetensors."
        )
    for module in rotary:
        for name in ("inv_freq", "original_inv_freq"):
            if hasattr(module, name):
                frequencies: torch.Tensor = getattr(module, name)
                setattr(module, name, frequencies / factors.to(frequencies))


def _read(file: Path, name: str) -> "torch.Tensor":
    """One tensor of a GGUF file that is not quantised."""
    from transformers.integrations.gguf.reader import GgufHeader, load_gguf_state_dict

    tensor: torch.Tensor = load_gguf_state_dict(GgufHeader.from_file(str(file)))[name][...].float()
    return tensor
