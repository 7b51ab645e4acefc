"""The sampling script's answer as lines: a block a setting, a row a sample, numbers beside its text.

Tokens that are not in the greedy text, in the same order, are painted as differing, and the place where a sample
first leaves that text is marked: from there on the two drift apart, and what they share is found by alignment.
"""

from collections.abc import Sequence
from statistics import fmean

from wcwidth import width

from layer_decoding.results.sampling import ModelSamples, Sample, Sampling
from layer_decoding.terminal.alignment import common_positions, common_prefix
from layer_decoding.terminal.columns import beside, labelled, prompt_lines, prose, wrapped
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.spans import Span, pad, token_spans
from layer_decoding.terminal.theme import Terminal

_COLUMNS = (("log p", 9), ("bits", 7), ("distinct", 10), ("repeats", 9))
_LABEL_CELLS = 4


def render_heading(prompt: str, seed: int, terminal: Terminal) -> list[str]:
    """The prompt, the seed, and what the columns are."""
    lines = [*prompt_lines(prompt, terminal), *labelled("Seed:  ", [Span(f" {seed}")], terminal)]
    return [*lines, "", *_fitted("", "".join(name.rjust(cells) for name, cells in _COLUMNS), terminal)]


def render_layer(layer: int, layer_count: int, terminal: Terminal) -> list[str]:
    """The line above the blocks of one model."""
    text = f"Layer {layer}, the model" if layer == layer_count else f"Layer {layer}, the model cut off after it"
    return ["", *wrapped([Span(text, "heading")], terminal)]


def render_greedy(greedy: Sample, pieces: Pieces, terminal: Terminal) -> list[str]:
    """The yardstick's block."""
    row = _row("", greedy, token_spans(pieces.of(greedy.ids), [True] * len(greedy.ids), terminal), terminal)
    return [*wrapped([Span("Greedy", "heading")], terminal), *row]


def render_sampling(sampling: Sampling, greedy: Sample, pieces: Pieces, terminal: Terminal) -> list[str]:
    """A setting's block: its name, then a row a sample, counted from 1."""
    lines = ["", *wrapped([Span(capitalised(sampling.setting.label), "heading")], terminal)]
    for sample in sampling.samples:
        spans = text_spans(sample, greedy, pieces, terminal)
        lines += _row(f"{sample.index + 1:>{_LABEL_CELLS - 1}}", sample, spans, terminal)
    return lines


def render_means(model: ModelSamples, terminal: Terminal) -> list[str]:
    """What each setting trades: the numbers of its samples, averaged."""
    texts = [("greedy", (model.greedy,)), *((s.setting.label, s.samples) for s in model.samplings)]
    names = [f"mean of {len(texts[-1][1])}", *(name for name, _ in texts)]
    cells = max(map(width, names))
    table = ["".join(name.rjust(size) for name, size in _COLUMNS), *(_mean_numbers(samples) for _, samples in texts)]
    lines = [""]
    for name, numbers in zip(names, table, strict=True):
        lines += _fitted(pad(name, cells), numbers, terminal)
    return lines


def render_notes(terminal: Terminal, claims: Sequence[list[Span]] = ()) -> list[str]:
    """The legend; `claims` are what is said of the lens under which layers write."""
    example, leaves = Span("so", "differs"), Span(terminal.glyphs.leaves, "note")
    notes = [
        [Span("Sample n throws the same dice in every block, so what differs is the setting.")],
        [
            *(Span("Tokens marked "), example, Span(" are not in the greedy text in this order; it is left at ")),
            *(leaves, Span(".")),
        ],
        [
            Span(
                "log p: of all tokens together, in nats; bits: entropy a token, on average; both as the untouched "
                "model has them, before temperature and filters."
            )
        ],
        [Span("distinct: different tokens; repeats: share of its 3-grams that came before.")],
    ]
    return ["", *(line for note in [*notes, *claims] for line in prose(note, terminal))]


def text_spans(sample: Sample, greedy: Sample, pieces: Pieces, terminal: Terminal) -> list[Span]:
    """A sample's tokens, those that are not the greedy text's marked, and where it first leaves that text."""
    common = {position for position, _ in common_positions(sample.ids, greedy.ids)}
    same = [position in common for position in range(len(sample.ids))]
    spans = token_spans(pieces.of(sample.ids), same, terminal)
    if sample.ids != greedy.ids:
        spans.insert(common_prefix(sample.ids, greedy.ids), Span(terminal.glyphs.leaves, "note"))
    return spans


def capitalised(label: str) -> str:
    """A label as a heading."""
    return label[:1].upper() + label[1:]


def _row(label: str, sample: Sample, spans: Sequence[Span], terminal: Terminal) -> list[str]:
    """A sample's numbers and its text beside them; under them where there is little room."""
    head = [Span(label, "heading"), Span(" " * (_LABEL_CELLS - width(label))), Span(_numbers(sample), "note")]
    return beside(head, spans, terminal, gap=1, under=_LABEL_CELLS)


def _numbers(sample: Sample) -> str:
    """The cells of a row, in the order of the columns."""
    return _cells(
        f"{sample.logprob_nats:.2f}",
        f"{sample.mean_entropy_bits:.2f}",
        str(sample.distinct_tokens),
        _percent(sample.repeated_trigram_share),
    )


def _mean_numbers(samples: Sequence[Sample]) -> str:
    """The cells of a row of averages; texts too short for a 3-gram count in no average of those."""
    shares = [share for sample in samples if (share := sample.repeated_trigram_share) is not None]
    return _cells(
        f"{fmean(sample.logprob_nats for sample in samples):.2f}",
        f"{fmean(sample.mean_entropy_bits for sample in samples):.2f}",
        f"{fmean(sample.distinct_tokens for sample in samples):.1f}",
        _percent(fmean(shares) if shares else None),
    )


def _cells(*texts: str) -> str:
    return "".join(text.rjust(cells) for text, (_, cells) in zip(texts, _COLUMNS, strict=True))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _fitted(label: str, numbers: str, terminal: Terminal) -> list[str]:
    """A line of a table: its label, then numbers."""
    gap = " " * (_LABEL_CELLS - width(label))  # none where labels are longer, and padded to one width
    return wrapped([Span(label, "heading"), Span(gap), Span(numbers, "note")], terminal)
