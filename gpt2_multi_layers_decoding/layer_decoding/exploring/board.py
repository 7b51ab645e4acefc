"""The board: where the cursor is, what is shown, and what a key asks for. No model, no screen.

A key that looks changes the board at once; one that needs the model is a task, performed elsewhere, whose replies the
board takes.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from layer_decoding.exploring.keys import COMMANDS, MOVES, character_of
from layer_decoding.exploring.tasks import (
    Begin,
    ChangeLens,
    Copy,
    Drop,
    Leave,
    OwnText,
    Reply,
    Save,
    Take,
    TakeBack,
    TakeText,
    Task,
    Turn,
    Write,
    WriteOwn,
)
from layer_decoding.exploring.texts import Texts
from layer_decoding.layers import PLAIN_LENS, Layer
from layer_decoding.results.greedy import LayerRow
from layer_decoding.results.measures import MEASURES, Measure

PAGE = 8  # layers
_VIEWS = (None, *MEASURES)  # None: the token itself


Asked = Literal["token", "prompt", "file"]
QUESTIONS: dict[Asked, str] = {"token": "What comes here", "prompt": "Prompt", "file": "Save to"}
_ASKING: dict[str, Asked] = {"t": "token", "/": "prompt", "s": "file"}


@dataclass
class Board:
    """What is looked at, and how. `row` counts the layers shown from 0, `step` from 1."""

    texts: Texts
    prompt: str
    lens: str = PLAIN_LENS
    row: int = -1
    step: int = 1
    view: int = 0
    message: str = ""
    own: OwnText | None = None
    asked: Asked | None = None
    typed: str = ""
    comparing: bool = False
    helping: bool = False
    record: list[str] = field(default_factory=list)  # the keys that led here from the prompt

    def __post_init__(self) -> None:
        self.row %= len(self.layers)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers shown."""
        return tuple(row.layer for row in self.texts.branch.steps[0].rows)

    @property
    def layer(self) -> Layer:
        """The layer under the cursor."""
        return self.layers[self.row]

    @property
    def measure(self) -> Measure | None:
        """The measure in the cells; None for the tokens themselves."""
        return _VIEWS[self.view]

    @property
    def cell(self) -> LayerRow:
        """What the layer under the cursor says there: one step."""
        return self.texts.branch.steps[self.step - 1].rows[self.row]

    def press(self, key: str) -> Task | None:
        """Take a key: look, type, or say what is to be done."""
        self.message = ""
        if self.asked is not None:
            return self._type(key)
        if self.helping:
            self.helping = False
            return None
        if key not in COMMANDS:
            self.message = f"'{key}' does nothing; ? lists the keys."
            return None
        if key in _ASKING:
            self.asked, self.typed = _ASKING[key], ""
            return None
        if key in MOVES:
            self.record.append(MOVES[key])
            self._move(MOVES[key])
            return None
        return self._command(key)

    def paste(self, text: str) -> None:
        """Take a text into the line that is typed."""
        if self.asked is not None:
            self.typed += " ".join(text.splitlines())

    def point(self, row: int, step: int) -> None:
        """Move to a cell, as the arrow keys would."""
        if self.asked is not None or self.helping:
            return
        across, down = step - self.step, row - self.row
        for key in ["right" if across > 0 else "left"] * abs(across) + ["down" if down > 0 else "up"] * abs(down):
            self.press(key)

    def take(self, reply: Reply) -> None:
        """Show what came of a task."""
        if reply.prompt is not None:
            self.prompt, self.record = reply.prompt, []
        if reply.written_instead is not None:
            self.record[-1:] = ["space"] * reply.written_instead
        if reply.texts is not None:
            self.texts, self.own = reply.texts, None
        self.own = reply.own or self.own
        self.lens = reply.lens or self.lens
        self.message = reply.message
        self.row = min(self.row, len(self.layers) - 1)
        self.step = min(reply.step or self.step, self.texts.branch.open_step)

    # ------------------------------------------------------------ keys

    def _move(self, where: str) -> None:
        last_row, last_step = len(self.layers) - 1, self.texts.branch.open_step
        row, step = {
            "left": (self.row, self.step - 1),
            "right": (self.row, self.step + 1),
            "up": (self.row - 1, self.step),
            "down": (self.row + 1, self.step),
            "home": (self.row, 1),
            "end": (self.row, last_step),
            "pageup": (self.row - PAGE, self.step),
            "pagedown": (self.row + PAGE, self.step),
        }[where]
        self.row, self.step = min(max(row, 0), last_row), min(max(step, 1), last_step)

    def _type(self, key: str) -> Task | None:
        """A key for the line that is typed: enter gives it, escape drops it."""
        if key == "backspace":
            self.typed = self.typed[:-1]
        elif key in ("enter", "escape"):
            asked, self.asked = self.asked, None
            return self._given(asked, self.typed) if key == "enter" and self.typed else None
        else:
            self.typed += character_of(key) or ""
        return None

    def _given(self, asked: Asked | None, text: str) -> Task:
        if asked == "token":
            self.record += ["t", *("space" if sign == " " else sign for sign in text), "enter"]
            return TakeText(self.step, text)
        return Begin(text) if asked == "prompt" else Save(Path(text).expanduser())

    def _command(self, key: str) -> Task | None:
        """A key that is a command: looking is done here, the rest is a task."""
        if key == "?":
            self.helping = True
        elif key == "escape":
            self.comparing, self.own = False, None
        elif key == "c":
            return Copy()
        elif key == "q":
            return Leave()
        elif key == "o":
            return WriteOwn(self.layer, self.step)
        else:
            self.record.append(key)
            return self._recorded(key)
        return None

    def _recorded(self, key: str) -> Task | None:
        """A command that belongs to the record."""
        if key == "m":
            self.view = (self.view + 1) % len(_VIEWS)
        elif key == "b":
            self.comparing = not self.comparing
            if self.comparing and self.texts.compared() is None:
                self.comparing, self.message = False, "There is one branch only; take another token to begin one."
        elif key.isdecimal():
            return self._candidate(int(key))
        else:
            tasks: dict[str, Task] = {
                "space": Write(),
                "g": Write(line=True),
                "enter": Take(self.step, self.cell.ids),
                "backspace": TakeBack(),
                "[": Turn(-1),
                "]": Turn(1),
                "x": Drop(),
                "n": ChangeLens(),
            }
            return tasks[key]
        return None

    def _candidate(self, place: int) -> Task | None:
        candidates = (self.cell.candidates or ((),))[0]
        if place > len(candidates):
            self.message = f"This cell has {len(candidates)} candidates only."
            return None
        return Take(self.step, (candidates[place - 1].id,))
