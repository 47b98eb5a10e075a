"""Models of an `RLM` beside its root and sub-model: sub-models by name, and who steps in for a model that is out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from orchestrator.errors import ConfigError
from orchestrator.providers.base import LLMInterface, Provider
from orchestrator.providers.custom import as_provider
from orchestrator.providers.parameters import parameters_of

MAX_MODELS: Final = 16
"""Of each kind."""
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)


def checked_sub_llms(sub_llms: Mapping[str, LLMInterface | Provider] | None) -> dict[str, Provider]:
    """The sub-models that cells ask by name.

    Raises:
        ConfigError: A name is none, or a model.
    """
    if sub_llms is None:
        return {}
    if not isinstance(sub_llms, Mapping):
        raise ConfigError(f'sub_llms: a {type(sub_llms).__name__}; write sub_llms={{"fast": model}}')
    if len(sub_llms) > MAX_MODELS:
        raise ConfigError(f"sub_llms: {len(sub_llms)} models; at most {MAX_MODELS} are allowed")
    for name in sub_llms:
        check_name(name)
    return {name: _model(f"sub_llms[{name!r}]", llm) for name, llm in sub_llms.items()}


def check_name(name: object) -> None:
    """A name by which a cell may ask for a model.

    Raises:
        ConfigError: It is none.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"sub_llms: {name!r:.80} is no name of a model: a letter, then up to 63 letters, digits, '_', '.' or '-'"
        )


def checked_fallback(fallback: Sequence[LLMInterface | Provider]) -> tuple[Provider, ...]:
    """The models that step in, in this order.

    Raises:
        ConfigError: It is no list of models.
    """
    if not isinstance(fallback, list | tuple):
        raise ConfigError(f"fallback: a {type(fallback).__name__}; write fallback=[model]")
    if len(fallback) > MAX_MODELS:
        raise ConfigError(f"fallback: {len(fallback)} models; at most {MAX_MODELS} are allowed")
    return tuple(_model(f"fallback[{index}]", llm) for index, llm in enumerate(fallback))


def _model(where: str, llm: object) -> Provider:
    try:
        return as_provider(llm)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def model_facts(
    root: Provider | None, sub: Provider | None, named: Mapping[str, Provider], fallback: Iterable[Provider]
) -> list[dict[str, Any]]:
    """What a record says of a run's models: what each is for, and how it is asked.

    Raises:
        ConfigError: Parameters of one can't be recorded.
    """
    listed: list[tuple[str, str | None, Provider | None]] = [("root", None, root), ("sub", None, sub)]
    listed += [("sub", name, model) for name, model in named.items()]
    listed += [("fallback", None, model) for model in fallback]
    return [
        {"role": role, "name": name, "model": model.name, "parameters": parameters_of(model)}
        for role, name, model in listed
        if model is not None
    ]


def models_note(names: Iterable[str]) -> str:
    """What the root is told of them, behind its system prompt."""
    known = ", ".join(f'"{name}"' for name in names)
    if not known:
        return ""
    return (
        "\nModels for sub-questions\n"
        f"- `llm_query(prompt, model=name)` asks one of these further models: {known}. In `llm_query_batched`, "
        "`model` is a name for all prompts, or a list with a name (or None) for each. Without it the default model is "
        "asked. Another name raises `UnknownModel`, a `SubCallError`.\n"
    )
