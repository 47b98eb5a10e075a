"""Makes a `Provider` of whatever a user passes as a model."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import math
import re
import threading
from typing import TYPE_CHECKING, Any, Final

from orchestrator.errors import ConfigError, ProviderError
from orchestrator.providers.base import (
    DEFAULT_MAX_OUTPUT_TOKENS,
    LLMInterface,
    Message,
    ModelReply,
    ModelRequest,
    Provider,
    estimate_usage,
)
from orchestrator.providers.failures import safe_text, safe_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MOST_THREADS: Final = 1024  # calls of one model that have not returned, those whose time is over included
_MOST_NAME_CHARS: Final = 100
_MOST_PARAMETERS: Final = 10
_SECRETS_NAME: Final = re.compile(r"key|token|secret|passw|pwd|auth|credential|cookie|session|header", re.IGNORECASE)


def as_provider(llm: object) -> Provider:
    """Return `llm` itself if it is a `Provider`, or a provider that calls its `query` in a thread.

    Raises:
        ConfigError: It is neither a `Provider` nor an `LLMInterface`, or its `get_model_info` fails.
    """
    if isinstance(llm, type):
        raise ConfigError(f"a model is needed, not the class {llm.__name__}: write {llm.__name__}(...)")
    if isinstance(llm, Provider):
        return llm
    if isinstance(llm, LLMInterface):
        return _ThreadedProvider(llm)
    raise ConfigError(
        f"a {type(llm).__name__} is not a model. Pass an OpenAIInterface, an AnthropicInterface, or an object whose "
        "class extends orchestrator.LLMInterface and has query(prompt, system_prompt) and get_model_info()"
    )


class _ThreadedProvider:
    """A user's blocking `LLMInterface`. Its usage is estimated; its output is not bounded before it returns."""

    def __init__(self, llm: LLMInterface) -> None:
        self._llm = llm
        info = _info_of(llm)
        self._name = _name_in(info, llm)
        self._parameters = _parameters_in(info)
        self._identity = repr(info)
        self._free = threading.BoundedSemaphore(_MOST_THREADS)

    @property
    def name(self) -> str:
        return self._name

    @property
    def max_output_tokens(self) -> int:
        return DEFAULT_MAX_OUTPUT_TOKENS

    @property
    def parameters(self) -> dict[str, Any]:
        """What else its `get_model_info` said, where it is a number or a short text; what may be a key is left out."""
        return dict(self._parameters)

    @property
    def identity(self) -> str:
        """All that its `get_model_info` said, keys too: for the cache, which keeps a digest, and for no record."""
        return self._identity

    @property
    def context_window_tokens(self) -> int | None:
        """What the user's class says of it, where it does (`orchestrator.providers.windows`)."""
        said: int | None = getattr(self._llm, "context_window_tokens", None)
        return said

    def __repr__(self) -> str:
        return f"as_provider({type(self._llm).__name__})"

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Call `query` once. When the time is over the thread goes on by itself: Python can't stop it."""
        prompt, system_prompt = flatten(request.messages)
        seconds = None if math.isinf(request.timeout_s) else request.timeout_s
        try:
            async with asyncio.timeout(seconds):
                outcome = await self._in_thread(lambda: self._llm.query(prompt, system_prompt))
        except TimeoutError:
            raise self._error(f"query() did not return within {request.timeout_s:.1f} s") from None
        if isinstance(outcome, _Failure):
            raise self._error(f"query() failed: {outcome.text}")
        text = self._checked_text(outcome, request)
        return ModelReply(text=text, usage=estimate_usage(request.messages, text))

    async def _in_thread(self, call: Callable[[], object]) -> object:
        """Run `call` in a daemon thread of its own: a pool's threads would hold up the end of the process."""
        if not self._free.acquire(blocking=False):
            raise self._error(f"{_MOST_THREADS} calls of query() have not returned; no further one is started")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        context = contextvars.copy_context()

        def run() -> None:
            try:
                outcome = context.run(call)
            except BaseException as exc:  # noqa: BLE001 - a SystemExit in a user's method fails the call alone
                outcome = _Failure(exc)
            self._free.release()
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(_settle, future, outcome)

        try:
            threading.Thread(target=run, name=f"airlock-{self._name}", daemon=True).start()
        except RuntimeError:
            self._free.release()
            return _Failure(RuntimeError("the system starts no further thread"))
        return await future

    def _checked_text(self, outcome: object, request: ModelRequest) -> str:
        if inspect.iscoroutine(outcome):
            outcome.close()
            raise self._error("query() is async; make it blocking, or give the class an async complete(request)")
        if not isinstance(outcome, str):
            raise self._error(f"query() returned a value of type {type(outcome).__name__} instead of a str")
        if len(outcome.encode("utf-8", "surrogatepass")) > request.max_reply_bytes:
            raise self._error(f"the reply is longer than {request.max_reply_bytes:,} bytes", outage=False)
        return outcome

    def _error(self, text: str, *, outage: bool | None = None) -> ProviderError:
        return ProviderError(f"{self._name}: {text}", provider=self._name, outage=outage)


def _settle(future: asyncio.Future[object], outcome: object) -> None:
    if not future.done():  # else its time was over
        future.set_result(outcome)


class _Failure:
    """What a failed call leaves: its text alone, since a user's exception may hold anything."""

    def __init__(self, exc: BaseException) -> None:
        self.text = f"{type(exc).__name__}: {safe_text(exc)}"


def flatten(messages: Sequence[Message]) -> tuple[str, str | None]:
    """Turn a conversation into the two arguments of `query`.

    The system message becomes `system_prompt`. A single user message is the prompt as it is; of several turns
    each gets a heading that names who speaks.
    """
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    turns = [message for message in messages if message.role != "system"]
    if len(turns) == 1:
        return turns[0].content, system or None
    headed = (f"### {message.role.capitalize()}\n\n{message.content}" for message in turns)
    return "\n\n".join((*headed, "### Assistant\n\n")), system or None


def _info_of(llm: LLMInterface) -> dict[object, object]:
    where = f"{type(llm).__name__}.get_model_info()"
    try:
        info: Any = llm.get_model_info()
    except Exception as exc:
        raise ConfigError(f"{where} failed: {type(exc).__name__}: {safe_text(exc)}") from exc
    if not isinstance(info, dict):
        raise ConfigError(f'{where} returned a {type(info).__name__}, not a dict with "provider" and "model"')
    return info


def _is_secret(name: object) -> bool:
    """Whether what has such a name may be a key: ``max_tokens`` is a number and no concern of this."""
    return _SECRETS_NAME.search(str(name)) is not None


def _shown(value: str) -> str:
    try:
        return safe_text(safe_url(value) if "://" in value else value, max_chars=_MOST_NAME_CHARS)
    except ValueError:
        return "(no address)"


def _name_in(info: dict[object, object], llm: LLMInterface) -> str:
    parts = (info.get("provider", "custom"), info.get("model", type(llm).__name__))
    return safe_text(":".join(str(part) for part in parts), max_chars=_MOST_NAME_CHARS)


def _parameters_in(info: dict[object, object]) -> dict[str, Any]:
    said = {
        safe_text(name, max_chars=_MOST_NAME_CHARS): _shown(value) if isinstance(value, str) else value
        for name, value in info.items()
        if name not in ("provider", "model")
        and (value is None or isinstance(value, int | float) or (isinstance(value, str) and not _is_secret(name)))
    }
    finite = {name: value for name, value in said.items() if not isinstance(value, float) or math.isfinite(value)}
    return dict(list(finite.items())[:_MOST_PARAMETERS])
