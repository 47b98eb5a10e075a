"""The root's conversation, and how it is kept within what the model can read at once.

When it is nearly full, old turns leave it: the root sums them up itself (a root call, on the same budget), and the
summary stands in their place, behind the question. Variables stay in the REPL; their names are listed from the code
that the host ran. Where no summary can be had, the old turns leave without one.

How full it is: what the provider counted for the last reply, and for what it has not counted yet a token for each two
bytes, which is more than text and code need.

A run that is resumed sums up where it did before, also where its outputs have other lengths now: limits may differ.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from orchestrator import prompts
from orchestrator.errors import LimitExceeded, ProviderError
from orchestrator.gate import Gate
from orchestrator.names import BoundNames
from orchestrator.permit import upper_bound_tokens
from orchestrator.providers.base import Message, ModelReply
from orchestrator.recorder import Recorder
from orchestrator.rendering import frame, truncate_output

FULL: Final = 0.8
"""Part of the window that may be full; the rest is for the reply."""
KEPT_TURNS: Final = 3
"""Turns that stay as they are, where they are short enough; the last one always does."""
BYTES_A_TOKEN: Final = 2
_FEWEST_TOKENS_BYTES: Final = 8  # no text has fewer tokens than one in eight bytes: a lower count is not believed
_OVERHEAD_TOKENS: Final = 8  # of a message
_LEAST_PART_BYTES: Final = 400  # of a message that is cut
_FRAME_BYTES: Final = 150


class History:
    """The messages of one root, and the asking.

    Args:
        gate: The way to the root.
        recorder: Is told of compactions.
        system_prompt: The first message; never changed.
        first: The second one, with the question; a summary is put behind it.
        names: What the code that ran has bound.
        window_tokens: What the root can read and write at once.
        reply_tokens: The longest reply.

    Attributes:
        messages: The conversation. Policies may have changed it.
        names: As given.
    """

    def __init__(
        self,
        *,
        gate: Gate,
        recorder: Recorder,
        system_prompt: str,
        first: str,
        names: BoundNames,
        window_tokens: int,
        reply_tokens: int,
    ) -> None:
        self._gate = gate
        self._recorder = recorder
        self.messages = [Message(role="system", content=system_prompt), Message(role="user", content=first)]
        self.names = names
        self._window = window_tokens
        self._reply_tokens = reply_tokens
        self._counted: tuple[int, int] = (0, 0)
        """How many messages the provider has counted, and their tokens."""
        self._first: str | None = None
        self._compacted_turns = 0
        self._said = ""

    @property
    def tokens(self) -> int:
        """About what the conversation has, rather too many than too few."""
        counted, tokens = self._counted
        return tokens + _guess(self.messages[counted:])

    @property
    def most_tokens(self) -> int:
        """What it may have when the root is asked."""
        room = max(self._window - self._reply_tokens, self._window // 2)
        return min(int(FULL * self._window), room)

    @property
    def _turns(self) -> int:
        return (len(self.messages) - 2) // 2

    def told(self, observation: str | None, said: str) -> None:
        """What the root is told of its last reply: what its cells showed, and what the host says behind it."""
        self._said = said
        content = said if observation is None else f"{observation}\n\n{said}"
        self.messages.append(Message(role="user", content=content))

    async def ask(self) -> ModelReply:
        """The root's next reply, which is put into the conversation.

        Where the model says that the conversation is too long for it after all, it is compacted and asked once more.

        Raises:
            LimitExceeded, PolicyRefused, ProviderError: As `Gate.ask_root`.
        """
        recorded = self._gate.recorded_summary
        if self.tokens > self.most_tokens if recorded is None else recorded:
            await self._compact("full")
        try:
            reply = await self._gate.ask_root(self.messages)
        except ProviderError as error:
            if not (error.too_long and await self._compact("refused")):
                raise
            reply = await self._gate.ask_root(self.messages)
        else:
            if reply.finish_reason == "window" and await self._compact("cut off"):
                reply = await self._gate.ask_root(self.messages)
        self._take(reply)
        return reply

    def _take(self, reply: ModelReply) -> None:
        self.messages.append(Message(role="assistant", content=reply.text))
        if reply.usage.estimated:
            return
        least = sum(message.size_bytes for message in self.messages) // _FEWEST_TOKENS_BYTES
        most = upper_bound_tokens(self.messages)
        said = reply.usage.input_tokens + reply.usage.output_tokens
        self._counted = (len(self.messages), max(least, min(said, most)))

    async def _compact(self, because: str) -> bool:
        """Make room; whether there was anything to take out or to cut.

        Args:
            because: ``full``: by our own count. Else the model found it too long, so its window is smaller than that.
        """
        started, before = time.monotonic(), self.tokens
        if because != "full":
            self._window = min(self._window, before)
        recorded = self._gate.recorded_summary
        older = self._turns - self._kept_turns() if recorded is None else recorded
        reply, failure = (None, None) if older <= 0 else await self._summary_of(older)
        if older > 0:
            self._take_out(older, reply.text if reply else "")
        cut = self._cut_to_fit()
        if older <= 0 and not cut:
            return False
        self._recorder.compaction(
            {
                "because": because,
                "turns": max(0, older),
                "cut": cut,
                "tokens_before": before,
                "tokens_after": self.tokens,
                "window_tokens": self._window,
                "failure": failure,
            },
            reply,
            time.monotonic() - started,
        )
        return True

    def _kept_turns(self) -> int:
        """As many as leave the conversation half empty: else the next turn would fill it again."""
        head = _guess(self.messages[:2]) + self.most_tokens // 8
        for kept in range(min(KEPT_TURNS, self._turns - 1), 1, -1):
            if head + _guess(self.messages[-2 * kept :]) <= self.most_tokens // 2:
                return kept
        return 1

    async def _summary_of(self, turns: int) -> tuple[ModelReply | None, str | None]:
        """The root's own summary of the first turns, asked behind them, so that a cache has their text."""
        older = self.messages[: 2 + 2 * turns]
        last = older[-1]
        older[-1] = Message(role="user", content=f"{last.content}\n\n{prompts.sum_up(self._most_summary_chars)}")
        try:
            return await self._gate.ask_root(older, sums_up=turns), None
        except (LimitExceeded, ProviderError) as error:
            return None, type(error).__name__

    @property
    def _most_summary_chars(self) -> int:
        return self.most_tokens // 8

    def _take_out(self, turns: int, summary: str) -> None:
        if self._first is None:
            self._first = self.messages[1].content  # as the policies left it
        self._compacted_turns += turns
        text = truncate_output(summary.strip(), self._most_summary_chars) if summary.strip() else ""
        told = prompts.taken_out(
            turns=self._compacted_turns,
            names=self.names.said(),
            summary=frame("your summary", text) if text else "",
        )
        first = Message(role="user", content=f"{self._first}\n\n{told}")
        self.messages[1:] = [first, *self.messages[2 + 2 * turns :]]
        self._counted = (0, 0)

    def _cut_to_fit(self) -> bool:
        """Where the last turn alone is too long: cut its messages to equal shares. Whether any was cut."""
        if self.tokens <= self.most_tokens or self._turns < 1:
            return False
        self._counted = (0, 0)
        room = max(0, self.most_tokens - _guess(self.messages[:2])) * BYTES_A_TOKEN
        share = max(_LEAST_PART_BYTES, room // (len(self.messages) - 2) - _OVERHEAD_TOKENS * BYTES_A_TOKEN)
        longer = [index for index in range(2, len(self.messages)) if self.messages[index].size_bytes > share]
        for index in longer:
            self.messages[index] = self._cut(index, share)
        return bool(longer)

    def _cut(self, index: int, most_bytes: int) -> Message:
        """An observation is framed anew: of its own frames the cut may have taken an edge."""
        message = self.messages[index]
        if message.role == "assistant":
            return Message(role="assistant", content=_shortened(message.content, most_bytes))
        last = index == len(self.messages) - 1 and message.content.endswith(self._said)
        said = self._said if last else ""
        room = most_bytes - len(said.encode("utf-8", "surrogatepass")) - _FRAME_BYTES
        shown = message.content.removesuffix(said)
        framed = frame("what your cells showed, cut to make room", _shortened(shown, max(room, _LEAST_PART_BYTES)))
        return Message(role="user", content="\n\n".join(part for part in (framed, said) if part))


def most_shown_chars(window_tokens: int) -> int:
    """Characters of output that one turn may be shown: of plain text about an eighth of the window."""
    return window_tokens // 2


def _guess(messages: Sequence[Message]) -> int:
    return sum(-(-message.size_bytes // BYTES_A_TOKEN) + _OVERHEAD_TOKENS for message in messages)


def _shortened(text: str, most_bytes: int) -> str:
    """Its start and its end, within so many bytes of UTF-8."""
    chars = most_bytes
    while len((short := truncate_output(text, chars)).encode("utf-8", "surrogatepass")) > most_bytes:
        chars = chars * 3 // 4
    return short
