"""OpenAI's chat completions, and every server that speaks them (Azure, Ollama, vLLM, llama-server, ...)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from orchestrator.errors import ProviderError
from orchestrator.providers.base import DEFAULT_MAX_OUTPUT_TOKENS
from orchestrator.providers.sampling import checked_sampling
from orchestrator.providers.sdk import SDKInterface
from orchestrator.providers.streaming import ReplyBuilder, believed_usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.providers.base import FinishReason, Message, ModelRequest

_FINISH: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length", "content_filter": "refusal"}
_LENGTH_FIELD: Final = "max_completion_tokens"
_OLD_LENGTH_FIELD: Final = "max_tokens"
_OWN_HOST: Final = "api.openai.com"
_OWN_URL: Final = f"https://{_OWN_HOST}"


class OpenAIInterface(SDKInterface):
    """A model behind OpenAI's chat completions.

    The SDK is loaded at the first call. Each call is one attempt, streamed; the SDK's own retries are off. One
    exception: a server that answers 400 to ``max_completion_tokens`` is asked again at once, and from then on,
    with the older ``max_tokens``; that first answer costs nothing. OpenAI caches by itself what begins as an earlier
    request did; its own servers are told which requests of a root's conversation belong together.

    Args:
        model: Name of the model, as the server knows it.
        api_key: Key; else the environment variable OPENAI_API_KEY. Not needed for a server on this machine.
        base_url: Address of a compatible server, with its ``/v1``; else OPENAI_BASE_URL; else OpenAI's own. A
            server on this machine is reached without a proxy.
        client: An async client of the OpenAI SDK to use instead, for example ``AsyncAzureOpenAI(...)``. Use it
            from one event loop only; closing it stays with the caller.
        max_tokens: Most output tokens of one reply, hidden reasoning included, 1 to 10,000,000.
        temperature: 0 to 2, or None to leave it to the server. Not every model takes one.
        top_p: Above 0 to 1, or None; likewise.
        seed: An integer for a server that can repeat a reply, or None. Few promise to.
        reasoning_effort: A word that the model knows, such as ``low``, or None.

    Raises:
        ConfigError: A setting is wrong or the key is missing; the text names the variable.
    """

    vendor: ClassVar[str] = "openai"
    api: ClassVar[str] = "OpenAI"
    key_variable: ClassVar[str] = "OPENAI_API_KEY"
    base_url_variable: ClassVar[str] = "OPENAI_BASE_URL"

    _length_field = _LENGTH_FIELD

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        client: Any = None,
        max_tokens: int = DEFAULT_MAX_OUTPUT_TOKENS,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        reasoning_effort: str | None = None,
    ) -> None:
        super().__init__(
            model,
            api_key=api_key,
            base_url=base_url,
            client=client,
            max_tokens=max_tokens,
            temperature=temperature,
        )
        self._sampling |= checked_sampling(self, {"top_p": top_p, "seed": seed, "reasoning_effort": reasoning_effort})

    def _load_sdk(self) -> Any:
        import openai

        return openai

    def _new_client(self, *, local: bool, bound: Any) -> Any:
        http = self._sdk.DefaultAsyncHttpx2Client(
            event_hooks={"response": [bound]}, trust_env=not local, follow_redirects=False
        )
        return self._sdk.AsyncOpenAI(api_key=self._api_key, base_url=self._base_url, max_retries=0, http_client=http)

    async def _open(self, client: Any, request: ModelRequest, timing: Any) -> Any:
        length_field = self._length_field
        try:
            return await self._create(client, request, timing, length_field)
        except (self._sdk.BadRequestError, self._sdk.UnprocessableEntityError) as exc:
            if length_field == _OLD_LENGTH_FIELD or _LENGTH_FIELD not in str(exc):
                raise
        self._length_field = _OLD_LENGTH_FIELD
        raise ProviderError(  # a second sending is an attempt of its own
            f"{self.name}: the server wants {_OLD_LENGTH_FIELD}",
            provider=self.name,
            status=400,
            retryable=True,
            retry_after_s=0.0,
            refused=True,
        )

    async def _create(self, client: Any, request: ModelRequest, timing: Any, length_field: str) -> Any:
        options: dict[str, Any] = {length_field: self._max_tokens, **self._sampling}
        if request.conversation and self._is_openais_own:
            options["prompt_cache_key"] = _cache_key(request.messages)
        return await client.chat.completions.create(
            model=self._model,
            messages=[{"role": message.role, "content": message.content} for message in request.messages],
            stream=True,
            stream_options={"include_usage": True},
            timeout=timing,
            **options,
        )

    @property
    def _is_openais_own(self) -> bool:
        """Other servers may refuse what they do not know."""
        return self._callers_client is None and urlsplit(self._base_url or _OWN_URL).hostname == _OWN_HOST

    def _take(self, event: Any, builder: ReplyBuilder) -> None:
        if event.usage is not None:
            details = event.usage.prompt_tokens_details
            builder.usage = believed_usage(
                input_tokens=event.usage.prompt_tokens,
                cached=getattr(details, "cached_tokens", None),
                written=getattr(details, "cache_write_tokens", None),
                output_tokens=event.usage.completion_tokens,
            )
        if not event.choices:
            return
        choice = event.choices[0]
        if choice.delta is not None:
            builder.add(choice.delta.content)
            builder.add(choice.delta.refusal)
            builder.refused = builder.refused or bool(choice.delta.refusal)
        if choice.finish_reason is not None:
            builder.finish_reason = _FINISH.get(choice.finish_reason, "other")


def _cache_key(messages: Sequence[Message]) -> str:
    """The same for all requests of a conversation, which share the system prompt and the question."""
    opening = "\0".join(message.content for message in messages[:2])
    return hashlib.sha256(opening.encode("utf-8", "surrogatepass")).hexdigest()[:32]
