"""A model's calls written to a file, and played from it: a recorded run is a test that needs no model and no key.

One line of JSON for each call: what was sent, what came back, what it cost. The file holds the document's text wherever
the model saw it, and no key. Airlock draws new IDs for its frames in each run, and says what time is left; so requests
are compared without both. All else must be the same: what a cell printed, too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import ConfigError, ProviderError
from orchestrator.providers.base import LLMInterface, Message, ModelReply, ModelRequest, Provider, TokenUsage
from orchestrator.providers.custom import as_provider
from orchestrator.providers.parameters import parameters_of

FORMAT: Final = "airlock-calls/1"
MAX_LINE_BYTES: Final = 256 << 20
SHOWN_CHARS: Final = 40

_ID: Final = re.compile(r"\b(?:[0-9a-f]{12}|[0-9a-f]{16}|[0-9a-f]{32})\b")
_LEFT: Final = re.compile(r"^Left: .*$", re.MULTILINE)


class RecordingProvider:
    """Passes calls on to a model, and writes each of them to a new file that only its owner can read.

    Args:
        provider: The model.
        path: The file.

    Raises:
        ConfigError: The file is there already or can't be written, or `provider` is no model.
    """

    def __init__(self, provider: LLMInterface | Provider, path: str | os.PathLike[str]) -> None:
        self._provider = as_provider(provider)
        self._path = Path(path)
        header = {"format": FORMAT, "model": self.name, "max_output_tokens": self.max_output_tokens}
        self._write(header | {"parameters": self.parameters}, os.O_EXCL)

    def _write(self, line: dict[str, Any], flags: int = 0) -> None:
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(line).encode() + b"\n")
        except FileExistsError:
            raise ConfigError(
                f"RecordingProvider.path: {str(self._path)!r} is there already; name a new file"
            ) from None
        except OSError as error:
            raise ConfigError(f"RecordingProvider.path: {str(self._path)!r}: {error.strerror}") from error

    @property
    def name(self) -> str:
        """The model's."""
        return self._provider.name

    @property
    def max_output_tokens(self) -> int:
        """The model's."""
        return self._provider.max_output_tokens

    @property
    def parameters(self) -> dict[str, Any]:
        """The model's."""
        return parameters_of(self._provider)

    @property
    def identity(self) -> str:
        """The model's, by which a cache tells it from others; it stands in no record."""
        return str(getattr(self._provider, "identity", ""))

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Make one attempt; see `Provider.complete`. A cancelled one is not written."""
        line: dict[str, Any] = {
            "digest": request_digest(request.messages),
            "messages": [[message.role, message.content] for message in request.messages],
        }
        try:
            reply = await self._provider.complete(request)
        except ProviderError as error:
            self._write(line | {"error": _error_facts(error)})
            raise
        usage = dataclasses.asdict(reply.usage)
        self._write(line | {"reply": reply.text, "usage": usage, "finish_reason": reply.finish_reason})
        return reply


class ReplayProvider:
    """Plays what `RecordingProvider` has written. Calls may come in another order; equal ones are answered in theirs.

    Args:
        path: The file.

    Attributes:
        name: The recorded model's.
        max_output_tokens: Likewise.
        parameters: Likewise.

    Raises:
        ConfigError: The file can't be read, or is no such record.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        header, calls = _read(Path(path))
        self.name: str = header["model"]
        self.max_output_tokens: int = header["max_output_tokens"]
        self.parameters: dict[str, Any] = header["parameters"]
        self._calls: dict[str, deque[_Recorded]] = {}
        for call in calls:
            self._calls.setdefault(request_digest(call.messages), deque()).append(call)

    @property
    def left(self) -> int:
        """Recorded calls that have not been asked for."""
        return sum(map(len, self._calls.values()))

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Play one call.

        Raises:
            ProviderError: As it was recorded; or there is no such call: names the first message that differs.
        """
        calls = self._calls.get(request_digest(request.messages))
        if not calls:
            raise ProviderError(f"{self.name}: {self._nearest(request.messages)}", provider=self.name, outage=False)
        call = calls.popleft()
        if isinstance(call.outcome, ProviderError):
            raise call.outcome
        if request.on_text is not None:
            request.on_text(call.outcome.text)
        return call.outcome

    def _nearest(self, messages: Sequence[Message]) -> str:
        """How far the recorded call that is most like this one agrees with it."""
        now = _comparable(messages)
        left = [_comparable(call.messages) for calls in self._calls.values() for call in calls]
        if not left:
            return "all recorded calls are used up"
        nearest = max(left, key=lambda then: _agree(then, now))
        messages_same, chars_same = _agree(nearest, now)
        if messages_same == len(now) or messages_same == len(nearest):
            return f"no such call is recorded: it has {len(now)} messages, the nearest one {len(nearest)}"
        (then_role, then_text), (role, text) = nearest[messages_same], now[messages_same]
        return (
            f"no such call is recorded: message {messages_same + 1} ({role}; {then_role} in the nearest one) differs "
            f"from character {chars_same} on: {_excerpt(then_text, chars_same)} was recorded, "
            f"{_excerpt(text, chars_same)} was sent"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Recorded:
    messages: tuple[Message, ...]
    outcome: ModelReply | ProviderError


def request_digest(messages: Sequence[Message]) -> str:
    """By what a call is known: SHA-256 of its messages without the frames' IDs and the line of what is left."""
    return hashlib.sha256(json.dumps(_comparable(messages)).encode()).hexdigest()


def _comparable(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.role, _LEFT.sub("Left:", _ID.sub("ID", message.content))) for message in messages]


def _agree(then: list[tuple[str, str]], now: list[tuple[str, str]]) -> tuple[int, int]:
    """Messages that are the same, and characters of the next one."""
    for number, (old, new) in enumerate(zip(then, now, strict=False)):
        if old != new:
            pairs = enumerate(zip(old[1], new[1], strict=False))
            same = next((at for at, (one, other) in pairs if one != other), min(len(old[1]), len(new[1])))
            return number, same
    return min(len(then), len(now)), 0


def _excerpt(text: str, at: int) -> str:
    return ascii(text[at : at + SHOWN_CHARS])


def _error_facts(error: ProviderError) -> dict[str, Any]:
    names = ("status", "retryable", "retry_after_s", "refused", "outage", "too_long")
    return {"message": str(error)} | {name: getattr(error, name) for name in names}


def _read(path: Path) -> tuple[dict[str, Any], list[_Recorded]]:
    calls: list[_Recorded] = []
    header: dict[str, Any] = {}
    number = 0
    try:
        with path.open("rb") as file:
            while raw := file.readline(MAX_LINE_BYTES):
                number += 1
                line = json.loads(raw)
                if number == 1:
                    header = _checked_header(line)
                else:
                    calls.append(_recorded(line, header["model"]))
    except OSError as error:
        raise ConfigError(f"ReplayProvider.path: {str(path)!r}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"ReplayProvider.path: {str(path)!r}: line {number} is no recorded call: {error!r:.80}"
        ) from error
    if not header:
        raise ConfigError(f"ReplayProvider.path: {str(path)!r} is empty")
    return header, calls


def _checked_header(line: dict[str, Any]) -> dict[str, Any]:
    if line["format"] != FORMAT:
        raise ValueError(f"the format is {line['format']!r:.40}, not {FORMAT!r}")
    return {
        "model": str(line["model"]),
        "max_output_tokens": int(line["max_output_tokens"]),
        "parameters": dict(line["parameters"]),
    }


def _recorded(line: dict[str, Any], model: str) -> _Recorded:
    messages = tuple(Message(role=role, content=str(content)) for role, content in line["messages"])
    if "error" in line:
        facts = dict(line["error"])
        return _Recorded(messages, ProviderError(facts.pop("message"), provider=model, **facts))
    usage = TokenUsage(**line["usage"])
    return _Recorded(messages, ModelReply(text=str(line["reply"]), usage=usage, finish_reason=line["finish_reason"]))
