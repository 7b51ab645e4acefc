"""Silence and start-up: nothing of the libraries' own is printed, and nothing heavy is imported early."""

import os
import subprocess
import sys

from conftest import SOURCE
from layer_decoding.models.loading import quiet_libraries
from model_folders import add_attention_masks, edit_json
from refusals import refusal


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter, from the source folder, offline."""
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_VERBOSITY", "TRANSFORMERS_VERBOSITY"}
    inherited = {name: value for name, value in os.environ.items() if name not in quiet}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {"HF_HUB_OFFLINE": "1"} | environment,
        cwd=SOURCE,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_nothing_is_printed_when_the_libraries_are_quiet(tiny_copy):
    add_attention_masks(tiny_copy)  # transformers has a report on those, besides its progress bar
    edit_json(tiny_copy / "config.json", eos_token_id=50256)  # and a warning on that
    code = "from layer_decoding.models.loading import *; quiet_libraries(); load_model(FOLDER)"
    done = run_python(code.replace("FOLDER", repr(str(tiny_copy))))
    assert (done.stdout, done.stderr) == ("", "")


def test_quiet_after_the_libraries_are_imported(tiny_copy, capfd):
    quiet_libraries()
    edit_json(tiny_copy / "config.json", n_embd=18)
    refusal(str(tiny_copy))
    assert capfd.readouterr() == ("", "")


def test_importing_the_loader_imports_neither_torch_nor_transformers():
    heavy = "{'torch', 'transformers', 'huggingface_hub', 'safetensors'}"
    code = f"import sys, layer_decoding.models.loading; print({heavy} & set(sys.modules))"
    assert run_python(code).stdout == "set()\n"
