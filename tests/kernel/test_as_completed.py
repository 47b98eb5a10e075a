"""`llm_query_as_completed`: the answers of a batch, as they come."""

from __future__ import annotations

import asyncio

import pytest

from sandbox.messages import Asked, SubCallFailure
from tests.kernel.local_box import LocalBox

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_answers_come_as_they_are_ready(box: LocalBox) -> None:
    """The last prompt is answered first: the others wait until the cell has said that it has that answer."""
    told = asyncio.Event()

    async def first_come(asked: Asked) -> str | SubCallFailure:
        if asked.prompt == "told":
            told.set()
        elif asked.prompt != "third":
            await told.wait()
        return SubCallFailure("ProviderError", "no answer") if asked.prompt == "second" else f"<{asked.prompt}>"

    box.handler = first_come
    code = (
        "arriving = llm_query_as_completed(['first', 'second', 'third', 'x' * 200_000], data=['d', None, None, None])\n"
        "seen = [next(arriving), next(arriving)]\n"
        "llm_query('told')\n"
        "seen += arriving\n"
        "print([(index, type(answer).__name__) for index, answer in sorted(seen)])\n"
        "print(sorted(index for index, _ in seen[:2]))"
    )
    assert await box.printed(code) == (
        "[(0, 'str'), (1, 'ProviderError'), (2, 'str'), (3, 'PromptTooLarge')]\n[2, 3]\n"
    )


async def test_what_is_asked_is_checked_before_anything_is_sent(box: LocalBox) -> None:
    said = await box.execute("llm_query_as_completed(['x', 5])")
    assert said.error is not None
    assert said.error.message == "llm_query_as_completed: prompts[1] must be str, not int"
    assert box.prompts == []
