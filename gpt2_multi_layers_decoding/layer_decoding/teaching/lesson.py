"""What the teaching scripts share: their command line, a model in float64, steps with asserted shapes, the proof.

No torch here: a tensor is anything that has a `shape`. What they print is a `lesson_page.Page`.
"""

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from layer_decoding.cli.options import Parser, add_device, add_model_name, add_prompt, add_screen_options
from layer_decoding.cli.running import load, notice
from layer_decoding.errors import LayerDecodingError
from layer_decoding.terminal.pieces import Pieces, token_texts
from layer_decoding.terminal.theme import Terminal

if TYPE_CHECKING:
    from layer_decoding.models.loading import LoadedModel


IN_FLOAT64 = "The proof, in float64 by hand as in the model, so that no rounding is in the way"


def lesson_parser(purpose: str, examples: str) -> Parser:
    """The command line of a lesson that follows a model on a prompt: by hand and in the model."""
    parser = Parser(purpose, examples)
    add_prompt(parser)
    add_lesson_model(parser)
    add_screen_options(parser.add_argument_group("output"))
    return parser


def add_lesson_model(parser: Parser) -> None:
    """Which model a lesson follows, and where; how many bits its numbers have is the lesson's own affair."""
    group = parser.add_argument_group("model")
    add_model_name(group)
    add_device(group)
    parser.set_defaults(device_map=None, dtype="auto")


class HasShape(Protocol):
    """A tensor, as far as a step needs to know it."""

    @property
    def shape(self) -> Any:
        """Its sizes."""


class Steps:
    """The steps of a computation: each with its formula, and a shape in symbols that is asserted, not only said."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = sizes
        self.rows: list[tuple[str, str, str]] = []

    def __call__(self, formula: str, tensor: HasShape, symbols: str) -> None:
        """Record a step whose result has the shape that the symbols name, such as "P D"."""
        expected = tuple(self.sizes[symbol] for symbol in symbols.split())
        assert tuple(tensor.shape) == expected, f"{formula}: {tuple(tensor.shape)} is not [{symbols}] = {expected}"
        self.rows.append((symbols, " ".join(map(str, expected)), formula))

    def take(self) -> list[tuple[str, str, str]]:
        """The steps recorded since the last time."""
        rows, self.rows = self.rows, []
        return rows


def token_labels(pieces: Pieces, ids: Sequence[int], terminal: Terminal) -> list[str]:
    """Each token by itself, its spaces visible and nothing in it that a terminal obeys."""
    return [text.replace(" ", terminal.glyphs.space) for text in token_texts(ids, pieces, terminal)]


def load_gpt2(args: Namespace, prompt: str) -> "tuple[LoadedModel, list[int]]":
    """A GPT-2 and the prompt's ids, in float64: then only a difference of mathematics, not of rounding, shows.

    Raises:
        LayerDecodingError: the model is not a GPT-2.
        UsageError: the prompt is empty or longer than the model's context.
    """
    loaded = load(args)
    from layer_decoding.models.prompts import encode_prompt
    from layer_decoding.models.sizes import check_lengths

    model: Any = loaded.model
    kind = model.config.model_type
    if kind != "gpt2":
        raise LayerDecodingError(
            f"{loaded.name} is a model of type {kind}, and this script follows GPT-2 weight by weight; "
            "give a GPT-2 model, such as --model mini."
        )
    prompt_ids = encode_prompt(loaded.tokenizer, prompt)
    check_lengths(model, prompt_ids, 1)
    if loaded.device == "mps":
        notice(args, "Apple's GPU has no float64, so the lesson runs on the CPU.")
        model.to("cpu")
    model.double()
    return loaded, prompt_ids


def proof(what: str, difference: float, tolerance: float) -> str:
    """The last line of a lesson: how far what was made by hand is from the real thing.

    Raises:
        LayerDecodingError: further than the tolerance, or not a number.
    """
    if not difference <= tolerance:
        raise LayerDecodingError(
            f"By hand and {what} differ by up to {difference:.2g}, more than {tolerance:g}: this model is not computed "
            "as GPT-2 is; use one that is, such as --model mini."
        )
    return f"Largest difference from {what}: {difference:.2g} (at most {tolerance:g})"
