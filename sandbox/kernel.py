"""The host's side of one kernel: starts it, runs one cell at a time, answers its sub-calls.

One task reads the box. What it reads goes through `protocol.decode`; a violation, or the end of the stream, ends the
kernel for good (`gone`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from sandbox import encoding, messages, protocol
from sandbox.cell import CellResult, Clock
from sandbox.children import ChildCalls
from sandbox.clocks import CellClocks
from sandbox.errors import BoxGone, BoxStartError, ProtocolViolation, SandboxError
from sandbox.link import Link
from sandbox.messages import RELAY, SHELL
from sandbox.open_cell import OpenCell
from sandbox.pace import Pace
from sandbox.spec import CONTEXT_DIR, MODULES, KernelSettings
from sandbox.subcalls import QueryHandler, SubCalls, no_run
from sandbox.terms import Terms
from sandbox.value_size import most_bytes

INTERRUPT_GRACE_S: Final = 2.0
MAX_MESSAGES_PER_CELL: Final = 200_000
MAX_BYTES_PER_CELL: Final = 128 << 20
"""All but its prompts. An honest kernel clips each stream, so only a cell's many child processes send so much."""
MAX_REPORTED_PER_CELL: Final = 400


class Kernel:
    """One kernel behind a link. Not restartable: when it is gone, the box is.

    Use `start`, then `set_up`, then cells. Between the two it knows no run, and no comm on which it could ask.

    Args:
        link: The box's stream; owned by this object from now on.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self._pace = Pace()
        self._comm_id = encoding.new_id()
        self._take_settings(KernelSettings(), no_run, None)
        self.greeted, self._welcome = asyncio.Event(), asyncio.Event()
        """`greeted`: PID 1 has answered, or nobody will; the kernel is still to come."""
        self._requests: dict[str, asyncio.Future[messages.Reply | None]] = {}
        self._shell = asyncio.Lock()
        self._cell: OpenCell | None = None
        self._messages = self._bytes = self._late_chars = 0
        self.exit_code: int | None = None
        """How the kernel process ended, as the relay said; negative for a signal."""
        self.violation: ProtocolViolation | None = None
        self.gone = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    def _take_settings(self, settings: KernelSettings, on_query: QueryHandler, children: ChildCalls | None) -> None:
        self._settings = settings
        self._terms = Terms.of(self._comm_id, settings)
        self._children = children
        self._sub_calls = SubCalls(
            self.link, self._comm_id, on_query, self._pace, children, settings.budget, settings.tools
        )

    async def start(self) -> None:
        """Greet the relay and wait until all output reaches us.

        Raises:
            BoxGone, ProtocolViolation: The box ended or misbehaved first.
        """
        self._reader = asyncio.create_task(self._pace.counted(self._read), name="airlock-box-reader")
        await self.link.send(encoding.encode_frame(RELAY, [b"{}"]))
        await self._welcome.wait()
        if self.gone.is_set():
            raise self._why_gone()

    async def set_up(
        self, settings: KernelSettings, on_query: QueryHandler, children: ChildCalls | None = None
    ) -> None:
        """Hand over the settings of the run that the kernel is for. Once.

        Args:
            settings: What the kernel is told.
            on_query: Answers sub-calls while a cell is open.
            children: Answers child runs, where cells may start any.

        Raises:
            BoxGone, ProtocolViolation: The box ended or misbehaved first.
            BoxStartError: It can't take the settings.
        """
        self._take_settings(settings, on_query, children)
        reply = await self.request(
            "airlock_setup",
            {
                "comm_id": self._comm_id,
                "functions": list(self._settings.functions),
                "output_chars": self._settings.output_chars,
                "prompt_bytes": self._settings.prompt_bytes,
                "answer_bytes": self._settings.answer_bytes,
                "rlm_query": self._settings.rlm_query,
                "tools": [tool.as_json() for tool in self._settings.tools.specs],
                "module_dir": f"{CONTEXT_DIR}/{MODULES}",
                "modules": self._settings.module_names,
            },
        )
        if not reply.ok:
            words = reply.error_text[:200].encode("unicode_escape").decode()
            raise BoxStartError(f"the kernel does not take its settings: {words}")

    async def request(self, name: str, content: dict[str, Any]) -> messages.Reply:
        """Send ``<name>_request`` on the shell channel and wait for its reply. The caller bounds the time."""
        async with self._at_work():
            self._count_anew()
            msg_id = encoding.new_id()
            waiting: asyncio.Future[messages.Reply | None] = asyncio.get_running_loop().create_future()
            self._requests[msg_id] = waiting
            try:
                await self._send(f"{name}_request", content, msg_id)
                reply = None if self.gone.is_set() else await waiting
            finally:
                self._requests.pop(msg_id, None)
            if reply is None:
                raise self._why_gone()
            if reply.msg_type != f"{name}_reply":
                raise self._violate(ProtocolViolation(f"{reply.msg_type} in answer to {name}_request"))
            return reply

    async def execute(self, code: str, clocks: CellClocks) -> CellResult:
        """Run one cell to its end, its clocks' end or the box's end.

        The caller reads `gone`, `exit_code` and `violation` for why a cell was lost.
        """
        async with self._at_work():
            if self._children is not None:
                await self._children.clear()
            cell = self._open_cell(clocks)
            clock: Clock | None = None
            try:
                await self._send_cell(cell.msg_id, code)
                clock = await self._until_ended(cell)
                if clock is not None:
                    await self._interrupt(cell)
            except (BoxGone, ProtocolViolation):
                pass
            finally:
                self._cell = None
            late, self._late_chars = self._late_chars, 0
            return cell.result(clock, late)

    @contextlib.asynccontextmanager
    async def _at_work(self) -> AsyncIterator[None]:
        """One request at a time, for which other boxes rest."""
        async with self._shell:
            with self._pace.at_work():
                yield

    def _open_cell(self, clocks: CellClocks) -> OpenCell:
        self._count_anew()
        self._cell = OpenCell(clocks, self._settings.output_chars)
        return self._cell

    async def _send_cell(self, msg_id: str, code: str) -> None:
        content = {
            "code": encoding.encodable(code),
            "silent": False,
            "store_history": False,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        await self._send("execute_request", content, msg_id, metadata={"budget": self._settings.budget()})

    async def _until_ended(self, cell: OpenCell) -> Clock | None:
        """Wait for the cell; returns the clock that ran out first, if one did."""
        while not cell.ended:
            cell.progress.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(cell.clocks.next_check_s()):
                    await self._progress(cell)
            if not cell.ended and (clock := await cell.expired(self.gone)):
                return clock
        return None

    async def _interrupt(self, cell: OpenCell) -> None:
        """Ask the cell to stop; it has `INTERRUPT_GRACE_S` to do so."""
        cell.stopping = True
        self._sub_calls.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTERRUPT_GRACE_S):
                await self.interrupt()
                while not cell.ended:
                    cell.progress.clear()
                    await self._progress(cell)

    async def settle(self) -> None:
        """End all sub-calls, child runs and calls of tools that are in flight, and wait until they have ended."""
        await self._sub_calls.settle()

    async def interrupt(self) -> None:
        """Send SIGINT to the running cell, if one runs; the relay does so before it passes on what we send later.

        A cell in a top-level await notices the signal with the next message on shell.
        """
        await self.link.send(encoding.encode_frame(RELAY, [b"interrupt"]))
        await self._send("kernel_info_request", {}, encoding.new_id())

    async def _send(
        self, msg_type: str, content: dict[str, Any], msg_id: str, metadata: Mapping[str, Any] | None = None
    ) -> None:
        await self.link.send(encoding.encode_message(SHELL, msg_type, content, msg_id=msg_id, metadata=metadata))

    async def _progress(self, cell: OpenCell) -> None:
        """Wait until something has happened to the cell, or raise when the box ends first."""
        if not self.gone.is_set():
            await cell.progress.wait()
        if self.gone.is_set() and not cell.ended:
            raise self._why_gone()

    def _why_gone(self) -> SandboxError:
        return self.violation or BoxGone("the box has ended")

    def _end(self) -> None:
        """Nothing comes from the box any more: whoever waits for it is told."""
        for event in (self.gone, self.greeted, self._welcome):
            event.set()
        if self._cell is not None:
            self._cell.progress.set()
        for waiting in self._requests.values():
            if not waiting.done():
                waiting.set_result(None)

    async def _read(self) -> None:
        try:
            async for channel, parts in self.link.frames():
                message = protocol.decode(channel, parts, self._terms)
                self._count(message, parts)
                parts.clear()  # who hands out the frame holds it until the next one
                await self._handle(message)
                del message
                await self._sub_calls.room()
                await self._pace.rest()
        except ProtocolViolation as violation:
            self._violate(violation)
        finally:
            self._end()
            self.link.abort()  # at once, also while nobody asks anything: it ends the box

    def _count_anew(self) -> None:
        self._messages = self._bytes = 0
        self._sub_calls.count_anew()

    def _count(self, message: messages.Message, parts: list[bytes]) -> None:
        """Prompts are counted where they are answered: a cell may ask about gigabytes, in its turn."""
        self._messages += 1
        if not isinstance(message, messages.Query | messages.Piece):
            self._bytes += sum(map(len, parts))
        if self._messages > MAX_MESSAGES_PER_CELL or self._bytes > MAX_BYTES_PER_CELL:
            raise ProtocolViolation(f"a flood: {self._messages:,} messages, {self._bytes:,} bytes in one cell")

    def _violate(self, violation: ProtocolViolation) -> ProtocolViolation:
        self.violation = self.violation or violation
        self._end()
        return violation

    async def _handle(self, message: messages.Message) -> None:
        match message:
            case messages.Output():
                self._on_output(message)
            case messages.Idle():
                self._on_idle(message)
            case messages.Reply():
                self._on_reply(message)
            case messages.Query():
                await self._sub_calls.open(message, self._cell)
            case messages.Piece():
                await self._on_piece(message)
            case messages.Report():
                self._on_report(message)
            case messages.Answer():
                self._on_answer(message)
            case messages.Hello() | messages.Welcome():
                (self.greeted if isinstance(message, messages.Hello) else self._welcome).set()
            case messages.KernelExit():
                self.exit_code = message.code

    async def _on_piece(self, piece: messages.Piece) -> None:
        """A piece that is not kept counts as the cell's output: it may not come without end."""
        if self._children is None or self._cell is None or not await self._children.take(piece):
            self._bytes += len(piece.raw)

    def _cell_of(self, parent_id: str) -> OpenCell | None:
        return self._cell if self._cell is not None and self._cell.msg_id == parent_id else None

    def _on_output(self, output: messages.Output) -> None:
        """Output of an earlier cell's threads is dropped and counted: honest code leaves threads behind."""
        cell = self._cell_of(output.parent_id)
        if cell is None:
            self._late_chars += len(output.text)
        else:
            cell.captures[output.kind].add(output.text)
            self._settings.on_output(output.kind, output.text)

    def _on_idle(self, idle: messages.Idle) -> None:
        if cell := self._cell_of(idle.parent_id):
            cell.idle = True
            cell.tell_if_ended()

    def _on_reply(self, reply: messages.Reply) -> None:
        waiting = self._requests.pop(reply.parent_id, None)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(reply)
            return
        cell = self._cell_of(reply.parent_id)
        if cell is None or cell.reply is not None or reply.msg_type != "execute_reply":
            raise ProtocolViolation(f"{reply.msg_type} to no open request")
        cell.reply = reply
        cell.tell_if_ended()

    def _on_report(self, report: messages.Report) -> None:
        """Dropped are a thread's late report, like its output, and whatever is more than a root may be shown."""
        if self._cell is None or "report" not in self._settings.functions:
            return
        size = sum(1 + (len(value) if isinstance(value, list | dict) else 0) for value in report.values.values())
        if 0 < size <= MAX_REPORTED_PER_CELL - self._cell.reported:
            self._cell.reported += size
            self._cell.reports.append(report.values)

    def _on_answer(self, answer: messages.Answer) -> None:
        if self._cell is None or self._cell.answer is not None:
            raise ProtocolViolation("an answer outside a cell, or a second one")
        if len(answer.raw) > most_bytes(answer.raw, self._settings.answer_bytes):
            raise ProtocolViolation(f"an answer of {len(answer.raw):,} bytes")
        self._cell.answer = answer.raw

    async def aclose(self) -> None:
        """End the box's stream, its reader and all sub-calls in flight."""
        self._end()
        if self._reader:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._sub_calls.aclose()
        if self._children is not None:
            await self._children.clear()
        self.link.abort()
