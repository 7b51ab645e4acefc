"""A model by its name: from the cache without a network, else from a Hub, which can fail in many ways."""

import json
import shutil
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from fake_hub import COMMIT, FakeHub
from layer_decoding.models import hub
from layer_decoding.models.loading import load_model
from model_folders import (
    PICKLE,
    cut_short,
    edit_json,
    index_without_map,
    pickle_instead,
    shard,
    shard_missing,
    without,
)
from refusals import assert_sentence, refusal

INDEX = "model.safetensors.index.json"


@pytest.fixture
def online(tmp_path, monkeypatch) -> Path:
    """An empty cache, no token, no proxy, no offline mode, and whatever HF_ENDPOINT a test then sets."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    huggingface_hub.close_session()  # the client remembers the proxies it was made with
    yield tmp_path / "hub"
    huggingface_hub.close_session()


@pytest.fixture
def fake_hub(online, monkeypatch):  # noqa: ARG001 - for its effect
    server = FakeHub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to look up a name or to connect is an error, and is remembered."""
    attempts: list[object] = []

    def refuse(*args, **_kwargs):
        attempts.append(args)
        raise OSError("a network call")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield attempts
    assert not attempts


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def put_in_cache(cache: Path, name: str, folder: Path) -> Path:
    """`folder` as the snapshot of `name` that huggingface_hub would have left."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(folder, repository / "snapshots" / COMMIT))


# ---------------------------------------------------------------- here or in the cache


@pytest.mark.usefixtures("online", "no_network")
@pytest.mark.parametrize("name", ["mini", "folder"])
def test_no_network_for_a_model_that_is_here(name, tiny_folder):
    loaded = load_model(str(tiny_folder) if name == "folder" else name)
    assert loaded.revision is None
    assert len(loaded.notes) == 1


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("asked", [None, "gpt2", "openai-community/gpt2"])
@pytest.mark.parametrize("cached", ["gpt2", "openai-community/gpt2"])
def test_gpt2_comes_from_the_cache_under_either_name(cached, asked, online, tiny_folder):
    put_in_cache(online, cached, tiny_folder)
    loaded = load_model(asked)
    assert loaded.name == (asked or "gpt2")
    assert loaded.revision == COMMIT
    assert loaded.model.config.n_layer == 2
    assert len(loaded.notes) == 1


def test_spellings_of_other_names():
    assert hub.spellings("distilbert/distilgpt2") == ("distilbert/distilgpt2", "distilgpt2")
    assert hub.spellings("someone/gpt2") == ("someone/gpt2",)
    assert hub.spellings("someone/model") == ("someone/model",)


@pytest.mark.usefixtures("no_network")
def test_damaged_gpt2_in_the_cache_is_an_error_not_another_model(online, tiny_folder):
    cut_short(put_in_cache(online, "gpt2", tiny_folder))
    assert_sentence(refusal(), COMMIT, "model.safetensors", "cut short")


@pytest.mark.parametrize("damage", [without("model.safetensors"), shard_missing, index_without_map, pickle_instead])
def test_incomplete_snapshot_counts_as_not_cached(damage, online, tiny_folder, closed_port, monkeypatch):
    damage(put_in_cache(online, "some/model", tiny_folder))
    monkeypatch.setenv("HF_ENDPOINT", closed_port)
    assert_sentence(refusal("some/model"), "some/model", closed_port, "HF_ENDPOINT", "folder", "mini for the")


# ---------------------------------------------------------------- downloads


def test_download_is_announced_first_and_takes_no_pickle(fake_hub, tiny_folder):
    unwanted = {"pytorch_model.bin": PICKLE, "tf_model.h5": b"x", "onnx/config.json": b"{}", "README.md": b"x"}
    fake_hub.repositories["some/model"] = files_of(tiny_folder) | unwanted
    requests_at_notice: list[Counter[str]] = []
    loaded = load_model("some/model", on_notice=lambda _: requests_at_notice.append(Counter(fake_hub.requests)))
    assert requests_at_notice[0] == Counter({"GET /api/models/some/model": 1})
    assert_sentence(loaded.notes[0], "Downloading some/model", "MB", fake_hub.url)
    assert loaded.revision == COMMIT
    assert loaded.name == "some/model"
    downloaded = {request.rpartition("/main/")[2] for request in fake_hub.requests if "/resolve/" in request}
    assert downloaded == set(files_of(tiny_folder))
    assert torch.equal(loaded.model.lm_head.weight, load_model(str(tiny_folder)).model.lm_head.weight)


def test_second_time_comes_from_the_cache(fake_hub, tiny_folder):
    fake_hub.repositories["some/model"] = files_of(tiny_folder)
    load_model("some/model")
    fake_hub.requests.clear()
    assert load_model("some/model").revision == COMMIT
    assert fake_hub.requests == []


def test_incomplete_snapshot_is_completed(fake_hub, online, tiny_folder):
    fake_hub.repositories["some/model"] = files_of(tiny_folder)
    (put_in_cache(online, "some/model", tiny_folder) / "model.safetensors").unlink()
    assert load_model("some/model").revision == COMMIT


@pytest.mark.parametrize("moved", [False, True])
def test_gpt2_is_downloaded_when_nothing_is_asked_for(moved, fake_hub, tiny_folder):
    """On the Hub itself gpt2 is a redirection to openai-community/gpt2."""
    fake_hub.repositories["openai-community/gpt2" if moved else "gpt2"] = files_of(tiny_folder)
    for file in files_of(tiny_folder) if moved else ():
        end = f"gpt2/resolve/main/{file}"
        fake_hub.statuses[f"/{end}"] = (307, {"Location": f"/openai-community/{end}"})
    if moved:
        fake_hub.statuses["/api/models/gpt2"] = (307, {"Location": "/api/models/openai-community/gpt2"})
    loaded = load_model()
    assert (loaded.name, loaded.model.config.n_layer) == ("gpt2", 2)
    assert_sentence(loaded.notes[0], "Downloading gpt2 (0 MB)")


def sharded_as(folder: Path, pattern: str) -> dict[str, bytes]:
    """The files of `folder` with its weights in shards, called as `pattern` says; and others that no index names."""
    shard(folder)
    files = files_of(folder)
    index = json.loads(files[INDEX])
    names = sorted(set(index["weight_map"].values()))
    called = {name: pattern.format(number + 1, len(names)) for number, name in enumerate(names)}
    files |= {called[name]: files.pop(name) for name in names}
    index["weight_map"] = {tensor: called[name] for tensor, name in index["weight_map"].items()}
    others = ["consolidated.safetensors", "model.fp16.safetensors", "model-00001-of-00009.safetensors"]
    return files | {INDEX: json.dumps(index).encode()} | dict.fromkeys(others, b"x")


@pytest.mark.parametrize(
    "pattern",
    ["model-{:05}-of-{:05}.safetensors", "model_{:05}-of-{:05}.safetensors", "part{}of{}.safetensors"],
)
def test_shards_are_taken_by_the_index_whatever_they_are_called(pattern, fake_hub, tiny_copy, tiny_folder):
    fake_hub.repositories["some/model"] = sharded_as(tiny_copy, pattern)
    loaded = load_model("some/model")
    assert_sentence(loaded.notes[0], "Downloading some/model", "MB")
    asked = {request.rpartition("/main/")[2] for request in fake_hub.requests if "/resolve/" in request}
    assert not asked & {"consolidated.safetensors", "model.fp16.safetensors", "model-00001-of-00009.safetensors"}
    assert torch.equal(loaded.model.lm_head.weight, load_model(str(tiny_folder)).model.lm_head.weight)
    fake_hub.requests.clear()
    load_model("some/model")
    assert fake_hub.requests == []


def test_an_index_that_names_what_is_not_there(fake_hub, tiny_copy):
    fake_hub.repositories["some/model"] = sharded_as(tiny_copy, "{}of{}.safetensors")
    files = fake_hub.repositories["some/model"]
    first = next(name for name in sorted(files) if name.startswith("1of"))
    del files[first]
    assert_sentence(refusal("some/model"), f"lacks {first}", "another model")


def test_sizes():
    assert hub._size([548_105_171, None]) == "size unknown"
    assert hub._size([548_105_171, 1_355_256]) == "549 MB"


# ---------------------------------------------------------------- the chat template


TEMPLATE = "{{ messages[0]['content'] }}!"


def test_a_chat_template_is_downloaded(fake_hub, tiny_folder):
    fake_hub.repositories["some/model"] = files_of(tiny_folder) | {"chat_template.jinja": TEMPLATE.encode()}
    assert load_model("some/model").tokenizer.chat_template == TEMPLATE
    fake_hub.requests.clear()
    assert load_model("some/model").tokenizer.chat_template == TEMPLATE
    assert fake_hub.requests == []


def test_a_snapshot_without_the_template_that_the_hub_has_is_completed(fake_hub, online, tiny_folder):
    put_in_cache(online, "some/model", tiny_folder)
    fake_hub.repositories["some/model"] = files_of(tiny_folder) | {"chat_template.jinja": TEMPLATE.encode()}
    assert load_model("some/model").tokenizer.chat_template == TEMPLATE
    assert not any("safetensors" in request for request in fake_hub.requests)
    fake_hub.requests.clear()
    load_model("some/model")
    assert fake_hub.requests == []


def test_a_snapshot_that_has_no_template_to_take_is_asked_about_once(fake_hub, online, tiny_folder):
    put_in_cache(online, "some/model", tiny_folder)
    fake_hub.repositories["some/model"] = files_of(tiny_folder)
    for _ in range(2):
        assert load_model("some/model").revision == COMMIT
    assert fake_hub.requests == [f"GET /api/models/some/model/revision/{COMMIT}"]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("sign", ["template", "settings", "whole repository"])
def test_a_snapshot_that_lacks_nothing_needs_no_network(sign, online, tiny_folder):
    folder = put_in_cache(online, "some/model", tiny_folder)
    if sign == "template":
        (folder / "chat_template.jinja").write_text(TEMPLATE)
    elif sign == "settings":
        edit_json(folder / "tokenizer_config.json", chat_template=TEMPLATE)
    else:
        (folder / ".gitattributes").touch()
    assert (load_model("some/model").tokenizer.chat_template == TEMPLATE) is (sign != "whole repository")


def test_a_snapshot_stands_where_the_hub_cannot_be_asked(online, tiny_folder, closed_port, monkeypatch):
    put_in_cache(online, "some/model", tiny_folder)
    monkeypatch.setenv("HF_ENDPOINT", closed_port)
    assert load_model("some/model").revision == COMMIT


def test_proxy_is_honoured(fake_hub, tiny_folder, monkeypatch):
    """The Hub's name cannot be resolved here: only the proxy can answer for it."""
    fake_hub.repositories["some/model"] = files_of(tiny_folder)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("http_proxy", fake_hub.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert load_model("some/model").revision == COMMIT


def test_cache_that_cannot_be_written(fake_hub, tiny_folder, online):
    fake_hub.repositories["some/model"] = files_of(tiny_folder)
    online.write_text("a file where the cache should be")
    assert_sentence(refusal("some/model"), "some/model", "cannot be written", "HF_HOME")


# ---------------------------------------------------------------- what cannot be downloaded


@pytest.mark.parametrize(
    "missing, reason",
    [("model.safetensors", "pickle is refused"), ("config.json", "config.json"), ("tokenizer.json", "tokenizer")],
)
def test_repository_that_cannot_be_loaded_is_not_downloaded(missing, reason, fake_hub, tiny_folder):
    fake_hub.repositories["some/model"] = files_of(tiny_folder) | {"pytorch_model.bin": PICKLE}
    del fake_hub.repositories["some/model"][missing]
    assert_sentence(refusal("some/model"), "some/model", reason, "another model")
    assert fake_hub.requests == ["GET /api/models/some/model"]


@pytest.mark.parametrize(
    "status, headers, words",
    [
        (404, {}, ["knows no such model", "HTTP 404", "spelling"]),
        (404, {"X-Error-Code": "RepoNotFound"}, ["knows no such model", "HTTP 404", "spelling"]),
        (401, {}, ["knows no such model", "HTTP 401", "hf auth login"]),
        (403, {"X-Error-Code": "GatedRepo"}, ["accepted its terms", "hf auth login"]),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, ["refuses", "resource is disabled"]),
        (403, {}, ["refuses to give it (HTTP 403)", "hf auth login", "mirror"]),
        (429, {"X-Error-Message": "We had to rate limit you"}, ["HTTP 429: We had to rate limit you", "later"]),
        (503, {}, ["HTTP 503", "later"]),
        (200, {}, ["does not answer as a Hub does", "HF_ENDPOINT"]),
    ],
    ids=["unknown", "by-code", "unauthorised", "gated", "disabled", "forbidden", "too-often", "out-of-order", "no-hub"],
)
def test_answers_of_the_hub_that_are_no_model(status, headers, words, fake_hub):
    fake_hub.statuses["/api/models/some/model"] = (status, headers)
    message = refusal("some/model")
    assert_sentence(message, "some/model", "mini for the", *words)
    assert fake_hub.url in message or "GatedRepo" in headers.values()


@pytest.mark.parametrize(
    "status, said, words",
    [
        (401, "User Access Token is expired", ["access token", "HTTP 401: User Access Token is expired", "HF_TOKEN"]),
        (401, "Invalid credentials in Authorization header", ["access token", "Invalid credentials", "hf auth login"]),
        (
            403,
            "Your token lacks the read permission",
            ["refuses", "lacks the read permission", "what the access token"],
        ),
    ],
)
def test_an_access_token_that_is_not_taken(status, said, words, fake_hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    fake_hub.statuses["/api/models/some/model"] = (status, {"X-Error-Message": said})
    message = refusal("some/model")
    assert_sentence(message, *words)
    assert "knows no such model" not in message
    assert "terms" not in message


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_are_not_there(content, tmp_path, monkeypatch, closed_port):
    file = tmp_path / "certificates.pem"
    if content:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("HF_ENDPOINT", closed_port.replace("http:", "https:"))
    huggingface_hub.close_session()
    message = refusal("some/model")
    assert_sentence(message, f"the certificates in {file}, which SSL_CERT_FILE names", "unset")
    assert "cache cannot be written" not in message


@pytest.mark.parametrize(
    "files, words",
    [
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}, ["PEFT adapter", "merge it"]),
        ({"config.json": b"{}", "model-Q4.gguf": b"x"}, ["only GGUF files", "give its path"]),
    ],
)
def test_a_repository_of_something_else(files, words, fake_hub):
    fake_hub.repositories["some/model"] = files
    assert_sentence(refusal("some/model"), "some/model", *words)
    assert fake_hub.requests == ["GET /api/models/some/model"]


def test_gated_files_behind_an_open_listing(fake_hub, tiny_folder):
    fake_hub.repositories["some/model"] = files_of(tiny_folder)
    fake_hub.statuses["/some/model/resolve/main/config.json"] = (401, {"X-Error-Code": "GatedRepo"})
    assert_sentence(refusal("some/model"), "some/model", "accepted its terms", "hf auth login")


# ---------------------------------------------------------------- a Hub that cannot be reached


def test_hub_that_answers_and_then_falls_silent(fake_hub, tiny_folder, monkeypatch):
    monkeypatch.setattr(hub, "TIMEOUT_SECONDS", 0.3)
    fake_hub.repositories["some/model"] = files_of(tiny_folder)
    fake_hub.silent.add("/some/model/resolve/main/model.safetensors")
    started = time.perf_counter()
    assert_sentence(refusal("some/model"), "some/model", "broke off", "timed out", "HF_ENDPOINT", "mini for the")
    assert time.perf_counter() - started < 3


@pytest.mark.usefixtures("online")
def test_silent_hub_is_noticed_within_five_seconds(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        started = time.perf_counter()
        noticed: list[float] = []
        loaded = load_model(on_notice=lambda _: noticed.append(time.perf_counter() - started))
    assert noticed[0] < 5
    assert loaded.name == "mini"
    assert len(loaded.notes) == 2
    assert_sentence(loaded.notes[0], "gpt2", "mini", "4 seconds", "HF_ENDPOINT", "name its folder")


@pytest.mark.usefixtures("online")
def test_name_lookup_that_hangs_is_left_behind(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.3)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")

    def hang(*_args, **_kwargs):
        released.wait(30)
        raise socket.gaierror("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.perf_counter()
    try:
        assert_sentence(refusal("some/model"), "some/model", "http://hub.invalid", "HF_ENDPOINT", "mini for the")
        assert time.perf_counter() - started < 3
    finally:
        released.set()


@pytest.mark.usefixtures("online")
def test_refused_connection_falls_back_to_mini_only_for_the_default(closed_port, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", closed_port)
    assert load_model().name == "mini"
    assert_sentence(refusal("gpt2"), "gpt2", closed_port, "HF_ENDPOINT", "local folder", "mini for the")


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_mode_asks_nobody(variable, fake_hub, monkeypatch):
    monkeypatch.setenv(variable, "1")
    assert_sentence(refusal("some/model"), "some/model", f"unset {variable}", "folder", "mini for the")
    loaded = load_model()
    assert loaded.name == "mini"
    assert_sentence(loaded.notes[0], f"{variable} is set", f"unset {variable}")
    assert fake_hub.requests == []
