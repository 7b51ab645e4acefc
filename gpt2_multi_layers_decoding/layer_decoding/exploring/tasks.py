"""What a key can ask for, and what can come of it: plain values between the board and whoever has the model."""

from dataclasses import dataclass
from pathlib import Path

from layer_decoding.exploring.texts import Texts
from layer_decoding.layers import Layer


@dataclass(frozen=True)
class Write:
    """The model writes: one token, or all of the line."""

    line: bool = False


@dataclass(frozen=True)
class Take:
    """Tokens in the place of a step and of what follows it."""

    step: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class TakeText:
    """A typed text in the place of a step and of what follows it."""

    step: int
    text: str


@dataclass(frozen=True)
class TakeBack:
    """The last token away."""


@dataclass(frozen=True)
class Turn:
    """Another branch."""

    by: int


@dataclass(frozen=True)
class Drop:
    """This branch away."""


@dataclass(frozen=True)
class ChangeLens:
    """The next lens."""


@dataclass(frozen=True)
class WriteOwn:
    """What the model cut off after a layer would write in the place of a step."""

    layer: Layer
    step: int


@dataclass(frozen=True)
class Begin:
    """Another prompt."""

    prompt: str


@dataclass(frozen=True)
class Save:
    """A file."""

    path: Path


@dataclass(frozen=True)
class Copy:
    """The command that prints this."""


@dataclass(frozen=True)
class Leave:
    """The end."""


Task = Write | Take | TakeText | TakeBack | Turn | Drop | ChangeLens | WriteOwn | Begin | Save | Copy | Leave


@dataclass(frozen=True)
class OwnText:
    """What the model cut off after a layer would write in the place of a step of a text."""

    layer: Layer
    step: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Reply:
    """What came of a task: what is None stays as it was. `written_instead` tells the record of a writing cut short."""

    texts: Texts | None = None
    step: int | None = None
    lens: str | None = None
    prompt: str | None = None
    own: OwnText | None = None
    message: str = ""
    copied: str | None = None
    written_instead: int | None = None
