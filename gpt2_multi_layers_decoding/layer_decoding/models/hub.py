"""Everything that talks to the Hugging Face Hub, or to the cache it leaves on disk.

`find_cached` never touches the network. `fetch` asks the Hub once, gives it `PROBE_SECONDS` to answer, name look-up
included, and downloads what a model needs: config, tokenizer and safetensors, never a pickle.
"""

import json
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from layer_decoding.errors import LayerDecodingError, brief
from layer_decoding.models.folder import BPE_FILES, TOKENIZER_FILES, WEIGHTS_FILE, WEIGHTS_INDEX, is_complete

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo


PROBE_SECONDS = 4.0
TIMEOUT_SECONDS = 10.0  # without a byte, once the Hub has answered
_OWNERS = dict.fromkeys(("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"), "openai-community") | {
    "distilgpt2": "distilbert"
}
_SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *TOKENIZER_FILES,
    *BPE_FILES,
)
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_SHARD = re.compile(r"model[^/]*-\d+-of-\d+\.safetensors")
_CONNECT = "check the connection, set HF_ENDPOINT to a mirror"
Answer = TypeVar("Answer")


class HubError(LayerDecodingError):
    """No model came from the Hub: `reason` is the clause that says why, `advice` what would help.

    Both are kept apart from the message for a caller that has another model to offer.
    """

    def __init__(self, name: str, reason: str, advice: str = _CONNECT) -> None:
        super().__init__(
            f"{name} is not in the local cache and {reason}; {advice}, or give a local folder, or mini for the bundled"
            " model.",
            settings=("model",),
        )
        self.reason = reason
        self.advice = advice


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
        config = try_to_load_from_cache(spelling, "config.json")
        if isinstance(config, str) and is_complete(Path(config).parent):
            return Path(config).parent
    return None


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
    wanted = _wanted_files(sizes)
    _check_listing(name, wanted)
    say(f"Downloading {name} ({_size([sizes[file] for file in wanted])}) from {_endpoint()}.")
    return _download(name, wanted)


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


def _endpoint() -> str:
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT


def _ask(name: str) -> "ModelInfo":
    """What the Hub has under `name`, with file sizes: the probe and the first real request in one."""
    from huggingface_hub import HfApi

    def ask() -> "ModelInfo":
        return HfApi(endpoint=_endpoint()).model_info(name, files_metadata=True, timeout=PROBE_SECONDS)

    try:
        return _within(PROBE_SECONDS, ask)
    except Exception as error:
        raise _hub_error(name, error, f"{_endpoint()} cannot be reached") from error


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


def _wanted_files(sizes: dict[str, int | None]) -> list[str]:
    """The files at the repository's root to download, weights last: the single safetensors file, else its shards."""
    shards = [file for file in sorted(sizes) if _SHARD.fullmatch(file)]
    weights = [WEIGHTS_FILE] if WEIGHTS_FILE in sizes else [WEIGHTS_INDEX, *shards]
    return [file for file in (*_SMALL_FILES, *weights) if file in sizes]


def _check_listing(name: str, files: list[str]) -> None:
    """Refuse, before anything is downloaded, a repository that lacks a part of a model that can be loaded here."""
    if not any(file.endswith(".safetensors") for file in files):
        reason = "has no safetensors weights on the Hub (a pickle is refused, because unpickling can run any code)"
    elif "config.json" not in files:
        reason = "has no config.json on the Hub"
    elif not any(file in files for file in TOKENIZER_FILES) and not all(file in files for file in BPE_FILES):
        reason = "has no tokenizer on the Hub"
    else:
        return
    raise HubError(name, reason, "pick another model")


def _size(sizes: list[int | None]) -> str:
    known = [size for size in sizes if size is not None]
    return f"{sum(known) / 1e6:,.0f} MB" if len(known) == len(sizes) else "size unknown"


def _download(name: str, files: list[str]) -> Path:
    """Each of `files` into the cache; returns the snapshot folder.

    ``snapshot_download`` lists the files without any timeout, and ``hf_hub_download`` asks a silent Hub for a file's
    header up to six times, 60 seconds each. So the header is asked for here first, once, with a timeout.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    path = ""
    try:
        for file in files:
            get_hf_file_metadata(hf_hub_url(name, file, endpoint=_endpoint()), timeout=TIMEOUT_SECONDS)
            path = hf_hub_download(name, file, endpoint=_endpoint(), etag_timeout=TIMEOUT_SECONDS)
    except Exception as error:
        raise _hub_error(name, error, f"the download from {_endpoint()} broke off") from error
    return Path(path).parent


def _hub_error(name: str, error: Exception, otherwise: str) -> HubError:
    """`error` of huggingface_hub or its HTTP client as a sentence; `otherwise` says what failed if it is of no kind."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if type(error).__name__ == "GatedRepoError" or status == 403:
        return HubError(name, "the Hub gives it only to those who accepted its terms", "do that and `hf auth login`")
    if status in (401, 404):
        advice = "check the spelling, log in with `hf auth login` if it is private"
        return HubError(name, f"{_endpoint()} knows no such model (HTTP {status})", advice)
    if status is not None:
        return HubError(name, f"{_endpoint()} answered with HTTP {status}", "try again later")
    if isinstance(error, json.JSONDecodeError):
        return HubError(name, f"{_endpoint()} does not answer as a Hub does ({brief(error)})")
    # The HTTP client has exceptions of its own for the network, so an error number comes from the disk.
    if isinstance(error, OSError) and error.errno is not None:
        return HubError(
            name, f"the cache cannot be written ({brief(error)})", "make room, set HF_HOME to another place"
        )
    return HubError(name, f"{otherwise} ({brief(error)})")
