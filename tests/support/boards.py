"""Boards to test: without a model, of branches made up out of dice; and with one."""

from dataclasses import replace

from layer_decoding.decoding.explorer import Explorer
from layer_decoding.exploring.board import Board
from layer_decoding.exploring.player import Player
from layer_decoding.exploring.texts import Branch, Texts
from layer_decoding.models.prompts import encode_prompt
from layer_decoding.results.greedy import LayerDecoding
from pages import made_up


def steps_of(ids, layer_count=12, seed=0, vocabulary=200):
    """n + 1 decodings of one token for a text: what it takes, and one step that is not written yet."""
    whole = made_up(layer_count, len(ids) + 1, 10, vocabulary, seed=seed)
    return tuple(one_step(whole, place, ids[place : place + 1]) for place in range(len(ids) + 1))


def one_step(whole, place, text):
    fields = ("ids", "logprob_nats", "entropy_bits", "kl_to_final_bits", "final_token_rank", "candidates")
    rows = tuple(
        replace(row, **{name: getattr(row, name)[place : place + 1] for name in fields}, surprise_bits=(row.layer / 4,))
        for row in whole.rows
    )
    return LayerDecoding("shared", whole.layer_count, (), 1, rows, whole.settles_at[place : place + 1], (), tuple(text))


def branch_of(*ids, **options):
    return Branch(steps_of(ids, **options))


def board_of(*texts, prompt="Once", **options):
    """A board of branches, the first looked at, the cursor on the last layer at the first step."""
    return Board(Texts(tuple(branch_of(*ids, **options) for ids in texts)), prompt)


def player_of(loaded, prompt="Ab ", tokens=6, **options):
    """Someone to perform what a board asks for, with a model; `options` are those of the explorer."""

    def begin(text):
        return text, Explorer(loaded.model, encode_prompt(loaded.tokenizer, text), **options)

    return Player(loaded, begin, prompt, tokens, ("--model", "tiny"))
