"""A board as lines to keep: the table of what is written, the branches, the cell."""

from layer_decoding.exploring.board import Board
from layer_decoding.exploring.branches import branch_lines, compared_lines
from layer_decoding.exploring.cell import cell_lines, own_lines
from layer_decoding.exploring.player import Player
from layer_decoding.terminal.columns import Line, labelled, painted, prompt_lines
from layer_decoding.terminal.pieces import shown
from layer_decoding.terminal.spans import Span
from layer_decoding.terminal.theme import Terminal
from layer_decoding.views.table import render_table

_CELLS = 48  # of the cell, and of each branch beside another, where the terminal does not say
_LINE = 100


def board_lines(player: Player, board: Board, terminal: Terminal) -> list[str]:
    """All of a board, a string a line.

    Raises:
        UsageError: the terminal is too narrow for the table.
    """
    branch, pieces, cells = board.texts.branch, player.pieces, terminal.width or _LINE
    if branch.ids:
        lines = render_table(player.decoding(branch), board.prompt, pieces, terminal, board.measure)
    else:
        lines = [*prompt_lines(board.prompt, terminal), "", "Nothing is written yet."]
    parts: list[list[Line]] = [branch_lines(board, pieces, terminal, cells)]
    if board.comparing:
        parts.append(compared_lines(board, pieces, terminal, cells))
    parts.append(cell_lines(board, pieces, terminal, min(_CELLS, cells)))
    parts.append(own_lines(board, pieces, terminal, cells))
    for part in parts:
        lines += ["", *(painted(line, terminal) for line in part)] if part else []
    return lines


def farewell_lines(player: Player, board: Board, terminal: Terminal) -> list[str]:
    """What stays on the screen of a terminal: the text, and the command that prints it."""
    text = shown("".join(player.pieces.of(board.texts.branch.ids)), terminal)
    lines = [*prompt_lines(board.prompt, terminal), *labelled("Text:  ", [Span(text)], terminal)]
    return [*lines, "", shown(player.command(board), terminal)]
