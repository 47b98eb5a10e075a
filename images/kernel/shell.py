"""The interactive shell of the box: capped output, plain text only, tracebacks that show the cell alone."""

import codecs
import contextlib
import os
import re
import select
import sys
import threading
import tokenize
import traceback
from collections import deque
from collections.abc import Iterator
from typing import Any

from ipykernel.displayhook import ZMQShellDisplayHook
from ipykernel.iostream import OutStream
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.compilerop import CachingCompiler
from IPython.core.displaypub import DisplayPublisher
from traitlets import Type

ERROR_CHARS = 8_000  # of an exception's text and of its traceback, each
HASH_BITS = (1 << 32) - 1
CELL_FILE = re.compile(r'"[^"]*/ipykernel_\d+/\d+\.py"')
PIPE_BYTES, PIPE_READS = 1 << 16, 4
CUT_IN_CHILD = "\n[the rest of this output of a child process is cut]\n"
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Lone surrogates make a message vanish or put invalid UTF-8 on the wire."""
    return LONE_SURROGATE.sub("\ufffd", text)


def clip(text: str, chars: int) -> str:
    """Head and tail of `chars` characters each, joined; the host knows the true size and says so."""
    return clean(text if len(text) <= 2 * chars else text[:chars] + text[-chars:])


class HeadTail:
    """Passes on the first `chars` characters as they come and keeps the last `chars` of the rest."""

    def __init__(self, chars: int) -> None:
        self.chars = chars
        self.total = 0
        self._tail: deque[str] = deque()
        self._tail_chars = 0

    def admit(self, text: str) -> str:
        """The part of `text` that may be sent now."""
        room = max(0, self.chars - self.total)
        self.total += len(text)
        rest = text[room:] if room else text
        if rest:
            self._keep(rest[-self.chars :])
        return text[:room]

    def _keep(self, text: str) -> None:
        self._tail.append(text)
        self._tail_chars += len(text)
        while self._tail_chars - len(self._tail[0]) >= self.chars:
            self._tail_chars -= len(self._tail.popleft())

    def finish(self) -> str:
        """The kept tail; afterwards everything is counted and nothing passed on."""
        tail = "".join(self._tail)[-self.chars :]
        self._tail.clear()
        self._tail_chars = 0
        return tail


class BoxStream(OutStream):
    """stdout or stderr. Each cell may send `chars` characters at once and `chars` more as its tail.

    A forked child has a copy of the cap and nobody who sends the tail for it: it says where its output is cut.
    """

    def __init__(self, *args: Any) -> None:
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._cap = HeadTail(20_000)
        self._cut_in_child = False
        self._unflushed = False
        super().__init__(*args)
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock, self._reading = threading.Lock(), threading.Lock()  # another thread may have held them

    def begin_cell(self, chars: int) -> None:
        with self._lock:
            self._cap = HeadTail(chars)

    def end_cell(self) -> None:
        """Take what subprocesses have written so far, which comes by a pipe; then send the tail."""
        self._drain_pipe()
        with self._lock:
            tail = self._cap.finish()
        if tail:
            self._send(tail)

    @property
    def total_chars(self) -> int:
        return self._cap.total

    def write(self, string: str) -> int:
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string).__name__}")
        with self._lock:
            piece = self._cap.admit(string)
        if len(piece) < len(string) and not self._is_master_process() and not self._cut_in_child:
            self._cut_in_child = True
            piece += CUT_IN_CHILD
        if piece:
            self._send(piece)
        return len(string)

    def _send(self, text: str) -> None:
        """Said behind the write: a flush of another thread meanwhile may have come too soon for it."""
        try:
            super().write(clean(text))
        finally:
            self._unflushed = True

    def flush(self) -> None:
        """The kernel flushes both streams some five times a cell, and each stock flush waits for another thread."""
        if self._unflushed:
            self._unflushed = False
            super().flush()

    def _watch_pipe_fd(self) -> None:
        """The stock one reads, and writes a moment later: what is in between would miss the end of its cell."""
        while self._should_watch and self._fid is not None:
            select.select([self._fid], [], [])
            self._drain_pipe()

    def _drain_pipe(self) -> None:
        """Take what is in the pipe now: a subprocess may write without end."""
        with self._reading:
            for _ in range(PIPE_READS):
                if self._fid is None or not select.select([self._fid], [], [], 0)[0]:
                    return
                data = os.read(self._fid, PIPE_BYTES)
                self._should_watch = bool(data)  # none: a cell has closed the other end
                self.write(self._decoder.decode(data))


class BoxDisplayHook(ZMQShellDisplayHook):
    """The value of a cell's last expression, as plain text, clipped."""

    chars = 20_000
    total_chars = 0
    code = ""

    def quiet(self) -> bool:
        """A semicolon hides the value. The stock one looks into the history, which is off."""
        try:
            return bool(self.semicolon_at_end_of_expression(self.code))
        except (tokenize.TokenError, SyntaxError):  # IPython's own syntax, such as `!program`
            return False

    def write_format_data(self, format_dict: dict[str, Any], md_dict: Any = None) -> None:
        text = str(format_dict.get("text/plain", ""))
        self.total_chars = len(text)
        super().write_format_data({"text/plain": clip(text, self.chars)}, {})

    def log_output(self, format_dict: dict[str, Any]) -> None:
        """The stock one keeps the text of every value for a history, which is off."""


class BoxDisplayPublisher(DisplayPublisher):
    """`display()` writes plain text to stdout: pictures and HTML have no reader here."""

    def publish(self, data: Any, metadata: Any = None, source: Any = None, **kwargs: Any) -> None:
        print(data.get("text/plain", ""))

    def clear_output(self, wait: bool = False) -> None:
        pass

    def set_parent(self, parent: Any) -> None:
        pass


class BoxCompiler(CachingCompiler):
    """Names a cell as ipykernel does; that one's hash reads the code byte by byte in Python."""

    def get_code_name(self, raw_code: str, code: str, number: int) -> str:
        return f"/tmp/ipykernel_{os.getpid()}/{hash(raw_code) & HASH_BITS}.py"


class LateInspector:
    """What shows an object for `obj?`, made when it is first asked."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def set_theme_name(self, name: str) -> None:
        self._settings["theme_name"] = name

    def __getattr__(self, name: str) -> Any:
        from IPython.core.oinspect import Inspector

        return getattr(Inspector(**self._settings), name)


class BoxShell(ZMQInteractiveShell):
    """One namespace, no history, no colours; what a cell may never need is imported when it does."""

    inspector_class = Type(LateInspector)
    displayhook_class = Type(BoxDisplayHook)
    display_pub_class: Any = Type(BoxDisplayPublisher)
    output_chars = 20_000
    system = ZMQInteractiveShell.system_raw  # `!program`: the stock one runs it in a terminal, with "\r\n"
    error_name = ""
    error_line = 0
    transformed = ("", "")

    def transform_cell(self, raw_cell: str) -> str:
        """Asked for twice a cell."""
        if self.transformed[0] is not raw_cell:
            self.transformed = (raw_cell, super().transform_cell(raw_cell))
        return self.transformed[1]

    def init_completer(self) -> None:
        """Made when somebody asks for it: see `__getattr__`."""

    def __getattr__(self, name: str) -> Any:
        if name != "Completer":
            raise AttributeError(name)
        super().init_completer()
        return self.Completer

    def init_history(self) -> None:
        super().init_history()
        self.history_manager.enabled = False

    @contextlib.contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """The stock one keeps all that was ever printed for a history, which is off: in the end the box dies of it."""
        yield

    def init_environment(self) -> None:
        """The stock one asks every program for colours."""
        os.environ.update(PAGER="cat", GIT_PAGER="cat", TERM="dumb", NO_COLOR="1")

    def init_display_formatter(self) -> None:
        super().init_display_formatter()
        self.display_formatter.active_types = ["text/plain"]

    def ask_exit(self) -> None:
        raise RuntimeError("exit() would lose all variables; to end, give an answer with FINAL(...)")

    def begin_cell(self, code: str) -> None:
        hook: Any = self.displayhook
        hook.chars, hook.total_chars, hook.code = self.output_chars, 0, code
        self.error_name, self.error_line = "", 0
        self._last_traceback = None
        self._last_traceback_during_displayhook = False
        for stream in self._streams():
            stream.begin_cell(self.output_chars)

    def end_cell(self) -> None:
        """Also gives the next cell its own streams back: ipykernel flushes and stamps what stands in `sys`."""
        sys.stdout, sys.stderr = self._streams()
        for stream in self._streams():
            stream.end_cell()

    def _streams(self) -> tuple[BoxStream, BoxStream]:
        """Ours even where a cell has replaced sys.stdout."""
        return self.kernel._stdout, self.kernel._stderr

    def facts(self) -> dict[str, int]:
        """Sizes before any cut, and the line of the cell that raised, or 0."""
        out, err = self._streams()
        hook: Any = self.displayhook
        return {
            "stdout_chars": out.total_chars,
            "stderr_chars": err.total_chars,
            "result_chars": hook.total_chars,
            "error_line": self.error_line,
        }

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        """Keep the traceback for the reply; the stock one also sends it, whole, as a message of its own."""
        for stream in self._streams():
            stream.flush()
        self.error_name = etype.__name__
        self.error_line = cell_line(evalue)
        if getattr(self.displayhook, "msg", None) is not None:
            self._last_traceback_during_displayhook = True
        self._last_traceback = cell_traceback(evalue) or stb

    def clip_reply(self, reply: dict[str, Any]) -> dict[str, Any]:
        """Only what the host reads, none of it longer than it reads."""
        if reply["status"] != "error":
            return {"status": reply["status"]}
        return {
            "status": "error",
            "ename": clip(str(reply["ename"]), 100),
            "evalue": clip(str(reply["evalue"]), ERROR_CHARS // 2),
            "traceback": [clip("\n".join(map(str, reply["traceback"])), ERROR_CHARS // 2)],
        }


def cell_traceback(error: BaseException) -> list[str]:
    """The frames of the cell and of what it called, without those of IPython above it."""
    frames = traceback.extract_tb(error.__traceback__, limit=-200)
    first = next((n for n, frame in enumerate(frames) if is_cell(frame.filename)), None)
    if first is None:
        return []
    return [CELL_FILE.sub('"<cell>"', line).rstrip("\n") for line in traceback.format_list(frames[first:][-20:])]


def cell_line(error: BaseException) -> int:
    """The line of the cell, from 1, in which an exception was raised or passed through; 0 where there is none."""
    if isinstance(error, SyntaxError) and is_cell(str(error.filename)) and isinstance(error.lineno, int):
        return max(0, error.lineno)  # of other code that the cell compiled the line says nothing
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if is_cell(frame.f_code.co_filename)]
    return lines[0] if lines else 0


def is_cell(filename: str) -> bool:
    return "ipykernel_" in filename or filename.startswith(("<ipython-input", "<cell"))
