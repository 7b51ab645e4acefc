"""Everything that talks to the Hugging Face Hub, or to the cache it leaves on disk.

`find_cached` never touches the network. `fetch` asks the Hub once, gives it `PROBE_SECONDS` to answer, name look-up
included, and downloads what a model needs: config, tokenizer and safetensors, never a pickle.
"""

import os
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from layer_decoding.models.answers import HubError, cache_error, endpoint, hub_error
from layer_decoding.models.folder import (
    ADAPTER_CONFIG,
    BPE_FILES,
    CONFIG_FILE,
    TOKENIZER_FILES,
    WEIGHTS_FILE,
    WEIGHTS_INDEX,
    is_complete,
    shards,
)

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo


PROBE_SECONDS = 4.0
TIMEOUT_SECONDS = 10.0  # without a byte, once the Hub has answered
_OWNERS = dict.fromkeys(("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"), "openai-community") | {
    "distilgpt2": "distilbert"
}
_CHAT_TEMPLATE = "chat_template.jinja"
_SMALL_FILES = (
    CONFIG_FILE,
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    _CHAT_TEMPLATE,
    *TOKENIZER_FILES,
    *BPE_FILES,
)
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
Answer = TypeVar("Answer")


def is_possible_name(name: str) -> bool:
    """Whether the Hub could have a repository called `name`: ``name`` or ``owner/name``, in its characters."""
    _prepare()
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in __all__

    try:
        validate_repo_id(name)
    except ValueError:
        return False
    return True


def find_cached(name: str) -> Path | None:
    """The complete snapshot folder of `name` in the local cache, under either spelling of an old name; else None."""
    _prepare()
    from huggingface_hub import try_to_load_from_cache

    for spelling in spellings(name):
        config = try_to_load_from_cache(spelling, CONFIG_FILE)
        if isinstance(config, str) and is_complete(Path(config).parent):
            return Path(config).parent
    return None


def snapshot(name: str, say: Callable[[str], None]) -> Path:
    """The snapshot folder of `name`: the cached one, completed by a chat template if the Hub has one, else fetched.

    A cached one that nothing is known to be missing from is taken without a word to the network.
    """
    cached = find_cached(name)
    if cached is None:
        return fetch(name, say)
    if _may_lack_template(cached, name) and not _offline_variable():
        with suppress(HubError):
            _fetch_template(cached, name)
    return cached


def _may_lack_template(folder: Path, name: str) -> bool:
    """Whether a snapshot was taken without its chat template, as far as can be told from the cache.

    What was asked for in vain is marked there; a snapshot of all files is told by one that every repository has.
    """
    if len(spellings(name)) > 1 or any((folder / file).is_file() for file in (_CHAT_TEMPLATE, ".gitattributes")):
        return False  # GPT-2 itself has none
    settings = folder / "tokenizer_config.json"
    in_settings = settings.is_file() and '"chat_template"' in settings.read_text(encoding="utf-8", errors="replace")
    return not in_settings and not _absence_mark(folder).exists()


def _absence_mark(folder: Path) -> Path:
    """Where huggingface_hub's cache notes that a snapshot has no chat template."""
    return folder.parent.parent / ".no_exist" / folder.name / _CHAT_TEMPLATE


def _fetch_template(folder: Path, name: str) -> None:
    """The chat template of a cached snapshot, or a note that it has none."""
    if any(file.rfilename == _CHAT_TEMPLATE for file in _ask(name, folder.name).siblings or ()):
        _download(name, [_CHAT_TEMPLATE], folder.name)
    else:
        _note_absence(folder)


def _note_absence(folder: Path) -> None:
    with suppress(OSError):  # a cache that may only be read
        _absence_mark(folder).parent.mkdir(parents=True, exist_ok=True)
        _absence_mark(folder).touch()


def fetch(name: str, say: Callable[[str], None]) -> Path:
    """Download `name` from the Hub into the cache and return its snapshot folder; `say` is told the size first.

    Raises HubError when offline mode is on, when the Hub does not answer, and when it has no such model to give.
    """
    _prepare()
    offline = _offline_variable()
    if offline:
        raise HubError(name, f"{offline} is set", f"unset {offline}")
    info = _ask(name)
    sizes = {file.rfilename: file.size for file in info.siblings or ()}
    _check_listing(name, sizes.keys())
    wanted = [*(file for file in _SMALL_FILES if file in sizes), *_weight_files(name, sizes)]
    say(f"Downloading {name} ({_size([sizes[file] for file in wanted])}) from {endpoint()}.")
    folder = _download(name, wanted)
    if _CHAT_TEMPLATE not in sizes:
        _note_absence(folder)
    return folder


def spellings(name: str) -> tuple[str, ...]:
    """`name` first, then the other name of the same repository: ``gpt2`` is also ``openai-community/gpt2``."""
    owner, _, short = name.rpartition("/")
    full_owner = _OWNERS.get(short)
    if full_owner is None or owner not in ("", full_owner):
        return (name,)
    return (name, short if owner else f"{full_owner}/{short}")


def _prepare() -> None:
    """Settings that huggingface_hub reads when it is imported; a reader's own choice stays.

    Telemetry costs a request of up to 3 seconds before the one that is asked for. Xet has a second host and waits of
    its own, beyond the limits set here and beyond what a mirror offers; plain HTTP has neither.
    """
    for variable in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_XET"):
        os.environ.setdefault(variable, "1")


def _offline_variable() -> str | None:
    """The variable that forbids the network, now or when huggingface_hub was imported; None when none does."""
    from huggingface_hub import constants

    for variable in _OFFLINE_VARIABLES:
        if os.environ.get(variable, "").upper() in constants.ENV_VARS_TRUE_VALUES:
            return variable
    return _OFFLINE_VARIABLES[0] if constants.HF_HUB_OFFLINE else None


def _ask(name: str, revision: str | None = None) -> "ModelInfo":
    """What the Hub has under `name`, with file sizes: the probe and the first real request in one."""
    from huggingface_hub import HfApi

    def ask() -> "ModelInfo":
        return HfApi(endpoint=endpoint()).model_info(
            name, revision=revision, files_metadata=True, timeout=PROBE_SECONDS
        )

    try:
        return _within(PROBE_SECONDS, ask)
    except Exception as error:
        raise hub_error(name, error, f"{endpoint()} cannot be reached") from error


def _within(seconds: float, work: Callable[[], Answer]) -> Answer:
    """What `work` returns or raises, or TimeoutError after `seconds`.

    A name look-up cannot be interrupted, so the thread is left behind; being a daemon, it does not hold up the exit.
    """
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(timeout=seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds:g} seconds") from None


def _weight_files(name: str, sizes: dict[str, int | None]) -> list[str]:
    """The single safetensors file, else the index, which is downloaded for that, and the shards that it names."""
    if WEIGHTS_FILE in sizes:
        return [WEIGHTS_FILE]
    named = shards(_download(name, [WEIGHTS_INDEX]) / WEIGHTS_INDEX)
    missing = [file for file in named if file not in sizes]
    if missing:
        raise HubError(name, f"lacks {missing[0]} on the Hub, which its index names", "pick another model")
    return [WEIGHTS_INDEX, *named]


def _check_listing(name: str, files: Collection[str]) -> None:
    """Refuse, before anything is downloaded, a repository that lacks a part of a model that can be loaded here."""
    advice = "pick another model"
    if ADAPTER_CONFIG in files and CONFIG_FILE not in files:
        reason = "is a PEFT adapter on the Hub, not a model"
        advice = "merge it into the model that it was made for and save that"
    elif not {WEIGHTS_FILE, WEIGHTS_INDEX} & set(files):
        reason = "has no safetensors weights on the Hub (a pickle is refused, because unpickling can run any code)"
        if any(file.endswith(".gguf") for file in files):
            reason, advice = "has only GGUF files on the Hub", "download one of them and give its path"
    elif CONFIG_FILE not in files:
        reason = "has no config.json on the Hub"
    elif not any(file in files for file in TOKENIZER_FILES) and not all(file in files for file in BPE_FILES):
        reason = "has no tokenizer on the Hub"
    else:
        return
    raise HubError(name, reason, advice)


def _size(sizes: list[int | None]) -> str:
    known = [size for size in sizes if size is not None]
    return f"{sum(known) / 1e6:,.0f} MB" if len(known) == len(sizes) else "size unknown"


def _download(name: str, files: list[str], revision: str | None = None) -> Path:
    """Each of `files` into the cache; returns the snapshot folder.

    ``snapshot_download`` lists the files without any timeout, and ``hf_hub_download`` asks a silent Hub for a file's
    header up to six times, 60 seconds each. So the header is asked for here first, once, with a timeout.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    path = ""
    try:
        for file in files:
            url = hf_hub_url(name, file, endpoint=endpoint(), revision=revision)
            get_hf_file_metadata(url, timeout=TIMEOUT_SECONDS)
            path = hf_hub_download(name, file, endpoint=endpoint(), revision=revision, etag_timeout=TIMEOUT_SECONDS)
    except Exception as error:
        raise cache_error(name, error) or hub_error(name, error, f"the download from {endpoint()} broke off") from error
    return Path(path).parent
