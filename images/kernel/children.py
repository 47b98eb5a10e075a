"""`rlm_query` and `rlm_query_batched`: how a cell starts child runs."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from asking import Answer, LimitExceeded, all_or_raise, check_text, pick


class ChildRuns:
    """The functions; `Scaffold` gives them the host."""

    _host: Any
    _rlm_query: str

    def rlm_query(self, question: Any = None, context: Any = None, **aliases: Any) -> str:
        """Let a child run answer a question about a context: a root model with a REPL of its own, as you are one.

        Args:
            question: The question. The child knows nothing else but its context.
            context: What it finds in its `context`: a str, a list of str or a dict of JSON values. None: an empty str.

        Raises:
            LimitExceeded: No child run may start at this depth, or a limit is reached.
            ChildRunFailed: It ended without an answer.
        """
        question = pick("rlm_query", "question", question, aliases, ("query", "prompt"))
        (result,) = self._children("rlm_query", [question], [context])
        if isinstance(result, Exception):
            raise result
        return Answer(result)

    def rlm_query_batched(
        self, questions: Any = None, contexts: Any = None, *, return_exceptions: bool = False, **aliases: Any
    ) -> list[Any]:
        """Start several child runs at once; returns their answers in the order of the questions.

        Args:
            questions: A list of questions.
            contexts: None, or a list with a context (or None) for each question.
            return_exceptions: Put an exception in the place of a failed answer instead of raising.

        Raises:
            BatchError: At least one failed; its `results` holds the answers that came.
        """
        questions = pick("rlm_query_batched", "questions", questions, aliases, ("queries", "prompts"))
        if isinstance(questions, str | Mapping) or not isinstance(questions, Iterable):
            raise TypeError(f"rlm_query_batched: questions must be a list of str, not {type(questions).__name__}")
        questions = list(questions)
        if isinstance(contexts, str | Mapping) or not isinstance(contexts, Iterable | None):
            raise TypeError(f"rlm_query_batched: contexts must be a list, not {type(contexts).__name__}")
        contexts = [None] * len(questions) if contexts is None else list(contexts)
        if len(contexts) != len(questions):
            raise ValueError(f"rlm_query_batched: contexts must be a list as long as questions ({len(questions)})")
        return all_or_raise(self._children("rlm_query_batched", questions, contexts), return_exceptions)

    def _children(self, name: str, questions: list[Any], contexts: list[Any]) -> list[Any]:
        for question in questions:
            check_text(f"{name}: question", question)
        stored = [None if context is None else context_bytes(name, context) for context in contexts]
        results: list[Any]
        if self._rlm_query == "child":
            results = self._host.child_runs(questions, stored)
            return results
        if self._rlm_query == "llm_query":
            texts = [None if pair is None else pair[1].decode("utf-8", "replace") for pair in stored]
            results = self._host.query("batch", questions, texts)
            return results
        raise LimitExceeded(f"{name}: max_depth allows no child run here; use llm_query")


def context_bytes(name: str, context: Any) -> tuple[str, bytes]:
    """A context as a store has it, and its form. What it can't hold fails here, and not in the child.

    Raises:
        TypeError, ValueError: It is no str, list of str or dict of JSON values.
    """
    if isinstance(context, str):
        return "text", context.encode("utf-8", "surrogatepass")
    if isinstance(context, list) and all(isinstance(item, str) for item in context):
        return "json", json.dumps(context).encode()
    if isinstance(context, dict) and all(isinstance(key, str) for key in context):
        return "json", json.dumps(context, allow_nan=False).encode()
    raise TypeError(f"{name}: a context is a str, a list of str or a dict with str keys, not {type(context).__name__}")
