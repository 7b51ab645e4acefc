"""Device, dtype and memory: what is picked and why, and what is said where it cannot be had."""

import pytest
import torch
from transformers import GPT2LMHeadModel

from layer_decoding.errors import UsageError, is_out_of_memory
from layer_decoding.models import devices
from layer_decoding.models.folder import Folder
from layer_decoding.models.loading import load_model, pick_device, pick_dtype
from model_folders import store_in_half, tiny_config
from refusals import assert_sentence, refusal

# ---------------------------------------------------------------- device


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine with so many CUDA devices, and MPS or not."""

    def pretend(cuda: int, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    "asked, cuda, mps, device",
    [
        ("auto", 0, False, "cpu"),
        ("auto", 2, False, "cuda"),
        ("auto", 1, True, "cuda"),
        ("auto", 0, True, "mps"),
        ("cpu", 2, True, "cpu"),
        ("cuda", 1, False, "cuda"),
        ("cuda:1", 2, False, "cuda:1"),
        ("mps", 0, True, "mps"),
    ],
)
def test_device_that_is_there(asked, cuda, mps, device, machine):
    machine(cuda, mps)
    picked, reason = pick_device(asked)
    assert picked == device
    assert reason == "as asked" or asked == "auto"


@pytest.mark.parametrize(
    "asked, cuda, present", [("cuda", 0, "cpu"), ("cuda:2", 2, "cuda:0, cuda:1"), ("mps", 1, "cpu")]
)
def test_absent_device_is_refused_with_what_is_there(asked, cuda, present, machine):
    machine(cuda, False)
    assert_sentence(refusal("mini", device=asked), f"device {asked}", present, "or auto")


def test_build_of_torch_without_cuda_is_named(machine, monkeypatch):
    machine(0, False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in refusal("mini", device="cuda")
    assert "built without CUDA" not in refusal("mini", device="mps")


@pytest.mark.parametrize("asked", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CUDA", "", "cuda:0\n"])
def test_malformed_device_is_a_usage_error(asked):
    with pytest.raises(UsageError, match="not one of auto, cpu, cuda, cuda:N and mps"):
        load_model("mini", device=asked)


# ---------------------------------------------------------------- dtype


@pytest.mark.parametrize("asked", ["int8", "", "torch.float16", "half"])
def test_malformed_dtype_is_a_usage_error(asked):
    with pytest.raises(UsageError, match="not one of auto, float32, float16, bfloat16"):
        load_model("mini", dtype=asked)


@pytest.mark.parametrize(
    "asked, device, model_type, stored, dtype",
    [
        ("auto", "cpu", "llama", "bfloat16", "float32"),
        ("auto", "cpu", "gpt2", "float16", "float32"),
        ("auto", "cuda", "gpt2", "float16", "float32"),
        ("auto", "cuda:1", "llama", "bfloat16", "bfloat16"),
        ("auto", "mps", "llama", "float16", "float16"),
        ("bfloat16", "cpu", "gpt2", "float32", "bfloat16"),
        ("float32", "cuda", "llama", "float16", "float32"),
    ],
)
def test_dtype(asked, device, model_type, stored, dtype):
    assert pick_dtype(asked, device, model_type, stored)[0] == dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtype_asked_for_is_that_of_every_weight(dtype, tiny_folder):
    loaded = load_model(str(tiny_folder), dtype=dtype)
    assert loaded.dtype == dtype
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {getattr(torch, dtype)}


def test_dtype_of_a_file_is_what_most_of_its_weights_have(tiny_copy):
    store_in_half(tiny_copy)
    weights = Folder(tiny_copy, "").read_weights()
    assert weights.dtype == "float16"
    assert weights.parameter_count == GPT2LMHeadModel(tiny_config()).num_parameters()


# ---------------------------------------------------------------- memory


OUT_OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 999 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:24] or "MemoryError")
def test_exhausted_memory_is_one_sentence_with_the_need(error, tiny_folder, monkeypatch):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr("layer_decoding.models.folder.build", fail)
    assert is_out_of_memory(error)
    need = f"{Folder(tiny_folder, '').read_weights().parameter_count * 4 / 1e6:.0f} MB in float32"
    assert_sentence(refusal(str(tiny_folder)), str(tiny_folder), need, "smaller model or bfloat16")


def test_exhausted_accelerator_names_the_cpu_and_only_what_would_help():
    message = str(devices.memory_error("big/model", 7_000_000_000, "cuda", "bfloat16"))
    assert_sentence(message, "14,000 MB in bfloat16", "on cuda", "or the CPU")
    assert message.count("bfloat16") == 1


@pytest.mark.parametrize(
    "error", [RuntimeError("size mismatch"), ValueError("out of memory"), KeyError("x"), OSError(2, "No such file")]
)
def test_other_errors_are_not_exhausted_memory(error):
    assert not is_out_of_memory(error)
