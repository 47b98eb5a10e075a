"""A model played by a function or by a list of replies: for tests, demonstrations and offline work."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import sys
import types
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError, ProviderError
from orchestrator.providers.base import (
    DEFAULT_MAX_OUTPUT_TOKENS,
    LLMInterface,
    ModelReply,
    ModelRequest,
    estimate_usage,
)
from orchestrator.providers.direct import ask

Reply = str | ModelReply
ReplyFunction = Callable[[ModelRequest], Reply | Awaitable[Reply]]


class ScriptedProvider(LLMInterface):
    """Plays a model without one.

    A function is called with each `ModelRequest` and returns the reply; it may be async. A function that is not
    runs on the event loop, so it should be quick. A list is played in order, over all conversations that share
    this object: a str is a reply, a `ModelReply` one with its own usage, an exception a failure.

    Args:
        replies: The function or the list.
        name: Stands in traces and errors.
        latency_s: Seconds each call takes before it replies, 0 and more.
        max_output_tokens: What a gate reserves for a reply.

    Attributes:
        requests: Every request received, in order; nothing is ever removed.

    Raises:
        ConfigError: An item of the list is no reply, named by its index; a setting is out of range.
    """

    def __init__(
        self,
        replies: Sequence[Reply | Exception] | ReplyFunction,
        *,
        name: str = "scripted:replies",
        latency_s: float = 0.0,
        max_output_tokens: int = DEFAULT_MAX_OUTPUT_TOKENS,
    ) -> None:
        if not 0 <= latency_s < math.inf:
            raise ConfigError(f"ScriptedProvider.latency_s: {latency_s!r} is not a number of seconds, 0 and more")
        self._name = name
        self._latency_s = latency_s
        self._max_output_tokens = max_output_tokens
        self._play = replies if callable(replies) else _Playlist(name, replies)
        self.requests: list[ModelRequest] = []

    @property
    def name(self) -> str:
        """The name given at construction."""
        return self._name

    @property
    def max_output_tokens(self) -> int:
        """Upper bound of output tokens of one call; not enforced."""
        return self._max_output_tokens

    def __repr__(self) -> str:
        return f"ScriptedProvider(name={self._name!r}, requests={len(self.requests)})"

    def get_model_info(self) -> dict[str, Any]:
        """Says that this is a script."""
        return {"provider": "scripted", "model": self._name}

    def query(self, prompt: str, system_prompt: str | None = None) -> str:
        """Ask one question and wait for the reply, as with a real model, retries included."""
        return ask(self, prompt, system_prompt)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Play one reply; see `Provider.complete`. Usage is estimated unless the reply brings its own."""
        self.requests.append(request)
        seconds = None if math.isinf(request.timeout_s) else request.timeout_s
        try:
            async with asyncio.timeout(seconds) as limit:
                reply = await self._next(request)
        except ProviderError:
            raise
        except Exception as exc:
            if limit.expired():
                raise self._error(f"no reply within {request.timeout_s:.1f} s") from None
            raise self._error(f"the script failed: {type(exc).__name__}: {exc}") from exc
        if len(reply.text.encode("utf-8", "surrogatepass")) > request.max_reply_bytes:
            raise self._error(
                f"the reply is longer than {request.max_reply_bytes:,} bytes and was cut off", outage=False
            )
        if request.on_text is not None:
            request.on_text(reply.text)
        return reply

    async def _next(self, request: ModelRequest) -> ModelReply:
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        reply = self._play(request)
        if inspect.isawaitable(reply):
            reply = await reply
        if isinstance(reply, ModelReply):
            return reply
        if not isinstance(reply, str):
            raise self._error(f"the script's reply is of type {type(reply).__name__}; it must be a str or a ModelReply")
        return ModelReply(text=reply, usage=estimate_usage(request.messages, reply))

    def _error(self, text: str, *, outage: bool | None = None) -> ProviderError:
        return ProviderError(f"{self._name}: {text}", provider=self._name, outage=outage)


class _Playlist:
    """The function that a list of replies stands for."""

    def __init__(self, name: str, replies: Sequence[Reply | Exception]) -> None:
        if isinstance(replies, (str, bytes)) or not isinstance(replies, Sequence):
            raise ConfigError(f"ScriptedProvider.replies: a {type(replies).__name__} is neither a list nor a function")
        for index, reply in enumerate(replies):
            if not isinstance(reply, (str, ModelReply, Exception)):
                raise ConfigError(
                    f"ScriptedProvider.replies[{index}]: of type {type(reply).__name__}, which is no reply; "
                    "one is a str, a ModelReply or an exception"
                )
        self._name = name
        self._count = len(replies)
        self._rest: Iterator[Reply | Exception] = iter(tuple(replies))

    def __call__(self, _: ModelRequest) -> Reply:
        for reply in self._rest:
            if isinstance(reply, Exception):
                raise reply.with_traceback(None)
            return reply
        raise ProviderError(
            f"{self._name}: the script is over: all of its {self._count} replies are used", provider=self._name
        )


def load_scripted(path: str | os.PathLike[str]) -> ScriptedProvider:
    """Load a script that plays a model, for ``--model scripted:FILE.py``.

    The file is **executed on the host, with all rights of the user**: it must be the user's own, like any program
    they start. It defines ``reply(request)`` (a function as `ScriptedProvider` takes it) or ``REPLIES`` (a list). The
    model's name is ``scripted:`` and the path as given.

    Raises:
        ConfigError: The file can't be read or executed, or defines neither.
    """
    file = Path(path)
    name = f"scripted:{os.fspath(path)}"
    module = types.ModuleType(f"airlock_script_{file.stem}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses and typing look their module up there
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)  # noqa: S102 - the user's own program
    except Exception as exc:
        said = (
            exc.strerror if isinstance(exc, OSError) and exc.filename == str(file) else f"{type(exc).__name__}: {exc}"
        )
        raise ConfigError(f"{name}: the file can't be executed: {said}") from exc
    reply = getattr(module, "reply", None)
    if callable(reply):
        return ScriptedProvider(reply, name=name)
    if isinstance(getattr(module, "REPLIES", None), (list, tuple)):
        return ScriptedProvider(module.REPLIES, name=name)
    raise ConfigError(f"{name}: the file defines neither reply(request) nor a list REPLIES")
