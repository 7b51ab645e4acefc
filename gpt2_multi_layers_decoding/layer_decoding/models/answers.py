"""What a Hub's answer means, or its silence: why no model came, and what would help."""

import json
import os
import ssl
from typing import Any

from layer_decoding.errors import LayerDecodingError, brief

_CONNECT = "check the connection, set HF_ENDPOINT to a mirror"
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # what the HTTP client reads


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


def endpoint() -> str:
    """The address of the Hub, or of the mirror that a reader has set."""
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT


def cache_error(name: str, error: Exception) -> HubError | None:
    """`error` of a download as one of the disk: the HTTP client has exceptions of its own for the network."""
    if not isinstance(error, OSError) or error.errno is None or getattr(error, "response", None) is not None:
        return None
    if isinstance(error, ssl.SSLError) or (isinstance(error, FileNotFoundError) and error.filename is None):
        return None  # of the certificates, which are read before anything is asked for
    return HubError(name, f"the cache cannot be written ({brief(error)})", "make room, set HF_HOME to another place")


def hub_error(name: str, error: Exception, otherwise: str) -> HubError:
    """`error` of huggingface_hub or its HTTP client as a sentence; `otherwise` says what failed if it is of no kind."""
    response: Any = getattr(error, "response", None)
    if response is not None:
        return _refusal(name, response)
    if isinstance(error, FileNotFoundError | ssl.SSLError) and _certificates() is not None:
        return _certificate_error(name, error)
    if isinstance(error, json.JSONDecodeError):
        return HubError(name, f"{endpoint()} does not answer as a Hub does ({brief(error)})")
    return HubError(name, f"{otherwise} ({brief(error)})")


def _refusal(name: str, response: Any) -> HubError:
    """What the Hub's answer means, by its status, the code and the words that come with it, and what was sent."""
    status, headers = response.status_code, response.headers
    said = headers.get("X-Error-Message")
    answer = f"HTTP {status}: {brief(Exception(said))}" if said else f"HTTP {status}"
    with_token = "authorization" in response.request.headers
    if headers.get("X-Error-Code") == "GatedRepo":
        return HubError(name, "the Hub gives it only to those who accepted its terms", "do that and `hf auth login`")
    if status == 401 and with_token:
        advice = "get a new one and `hf auth login`, or unset HF_TOKEN if that holds it"
        return HubError(name, f"{endpoint()} does not take the access token that was sent ({answer})", advice)
    if status in (401, 404):
        advice = "check the spelling, log in with `hf auth login` if it is private"
        return HubError(name, f"{endpoint()} knows no such model ({answer})", advice)
    if status == 403:
        advice = "check what the access token is allowed" if with_token else "log in with `hf auth login`"
        return HubError(name, f"{endpoint()} refuses to give it ({answer})", f"{advice}, or use a mirror (HF_ENDPOINT)")
    return HubError(name, f"{endpoint()} answered with {answer}", "try again later")


def _certificates() -> str | None:
    """The variable that says which certificates the HTTP client reads; None where none does."""
    return next((variable for variable in _CERTIFICATES if os.environ.get(variable)), None)


def _certificate_error(name: str, error: Exception) -> HubError:
    """`error` as one of the certificates that a variable names, without which no connection is even tried."""
    variable = _certificates()
    reason = f"the certificates in {os.environ[str(variable)]}, which {variable} names, cannot be used ({brief(error)})"
    return HubError(name, reason, f"let {variable} name a file of certificates, or unset it")
