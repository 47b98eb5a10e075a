"""The usage patterns of the method's guide, its import line alone changed, over the vendors' real SDKs.

The wire is `llmock`, a server on loopback that plays both vendors; the box is real.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator import RLM, AnthropicInterface, OpenAIInterface
from orchestrator.prompts import RLM_NO_SUBCALLS_PROMPT, RLM_SYSTEM_PROMPT, RLM_SYSTEM_PROMPT_CONSERVATIVE
from tests.runs import code

if TYPE_CHECKING:
    from llmock.pytest_plugin import LLMock

DOCUMENTS = ["The first page names Alice.", "The second page names Bob.", "The third names nobody."]
QUERY = "Who is named?"

FINDS = code(
    "answers = llm_query_batched(['Who is named? ' + page for page in context])\n"
    "names = sorted(answer for answer in answers if answer != 'nobody')"
)


@pytest.fixture(autouse=True)
def vendors(llmock: LLMock, monkeypatch: pytest.MonkeyPatch) -> LLMock:
    """As a user's environment: keys and addresses in variables, nothing in the code."""
    for name in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-test-0123456789abcdef")
        monkeypatch.setenv(f"{name}_BASE_URL", llmock.base_url(name.lower()))
    return llmock


def test_a_root_and_a_smaller_sub_model(vendors: LLMock, capsys: pytest.CaptureFixture[str]) -> None:
    vendors.reply(FINDS)
    for name in ("Alice", "Alice", "nobody"):
        vendors.reply(name)
    vendors.reply("FINAL_VAR(names)")

    context = DOCUMENTS
    query = QUERY
    rlm = RLM(root_llm=OpenAIInterface(model="gpt-6.1-terra"), sub_llm=OpenAIInterface(model="gpt-5.4-mini"))
    answer, trajectory = rlm.query(query, context, verbose=True)

    assert answer == '["Alice", "Alice"]'
    assert [request.body["model"] for request in vendors.requests] == [
        "gpt-6.1-terra",
        *["gpt-5.4-mini"] * 3,
        "gpt-6.1-terra",
    ]
    assert len(trajectory.sub_calls) == 3
    assert [len(turn.cells) for turn in trajectory] == [1, 0]
    assert RLM_SYSTEM_PROMPT in str(vendors.requests[0].body["messages"][0]["content"])
    assert not trajectory.usage.estimated_tokens
    assert trajectory.usage.total_tokens > 0
    assert "turn 1" in capsys.readouterr().err


def test_no_subcalls_needs_no_sub_model(vendors: LLMock) -> None:
    vendors.reply(code("names = [w for page in context for w in ('Alice', 'Bob') if w in page]"))
    vendors.reply("FINAL_VAR(names)")
    rlm = RLM(root_llm=OpenAIInterface(model="gpt-6.1-terra"), prompt_mode="no_subcalls")
    answer, trajectory = rlm.query(QUERY, DOCUMENTS)
    assert answer == '["Alice", "Bob"]'
    assert trajectory.sub_calls == []
    assert RLM_NO_SUBCALLS_PROMPT in str(vendors.requests[0].body["messages"][0]["content"])


def test_conservative(vendors: LLMock) -> None:
    vendors.reply(code("name = llm_query('Who?', data='\\n'.join(context))"))
    vendors.reply("Alice and Bob")
    vendors.reply("FINAL_VAR(name)")
    rlm = RLM(
        root_llm=OpenAIInterface(model="gpt-6.1-terra"),
        sub_llm=OpenAIInterface(model="gpt-5.4-mini"),
        prompt_mode="conservative",
    )
    answer, trajectory = rlm.query(QUERY, DOCUMENTS)
    assert answer == "Alice and Bob"
    assert len(trajectory.sub_calls) == 1
    assert RLM_SYSTEM_PROMPT_CONSERVATIVE in str(vendors.requests[0].body["messages"][0]["content"])


def test_anthropic_as_root_and_sub(vendors: LLMock) -> None:
    vendors.reply(code("name = llm_query('Who is named first?')"))
    vendors.reply("Alice")
    vendors.reply("FINAL(Alice)")
    rlm = RLM(
        root_llm=AnthropicInterface(model="claude-opus-5-5"), sub_llm=AnthropicInterface(model="claude-haiku-5-5")
    )
    answer, trajectory = rlm.query(QUERY, DOCUMENTS)
    assert answer == "Alice"
    assert [call.reply for call in trajectory.sub_calls] == ["Alice"]
    assert [request.body["model"] for request in vendors.requests] == [
        "claude-opus-5-5",
        "claude-haiku-5-5",
        "claude-opus-5-5",
    ]
    (system,) = vendors.requests[0].body["system"]
    assert RLM_SYSTEM_PROMPT in system["text"]


async def test_in_a_notebook_whose_loop_is_running(vendors: LLMock) -> None:
    vendors.reply("FINAL(one)").reply("FINAL(two)")
    rlm = RLM(root_llm=OpenAIInterface(model="gpt-6.1-terra"))
    assert [rlm.query(QUERY, DOCUMENTS)[0] for _ in range(2)] == ["one", "two"]


def test_one_model_asked_directly(vendors: LLMock) -> None:
    vendors.reply("four")
    llm = OpenAIInterface(model="gpt-5.4-mini")
    assert llm.query("What is two and two?", "Be brief.") == "four"
    assert llm.get_model_info()["model"] == "gpt-5.4-mini"


def test_a_server_that_asks_for_a_pause_gets_one_and_each_attempt_is_counted(vendors: LLMock) -> None:
    vendors.rate_limit(times=2, retry_after=0.2).reply("FINAL(there)")
    answer, trajectory = RLM(root_llm=OpenAIInterface(model="gpt-6.1-terra")).query(QUERY, DOCUMENTS)
    assert (answer, trajectory.usage.root_calls, trajectory.usage.turns) == ("there", 3, 1)
    assert trajectory.usage.estimated_tokens == 0, "a refused attempt bills nothing"
