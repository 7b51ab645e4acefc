"""The explorer on a full screen, by Textual: keys go to the board, tasks to a thread beside the screen, frames to it.

Keys pressed while a task runs wait for it, but Escape, which stops it, and those that leave.
"""

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from layer_decoding.errors import LayerDecodingError
from layer_decoding.exploring.board import Board
from layer_decoding.exploring.frame import Frame
from layer_decoding.exploring.keys import key_of
from layer_decoding.exploring.player import Player
from layer_decoding.exploring.tasks import Leave, Reply, Task
from layer_decoding.terminal.pieces import shown
from layer_decoding.terminal.theme import Terminal

Tell = Callable[[str], None]
_PATIENCE = 0.1  # seconds until a task is said to run: what is quicker would only flicker


class Lines(Widget):
    """Lines painted by the house's theme, as they are."""

    DEFAULT_CSS = "Lines { width: 1fr; height: 1fr; }"

    class Resized(Message):
        """There is another size to draw for."""

    def __init__(self) -> None:
        super().__init__()
        self.strips: list[Strip] = []

    def on_resize(self) -> None:
        """Say so."""
        self.post_message(self.Resized())

    def show(self, lines: list[str]) -> None:
        """Take the place of what was shown."""
        self.strips = [Strip(Text.from_ansi(line).render(self.app.console)) for line in lines]
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One of them, as Textual asks for it."""
        return (self.strips[y] if y < len(self.strips) else Strip([])).adjust_cell_length(self.size.width)


class Told(Message):
    """A line while the model loads."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line


class Loaded(Message):
    """The model is loaded."""

    def __init__(self, player: Player, board: Board) -> None:
        super().__init__()
        self.player, self.board = player, board


class Replied(Message):
    """Something came of a task."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class Done(Message):
    """A task has ended; with what it could not cope with, if there was anything."""

    def __init__(self, failure: BaseException | None = None) -> None:
        super().__init__()
        self.failure = failure


class ExplorerApp(App[None]):
    """A board, the thread that performs its tasks, and what is left of both at the end."""

    ENABLE_COMMAND_PALETTE = False
    CSS = "Screen { background: ansi_default; color: ansi_default; overflow: hidden; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", priority=True, show=False),
        Binding("ctrl+q", "leave", priority=True, show=False),
        Binding("ctrl+z", "suspend_process", priority=True, show=False),
    ]

    def __init__(self, ready: Callable[[Tell], Player], terminal: Terminal, width: int | None = None) -> None:
        super().__init__(ansi_color=True)
        self.get_ready, self.terminal, self.most_cells = ready, terminal, width
        self.player: Player | None = None
        self.board: Board | None = None
        self.frame: Frame | None = None
        self.failure: BaseException | None = None
        self.told: list[str] = []
        self.waiting: deque[str] = deque()  # keys
        self.is_busy, self.is_slow, self.stopping = True, False, Event()
        self.tasks: SimpleQueue[Task] = SimpleQueue()
        # A daemon: nobody waits for a model that is still loading when the reader has left.
        self.worker = Thread(target=self._work, daemon=True)

    # ------------------------------------------------------------ beside the screen

    def _work(self) -> None:
        """Load the model, then perform tasks, one after the other."""
        try:
            player = self.get_ready(lambda line: self._post(Told(line)))
            self._post(Loaded(player, player.board()))
        except BaseException as error:
            self._post(Done(error))
            return
        while True:
            self._perform(self.tasks.get(), player)

    def _perform(self, task: Task, player: Player) -> None:
        assert self.board is not None  # tasks come from it
        try:
            player.perform(task, self.board, lambda reply: self._post(Replied(reply)), self.stopping.is_set)
        except LayerDecodingError as error:
            self._post(Replied(Reply(message=str(error))))
        except BaseException as error:
            self._post(Done(error))
            return
        self._post(Done())

    def _post(self, message: Message) -> None:
        self.post_message(message)

    # ------------------------------------------------------------ what happens

    def compose(self) -> ComposeResult:
        """One widget, the whole screen."""
        yield Lines()

    def on_mount(self) -> None:
        """The screen is up: begin to load."""
        self.worker.start()

    def on_told(self, message: Told) -> None:
        """Say it."""
        self.told.append(message.line)
        if self.board is not None:
            self.board.message = message.line
        self._draw()

    def on_loaded(self, message: Loaded) -> None:
        """Show the board."""
        self.player, self.board = message.player, message.board
        self.frame = Frame(self.player.pieces, self.terminal)
        self.board.message = self.told[-1] if self.told else ""
        self._go_on()

    def on_replied(self, message: Replied) -> None:
        """Show what came of a task."""
        if self.board is not None:
            self.board.take(message.reply)
        if message.reply.copied is not None:
            self.copy_to_clipboard(message.reply.copied)
        self._draw()

    def on_done(self, message: Done) -> None:
        """Take the next key, or leave with what went wrong."""
        if message.failure is not None:
            self.failure = message.failure
            self.exit()
            return
        self._go_on()

    def on_key(self, event: events.Key) -> None:
        """Press it, now or when there is time; Escape stops what runs."""
        event.stop()
        key = key_of(event.character or event.key) if event.is_printable else key_of(event.key)
        if key is None:
            return
        if self.is_busy and key == "escape":
            self.waiting.clear()
            self.stopping.set()
        elif self.is_busy and self.board is not None and key == "q" and self.board.asked is None and not self.waiting:
            self.exit()
        else:
            self.waiting.append(key)
            self._take_keys()

    def on_paste(self, event: events.Paste) -> None:
        """Into the line that is typed."""
        if self.board is not None:
            self.board.paste(event.text)
            self._draw()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Move the cursor to the cell pointed at."""
        if self.board is None or self.frame is None or self.is_busy:
            return
        cell = self.frame.cell_at(event.screen_x, event.screen_y, self.board)
        if cell is not None:
            self.board.point(*cell)
            self._draw()

    def on_mouse_scroll_up(self) -> None:
        """The wheel moves over the layers."""
        self._wheel("up")

    def on_mouse_scroll_down(self) -> None:
        """The wheel moves over the layers."""
        self._wheel("down")

    def on_lines_resized(self) -> None:
        """Draw for the new size."""
        self._draw()

    def action_interrupt(self) -> None:
        """Ctrl-C: leave, as interrupted."""
        self.failure = KeyboardInterrupt()
        self.exit()

    def action_leave(self) -> None:
        """Leave, whatever is being typed."""
        self.exit()

    def _handle_exception(self, error: Exception) -> None:
        """Leave with it, for whoever started the app to say: Textual would print a traceback."""
        self.failure = error
        self.exit()

    # ------------------------------------------------------------ the board

    def _wheel(self, key: str) -> None:
        if self.board is not None and not self.is_busy and self.board.asked is None:
            self.waiting.append(key)
            self._take_keys()

    def _go_on(self) -> None:
        """Nothing runs: take the keys that wait."""
        self.is_busy = self.is_slow = False
        self._take_keys()

    def _take_keys(self) -> None:
        """Press what waits, up to a key that has something done."""
        while self.waiting and not self.is_busy and self.board is not None:
            task = self.board.press(self.waiting.popleft())
            if isinstance(task, Leave):
                self.exit()
                return
            if task is not None:
                self.is_busy = True
                self.stopping.clear()
                self.tasks.put(task)
                self.set_timer(_PATIENCE, self._say_that_it_runs)
        self._draw()

    def _say_that_it_runs(self) -> None:
        self.is_slow = self.is_busy
        self._draw()

    def _draw(self) -> None:
        """Show everything as it is now."""
        if not self.is_running or not self.screen_stack:
            return
        shown_on = self.query_one(Lines)
        width, height = min(shown_on.size.width, self.most_cells or shown_on.size.width), shown_on.size.height
        if self.frame is None or self.board is None:
            lines = [shown(line, self.terminal)[:width] for line in self.told][-height:]
        else:
            busy = "Working; Escape stops it." if self.is_slow else ""
            lines = self.frame.lines(self.board, width, height, busy)
        shown_on.show(lines)
