"""A decoding in a notebook: a table that shows itself, a page in one line, a frame of numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

from layer_decoding.files.documents import greedy_document
from layer_decoding.files.page.page import render_page
from layer_decoding.files.saving import save
from layer_decoding.files.tables import COLUMNS, table_rows
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.why import Why
from layer_decoding.terminal.pieces import Pieces, token_texts
from layer_decoding.terminal.theme import Terminal
from layer_decoding.views.rows import compare, render_decoding

if TYPE_CHECKING:
    from layer_decoding.models.loading import LoadedModel

_TABLE = """<table style="font-size:85%;white-space:pre;text-align:left"><thead><tr><th>layer</th>
{%- for head in heads %}<th>{{ loop.index }}<br>{{ head }}</th>{% endfor %}</tr></thead><tbody>
{%- for layer, cells in rows %}<tr><th>{{ layer }}</th>
{%- for text, same in cells %}<td>{% if same %}<b>{{ text }}</b>{% else %}\
<u style="color:#c0392b">{{ text }}</u>{% endif %}</td>
{%- endfor %}</tr>{% endfor %}</tbody></table>
<small>Tokens that are not layer {{ last }}'s are red and underlined.</small>"""


class Shown:
    """A decoding as it looks: HTML where that is shown, lines where only text is."""

    def __init__(self, decoding: LayerDecoding, tokenizer: Any, prompt: str = "") -> None:
        self.decoding, self.pieces, self.prompt = decoding, Pieces(tokenizer), prompt

    def __repr__(self) -> str:
        return "\n".join(render_decoding(self.decoding, self.prompt, self.pieces, Terminal()))

    def _repr_html_(self) -> str:
        """A table of layers and steps that needs no script and no style but its own; nothing of a token is markup."""
        terminal = Terminal()
        rows = []
        for row in self.decoding.rows:
            texts = token_texts(row.ids, self.pieces, terminal)
            rows.append((row.layer, list(zip(texts, compare(row, self.decoding)[0], strict=True))))
        heads = [""] * len(self.decoding.text_ids)
        if self.decoding.context == "shared":
            heads = token_texts(self.decoding.text_ids, self.pieces, terminal)
        template = Environment(autoescape=True).from_string(_TABLE)
        return template.render(rows=rows, heads=heads, last=self.decoding.layer_count)


def show(decoding: LayerDecoding, tokenizer: Any, prompt: str = "") -> Shown:
    """An object that a notebook shows as a table, and everything else as the rows of the greedy script."""
    return Shown(decoding, tokenizer, prompt)


def save_page(
    decoding: LayerDecoding,
    loaded: "LoadedModel",
    path: str | Path,
    prompt: str = "",
    whys: Sequence[Why] = (),
    others: Sequence[LayerDecoding] = (),
) -> None:
    """Write the page of a decoding, whole or not at all.

    `whys`, from `explain_text`, are its bars; `others`, from `read_layers` along the same text, are other lenses.

    Raises:
        UsageError: a name that does not end in .html.
        LayerDecodingError: the file cannot be written.
    """
    pieces = Pieces(loaded.tokenizer)
    head = greedy_document(decoding, prompt, loaded, pieces)
    save(Path(path), {".html": lambda: render_page(decoding, prompt, head, pieces, whys, others).encode()})


def to_dataframe(decoding: LayerDecoding, tokenizer: Any) -> Any:
    """A pandas DataFrame, a row a layer and step, with the columns of the CSV; pandas must be installed."""
    import pandas

    return pandas.DataFrame(list(table_rows(decoding, Pieces(tokenizer))), columns=list(COLUMNS))
