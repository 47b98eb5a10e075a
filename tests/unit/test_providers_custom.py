"""A user's own blocking model, and whatever else is passed as one."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from orchestrator.errors import ConfigError, ProviderError
from orchestrator.providers.base import LLMInterface, Message, ModelRequest, Provider, Role, TokenUsage
from orchestrator.providers.custom import as_provider, flatten
from orchestrator.providers.parameters import parameters_of
from orchestrator.providers.scripted import ScriptedProvider


def request(*turns: tuple[Role, str], timeout_s: float = 20, max_reply_bytes: int = 1000) -> ModelRequest:
    messages = tuple(Message(role=role, content=text) for role, text in turns or (("user", "question"),))
    return ModelRequest(messages=messages, timeout_s=timeout_s, max_reply_bytes=max_reply_bytes)


class Own(LLMInterface):
    """A user's model in the two methods it takes."""

    def __init__(self, answer: Any = "answer") -> None:
        self.answer = answer
        self.asked: list[tuple[str, str | None]] = []
        self.threads: list[threading.Thread] = []

    def query(self, prompt: str, system_prompt: str | None = None) -> str:
        self.asked.append((prompt, system_prompt))
        self.threads.append(threading.current_thread())
        return self.answer(prompt) if callable(self.answer) else self.answer  # type: ignore[no-any-return]

    def get_model_info(self) -> dict[str, Any]:
        return {"provider": "mine", "model": "tiny"}


async def failure(answer: Any, **how: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await as_provider(Own(answer)).complete(request(**how))
    assert caught.value.provider == "mine:tiny"
    assert not caught.value.retryable
    return caught.value


def test_a_provider_is_passed_through() -> None:
    llm = ScriptedProvider(["x"])
    assert as_provider(llm) is llm


async def test_query_is_called_in_a_thread_and_its_usage_estimated() -> None:
    own = Own()
    llm = as_provider(own)
    assert isinstance(llm, Provider)
    assert llm.name == "mine:tiny"
    reply = await llm.complete(request(("system", "Be brief."), ("user", "1234567")))
    assert reply.text == "answer"
    assert reply.usage == TokenUsage(input_tokens=4, output_tokens=2, estimated=True)
    assert own.asked == [("1234567", "Be brief.")]
    assert own.threads[0] is not threading.current_thread()
    assert own.threads[0].daemon


def test_a_conversation_gets_headings() -> None:
    conversation = request(("system", "S"), ("user", "one"), ("assistant", "two"), ("user", "three")).messages
    assert flatten(conversation) == (
        "### User\n\none\n\n### Assistant\n\ntwo\n\n### User\n\nthree\n\n### Assistant\n\n",
        "S",
    )
    assert flatten(request().messages) == ("question", None)


async def test_calls_run_side_by_side() -> None:
    together = threading.Barrier(8, timeout=20)

    def answer(prompt: str) -> str:
        together.wait()
        return prompt

    llm = as_provider(Own(answer))
    replies = await asyncio.gather(*(llm.complete(request(("user", str(i)))) for i in range(8)))
    assert [reply.text for reply in replies] == [str(i) for i in range(8)]


async def test_context_variables_are_seen() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("seen")
    assert (await as_provider(Own(lambda _: variable.get())).complete(request())).text == "seen"


@pytest.mark.parametrize("exc", [ValueError("bad \x1b[31m" + "x" * 1000), SystemExit(1), StopIteration("stop")])
async def test_any_exception_is_a_provider_error_with_bounded_text(exc: BaseException) -> None:
    def fail(_: str) -> str:
        raise exc

    error = await failure(fail)
    assert type(exc).__name__ in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 400
    assert error.__cause__ is None


async def test_a_call_that_hangs_ends_with_the_time_limit() -> None:
    release = threading.Event()
    error = await failure(lambda _: str(release.wait(20)), timeout_s=0.1)
    assert "did not return within 0.1 s" in str(error)
    release.set()


async def test_no_thread_is_started_when_too_many_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.providers.custom._MOST_THREADS", 2)
    release = threading.Event()
    own = Own(lambda _: str(release.wait(20)))
    llm = as_provider(own)
    for expected in ("did not return", "did not return", "2 calls of query"):
        with pytest.raises(ProviderError, match=expected):
            await llm.complete(request(timeout_s=0.1))
    release.set()
    for thread in own.threads:
        thread.join()
    assert (await llm.complete(request())).text == "True"


@pytest.mark.parametrize("answer", [None, 42, b"bytes", ["list"]])
async def test_a_reply_that_is_no_str_is_named(answer: object) -> None:
    assert f"returned a value of type {type(answer).__name__} instead of a str" in str(await failure(answer))


async def test_an_async_query_says_what_to_do() -> None:
    async def answer() -> str:
        return "x"

    assert "query() is async" in str(await failure(lambda _: answer()))


async def test_a_reply_that_is_too_long_is_an_error() -> None:
    assert "longer than 10 bytes" in str(await failure("é" * 6, max_reply_bytes=10))


class Nameless(Own):
    def __init__(self, info: Any) -> None:
        super().__init__()
        self.info = info

    def get_model_info(self) -> dict[str, Any]:
        if isinstance(self.info, Exception):
            raise self.info
        return self.info  # type: ignore[no-any-return]


def test_the_name_is_made_safe() -> None:
    assert as_provider(Nameless({})).name == "custom:Nameless"
    name = as_provider(Nameless({"provider": "a\nb", "model": "x" * 1000})).name
    assert name.isprintable()
    assert len(name) <= 100


@pytest.mark.parametrize(
    ("llm", "text"),
    [
        ("gpt-5.5", "a str is not a model"),
        (None, "a NoneType is not a model"),
        (object(), "extends orchestrator.LLMInterface"),
        (Own, r"not the class Own: write Own\(\.\.\.\)"),
        (Nameless(None), "returned a NoneType, not a dict"),
        (Nameless(ValueError("x")), "get_model_info.* failed: ValueError: x"),
    ],
)
def test_what_is_no_model_is_refused(llm: object, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        as_provider(llm)


def test_a_call_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    program = textwrap.dedent("""
        import asyncio, threading
        from orchestrator.providers.base import LLMInterface, Message, ModelRequest
        from orchestrator.providers.custom import as_provider
        class Hangs(LLMInterface):
            def query(self, prompt, system_prompt=None): threading.Event().wait()
            def get_model_info(self): return {}
        request = ModelRequest(messages=(Message(role="user", content="q"),), timeout_s=0.1, max_reply_bytes=9)
        try:
            asyncio.run(as_provider(Hangs()).complete(request))
        except Exception as exc:
            print(exc)
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert "did not return" in done.stdout
    assert done.stderr == ""


def test_what_a_class_says_of_its_model_is_recorded_without_what_may_be_a_key() -> None:
    class Talks(Own):
        def get_model_info(self) -> dict[str, Any]:
            said = {"api_key": "hunter2", "Authorization": "Bearer hunter2", "access_token": "hunter2"}
            return said | {
                "url": "http://me:hunter2@h:80/v1?key=hunter2",
                "bad": "http://me:hunter2@[/v1",
                "max_tokens": 5,
            }

    parameters = parameters_of(as_provider(Talks()))
    assert parameters == {"url": "http://h:80/v1", "bad": "(no address)", "max_tokens": 5}
