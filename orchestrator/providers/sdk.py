"""What the two vendors' interfaces share: settings, one client per event loop, the deadline, the bounds, the errors.

A vendor adds how its client is made, how a stream is opened, and what one event of it means.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import ipaddress
import math
import os
import weakref
from abc import abstractmethod
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from orchestrator.errors import ConfigError, ProviderError
from orchestrator.limits import KIB, MIB
from orchestrator.providers.base import DEFAULT_MAX_OUTPUT_TOKENS, LLMInterface, ModelReply, ModelRequest
from orchestrator.providers.direct import ask
from orchestrator.providers.failures import ReplyTooLargeError, from_server_error, safe_text, safe_url
from orchestrator.providers.sampling import checked_max_tokens, checked_sampling
from orchestrator.providers.streaming import ReplyBuilder, bound_body

_CONNECT_TIMEOUT_S: Final = 15.0
_SILENCE_TIMEOUT_S: Final = 600.0  # a reasoning model may say nothing for minutes
_TRAILER_S: Final = 5.0  # after the reply's end: for the usage and the end of the stream
_NOTHING_THERE: Final = (404, 405)
_PLACEHOLDER_KEY: Final = "no-key"
_SECRETS_OF_A_CLIENT: Final = ("api_key", "auth_token", "aws_secret_key", "aws_session_token", "access_token")


class SDKInterface(LLMInterface):
    """A model behind a vendor's async SDK. Use `OpenAIInterface` or `AnthropicInterface`."""

    vendor: ClassVar[str]
    api: ClassVar[str]
    key_variable: ClassVar[str]
    base_url_variable: ClassVar[str]

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        client: Any = None,
        max_tokens: int = DEFAULT_MAX_OUTPUT_TOKENS,
        temperature: float | None = None,
    ) -> None:
        self._model = self._checked_model(model)
        self._max_tokens = checked_max_tokens(self, max_tokens)
        self._sampling = checked_sampling(self, {"temperature": temperature})
        self._callers_client = None if client is None else self._checked_client(client, api_key, base_url)
        self._base_url = None
        self._api_key = ""
        if client is None:
            self._base_url = self._checked_base_url(base_url or os.environ.get(self.base_url_variable) or None)
            self._api_key = self._checked_key(api_key or os.environ.get(self.key_variable) or "")
        self._clients: dict[asyncio.AbstractEventLoop, Any] = {}
        weakref.finalize(self, _close_elsewhere, self._clients).atexit = False
        self._sdk: Any = None

    @property
    def name(self) -> str:
        """Vendor and model, for example ``openai:gpt-5.4-mini``."""
        return f"{self.vendor}:{self._model}"

    @property
    def max_output_tokens(self) -> int:
        """Upper bound of output tokens of one call."""
        return self._max_tokens

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self._model!r}, max_tokens={self._max_tokens})"

    def get_model_info(self) -> dict[str, Any]:
        """Vendor, model and the settings that are no secret."""
        return {"provider": self.vendor, "model": self._model, "max_tokens": self._max_tokens, **self._sampling}

    @property
    def parameters(self) -> dict[str, Any]:
        """How the model is asked, for records: sampling, the longest reply, and the server where it is not the vendor's
        own, without the password that its address may have.
        """
        url = self._base_url or (str(getattr(self._callers_client, "base_url", "")) or None)
        server = {} if url is None else {"server": safe_url(url)}
        return {"max_tokens": self._max_tokens, **self._sampling, **server}

    def query(self, prompt: str, system_prompt: str | None = None) -> str:
        """Ask one question and wait for the answer, also from inside a running event loop.

        Nobody counts here: no run's limits apply. Failures that may pass are retried for up to 10 minutes.

        Raises:
            ProviderError: No attempt succeeded, or the error is not one that passes.
        """
        return ask(self, prompt, system_prompt)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Make one attempt; see `Provider.complete`. `timeout_s` covers connecting, waiting and the whole stream."""
        seconds = None if math.isinf(request.timeout_s) else request.timeout_s
        builder = ReplyBuilder(request)
        stage = _Stage()
        try:
            async with asyncio.timeout(seconds) as limit:
                await self._fetch(request, builder, stage)
        except Exception as exc:  # noqa: BLE001 - SDKs let through whatever a malformed answer causes
            failure = self._failure(exc, request, stage, timed_out=limit.expired())
        else:
            if builder.finish_reason is not None:
                return builder.reply()
            failure = self._error("the stream ended before the reply did", retryable=True)
        raise failure  # outside of the except block: an SDK's exception holds the request with the key

    async def aclose(self) -> None:
        """Close all connections; a caller's client stays open. The interface may be used again."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        _close_elsewhere(self._clients)
        if client is not None:
            await client.close()

    # --- what a vendor adds ---

    @abstractmethod
    def _new_client(self, *, local: bool, bound: Any) -> Any:
        """Make the SDK's async client: no retries of its own, `bound` as a response hook, no proxy where `local`."""

    @abstractmethod
    async def _open(self, client: Any, request: ModelRequest, timing: Any) -> Any:
        """Send the request; return the SDK's stream."""

    @abstractmethod
    def _take(self, event: Any, builder: ReplyBuilder) -> None:
        """Put what one event of the stream holds into the builder."""

    @abstractmethod
    def _load_sdk(self) -> Any:
        """Import the SDK. Takes a second or two, so it is run in a thread."""

    # --- one attempt ---

    async def _fetch(self, request: ModelRequest, builder: ReplyBuilder, stage: _Stage) -> None:
        if self._sdk is None:
            self._sdk = await asyncio.to_thread(self._load_sdk)
        stream = await self._open(self._client(), request, self._timing(request.timeout_s))
        stage.streaming = True
        try:
            if _is_html(stream.response):
                raise self._error(self._no_api)
            if self._callers_client is not None:
                bound_body(stream.response, self._max_wire_bytes)
            await self._read(stream, builder)
        finally:
            await stream.close()

    def _timing(self, timeout_s: float) -> Any:
        return self._sdk.Timeout(min(timeout_s, _SILENCE_TIMEOUT_S), connect=min(timeout_s, _CONNECT_TIMEOUT_S))

    async def _read(self, stream: Any, builder: ReplyBuilder) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as trailer:
                async for event in stream:
                    self._take(event, builder)
                    if builder.finish_reason is not None and trailer.when() is None:
                        trailer.reschedule(loop.time() + _TRAILER_S)
        except TimeoutError:
            if not trailer.expired():
                raise

    def _client(self) -> Any:
        if self._callers_client is not None:
            return self._callers_client
        loop = asyncio.get_running_loop()
        for closed in [known for known in self._clients if known.is_closed()]:
            del self._clients[closed]
        if loop not in self._clients:
            max_bytes = self._max_wire_bytes

            async def bound(response: Any) -> None:  # without `self`, which the client would keep alive
                bound_body(response, max_bytes)

            self._clients[loop] = self._new_client(local=_is_local(self._base_url), bound=bound)
        return self._clients[loop]

    @property
    def _max_wire_bytes(self) -> int:
        """Room for the largest reply, each of its bytes escaped, and for the frame around each token."""
        return MIB + 8 * 4 * MIB + KIB * self._max_tokens

    # --- errors ---

    def _failure(self, exc: Exception, request: ModelRequest, stage: _Stage, *, timed_out: bool) -> ProviderError:
        if timed_out:
            return self._error(f"no complete reply within {request.timeout_s:.1f} s")
        if isinstance(exc, ProviderError):
            return exc
        if isinstance(exc, ReplyTooLargeError):
            return self._error(str(exc), outage=False)
        response = getattr(exc, "response", None)
        if getattr(exc, "status_code", None) in _NOTHING_THERE and _is_html(response):
            return self._error(self._no_api, refused=True)
        from_server = from_server_error(exc, provider=self.name, secrets=self._secrets, streaming=stage.streaming)
        if from_server is not None:
            return from_server
        if self._is_connection_error(exc):
            unsent = _never_connected(exc)
            hint = f" at {safe_url(self._base_url)}; does the server run?" if unsent and self._base_url else ""
            return self._error(f"the connection failed: {self._describe(exc)}{hint}", retryable=True, refused=unsent)
        if stage.streaming:
            return self._error(f"the stream can't be read: {type(exc).__name__}", retryable=True)
        return self._error(f"the request can't be sent: {self._describe(exc)}", outage=False)

    def _is_connection_error(self, exc: Exception) -> bool:
        if self._sdk is None:
            return False
        import httpx2

        return isinstance(exc, (self._sdk.APIConnectionError, httpx2.HTTPError))

    def _error(
        self, text: str, *, retryable: bool = False, refused: bool = False, outage: bool | None = None
    ) -> ProviderError:
        return ProviderError(
            f"{self.name}: {text}", provider=self.name, retryable=retryable, refused=refused, outage=outage
        )

    @property
    def _no_api(self) -> str:
        where = f" at {safe_url(self._base_url)}" if self._base_url else ""
        return f"this is no {self.api}-compatible API{where} (it answered text/html)"

    def _describe(self, exc: Exception) -> str:
        innermost: BaseException = exc
        while innermost.__cause__ is not None:
            innermost = innermost.__cause__
        return f"{type(innermost).__name__}: {safe_text(innermost, secrets=self._secrets)}"

    @property
    def _secrets(self) -> tuple[str, ...]:
        password = urlsplit(self._base_url).password if self._base_url else None
        callers = (getattr(self._callers_client, name, None) for name in _SECRETS_OF_A_CLIENT)
        return tuple(
            secret
            for secret in (self._api_key, password, *callers)
            if isinstance(secret, str) and secret not in ("", _PLACEHOLDER_KEY)
        )

    # --- checks of the settings ---

    def _checked_model(self, model: object) -> str:
        if not isinstance(model, str) or not model.strip():
            raise ConfigError(f"{type(self).__name__}.model: {model!r} is not the name of a model")
        return model.strip()

    def _checked_client(self, client: Any, api_key: object, base_url: object) -> Any:
        where = f"{type(self).__name__}.client"
        if api_key is not None or base_url is not None:
            raise ConfigError(f"{where}: api_key and base_url belong to the client; pass either them or client")
        if not inspect.iscoroutinefunction(getattr(client, "close", None)) or not hasattr(client, "with_options"):
            raise ConfigError(
                f"{where}: a {type(client).__name__} is not an async client of the {self.vendor} SDK; "
                "pass one whose class name begins with Async"
            )
        return client.with_options(max_retries=0)

    def _checked_base_url(self, url: object) -> str | None:
        if url is None:
            return None
        if isinstance(url, str):
            parts = urlsplit(url)
            if parts.scheme in ("http", "https") and parts.hostname:
                return url
        raise ConfigError(f"{type(self).__name__}.base_url: not an address that begins with http:// or https://")

    def _checked_key(self, key: str) -> str:
        key = key.strip()
        if not key and _is_local(self._base_url):
            return _PLACEHOLDER_KEY
        if not key:
            raise ConfigError(
                f"{type(self).__name__}: no key. Set the environment variable {self.key_variable}, or pass api_key= "
                "(any text, if the server at base_url wants none)"
            )
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(f"{type(self).__name__}: the key holds characters that no key has (is it cut or quoted?)")
        return key


class _Stage:
    """How far an attempt has come."""

    streaming = False


_closing: set[asyncio.Task[None]] = set()  # the loops hold their tasks weakly


def _close_elsewhere(clients: dict[asyncio.AbstractEventLoop, Any]) -> None:
    """Close each client on its own loop, if that still runs; a closed loop took its connections along."""
    while clients:
        loop, client = clients.popitem()
        if loop.is_running():
            with contextlib.suppress(RuntimeError):  # closed this very moment
                loop.call_soon_threadsafe(_start_closing, client)


def _start_closing(client: Any) -> None:
    task = asyncio.ensure_future(client.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def _never_connected(exc: BaseException) -> bool:
    """Whether no byte of the request can have been sent: there was no connection, or no encryption on it."""
    import httpx2

    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)):
            return True
        cause = cause.__cause__
    return False


def _is_html(response: Any) -> bool:
    return str(getattr(response, "headers", {}).get("content-type", "")).startswith("text/html")


def _is_local(base_url: str | None) -> bool:
    host = (urlsplit(base_url).hostname if base_url else None) or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
