"""Performs what the board asks for, with a model. Knows no screen: replies are handed on one by one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError
from layer_decoding.exploring.board import Board
from layer_decoding.exploring.command import command_of
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
from layer_decoding.exploring.texts import Branch, Texts
from layer_decoding.files.documents import greedy_document
from layer_decoding.files.saving import save
from layer_decoding.files.writers import text_writers
from layer_decoding.layers import PLAIN_LENS
from layer_decoding.results.greedy import LayerDecoding, joined, with_fewer_candidates
from layer_decoding.terminal.pieces import Pieces

if TYPE_CHECKING:
    from layer_decoding.decoding.explorer import Explorer
    from layer_decoding.models.loading import LoadedModel

FILE_CANDIDATES = 5  # as `decode_layers` keeps by default
Report = Callable[[Reply], None]
Begun = Callable[[str], "tuple[str, Explorer]"]  # from a prompt to the text that is continued, and what explores it


class Stopped(Exception):  # noqa: N818  it is no error
    """The reader does not want to wait for the rest."""


@dataclass
class Player:
    """A loaded model, and what explores the prompt on it.

    `options` are those of the command line that chose it; `as_called` says how a script is started here.
    """

    loaded: "LoadedModel"
    begin: Begun
    prompt: str
    tokens_of_line: int
    options: tuple[str, ...] = ()
    as_called: Callable[[str], str] = str

    def __post_init__(self) -> None:
        self.pieces = Pieces(self.loaded.tokenizer)
        self.read, self.explorer = self.begin(self.prompt)

    def board(self) -> Board:
        """The board at the beginning: nothing written, the cursor on the last layer."""
        return Board(Texts((Branch(self.explorer.steps(())),)), self.read)

    def perform(self, task: Task, board: Board, report: Report, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Do what is asked of a board, which is left as it is: replies say what becomes of it.

        Raises:
            LayerDecodingError: what cannot be done; nothing has changed then but by the replies before.
        """
        work = getattr(self, f"_{type(task).__name__.lower()}")
        work(task, board, report, is_stopped)

    def decoding(self, branch: Branch) -> LayerDecoding:
        """A branch as the other scripts have it."""
        whole = joined(branch.steps, self.explorer.prompt, len(branch.ids), self.explorer.ends)
        return with_fewer_candidates(whole, FILE_CANDIDATES)

    def document(self, branch: Branch) -> dict[str, Any]:
        """The greedy script's document of a branch, the text always named."""
        decoding = self.decoding(branch)
        return {**greedy_document(decoding, self.read, self.loaded, self.pieces), "text_ids": decoding.text_ids}

    def command(self, board: Board) -> str:
        """The command that prints the text and the view of a board."""
        return command_of(board, self.prompt, self.options, self.explorer.ends, self.as_called)

    # ------------------------------------------------------------ what can be asked for, by the names of the tasks

    def _write(self, task: Write, board: Board, report: Report, is_stopped: Callable[[], bool]) -> None:
        count = self.tokens_of_line - len(board.texts.branch.ids) if task.line else 1
        if count < 1:
            report(Reply(message=f"The line has its {self.tokens_of_line} tokens; space writes one more."))
        texts = board.texts
        for written in range(count):
            if is_stopped():
                report(Reply(message=f"Stopped after {_tokens(written)}.", written_instead=written))
                return
            ids = texts.branch.ids
            if ids and ids[-1] in self.explorer.ends:
                report(Reply(message="The text has ended."))
                return
            self.explorer.check_room(ids)
            texts = self._extended(texts, texts.branch.steps[-1].text_ids, board.lens)
            report(Reply(texts, texts.branch.open_step))

    def _take(self, task: Take, board: Board, report: Report, _: object) -> None:
        texts = board.texts
        ids = (*texts.branch.ids[: task.step - 1], *task.ids)
        there = texts.beginning_so(ids)
        if there == texts.number:
            report(Reply(step=len(ids) + 1, message="The text goes on so already."))
        elif there is not None:
            texts = self._looked_at(texts.turned(there - texts.number), board.lens)
            report(Reply(texts, len(ids) + 1, message=f"Branch {there + 1} goes on so."))
        elif task.step == texts.branch.open_step:
            texts = self._extended(texts, task.ids, board.lens)
            report(Reply(texts, texts.branch.open_step))
        else:
            branch = Branch(self.explorer.steps(ids, board.lens))
            texts = texts.begun(branch)
            report(Reply(texts, branch.open_step, message=f"Branch {texts.number + 1} parts at step {task.step}."))

    def _taketext(self, task: TakeText, board: Board, report: Report, is_stopped: Callable[[], bool]) -> None:
        tokenizer: Any = self.loaded.tokenizer
        ids = tuple(tokenizer.encode(task.text, add_special_tokens=False))
        self._take(Take(task.step, ids), board, report, is_stopped)

    def _takeback(self, _: TakeBack, board: Board, report: Report, __: object) -> None:
        ids = board.texts.branch.ids
        if not ids:
            report(Reply(message="Nothing is written yet."))
            return
        texts = self._tidied(board.texts.changed(Branch(self.explorer.steps(ids[:-1], board.lens))))
        report(Reply(texts, texts.branch.open_step))

    def _turn(self, task: Turn, board: Board, report: Report, _: object) -> None:
        if len(board.texts.branches) == 1:
            report(Reply(message="There is one branch only; take another token to begin one."))
            return
        texts = self._looked_at(board.texts.turned(task.by), board.lens)
        report(Reply(texts, message=f"Branch {texts.number + 1} of {len(texts.branches)}."))

    def _drop(self, _: Drop, board: Board, report: Report, __: object) -> None:
        if len(board.texts.branches) == 1:
            report(Reply(message="This is the only branch; backspace takes its tokens back."))
            return
        texts = self._tidied(self._looked_at(board.texts.dropped(), board.lens))
        report(Reply(texts, message=f"Dropped; this is branch {texts.number + 1} of {len(texts.branches)}."))

    def _changelens(self, _: ChangeLens, board: Board, report: Report, __: object) -> None:
        names = list(self.explorer.lenses)
        if len(names) == 1:
            report(Reply(message=f"There is no other lens than the {names[0]} one."))
            return
        lens = names[(names.index(board.lens) + 1) % len(names)]
        report(Reply(self._looked_at(board.texts, lens), lens=lens, message=f"Read by the {lens} lens."))

    def _writeown(self, task: WriteOwn, board: Board, report: Report, is_stopped: Callable[[], bool]) -> None:
        def on_step(step: int) -> None:
            report(Reply(message=f"Layer {task.layer} writes its own text: {step} of {self.tokens_of_line} tokens ..."))
            if is_stopped():
                raise Stopped

        before = board.texts.branch.ids[: task.step - 1]
        try:
            ids = self.explorer.own_text(before, task.layer, self.tokens_of_line, on_step)
        except Stopped:
            report(Reply(message="Stopped."))
            return
        report(Reply(own=OwnText(task.layer, task.step, ids)))

    def _begin(self, task: Begin, _: Board, report: Report, __: object) -> None:
        self.read, self.explorer = self.begin(task.prompt)
        self.prompt = task.prompt
        report(Reply(Texts((Branch(self.explorer.steps(())),)), 1, lens=PLAIN_LENS, prompt=self.read))

    def _save(self, task: Save, board: Board, report: Report, _: object) -> None:
        branch = board.texts.branch
        if not branch.ids:
            raise LayerDecodingError("Nothing is written yet; press space for a token before saving.")
        writers = text_writers(
            lambda: self.decoding(branch),
            self.read,
            lambda: self.document(branch),
            self.pieces,
            lambda: self.explorer.whys(self.decoding(branch)),
        )
        save(task.path, writers)
        report(Reply(message=f"Saved {task.path}."))

    def _copy(self, _: Copy, board: Board, report: Report, __: object) -> None:
        command = self.command(board)
        report(Reply(message=command, copied=command))

    # ------------------------------------------------------------ texts

    def _extended(self, texts: Texts, ids: tuple[int, ...], lens: str) -> Texts:
        """With tokens more at the end of the text."""
        return self._tidied(texts.changed(Branch(self.explorer.steps((*texts.branch.ids, *ids), lens))))

    def _looked_at(self, texts: Texts, lens: str) -> Texts:
        """The text looked at read by a lens."""
        return texts.changed(Branch(self.explorer.steps(texts.branch.ids, lens)))

    def _tidied(self, texts: Texts) -> Texts:
        """The same; what only texts that are gone needed is forgotten."""
        self.explorer.keep(branch.ids for branch in texts.branches)
        return texts


def _tokens(count: int) -> str:
    return f"{count} token{'s' * (count != 1)}"


def play(player: Player, board: Board, keys: list[str], tell: Callable[[str], None]) -> None:
    """Press keys one after the other; what they have to say is told, and what cannot be done with it."""
    for key in keys:
        task = board.press(key)
        if isinstance(task, Leave):
            return
        if task is None:
            message = board.message
        else:
            try:
                player.perform(task, board, board.take)
                message = board.message
            except LayerDecodingError as error:
                message = str(error)
        if message:
            tell(message)
