"""The models that the options of `airlock ask` name."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from orchestrator.cli.dry_run import model_for_dry_run
from orchestrator.cli.messages import UsageError, by_options
from orchestrator.errors import ConfigError
from orchestrator.models import check_name
from orchestrator.providers.base import Provider
from orchestrator.providers.prices import Price, parse_price
from orchestrator.providers.spec import provider_from_spec

_ADDRESS: Final = re.compile(r"@(?=https?://)")
"""Between a model and the address of its server; a model's name may hold an @ of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedModels:
    """What was named.

    Attributes:
        root: The root model.
        sub: The sub-model; None: the same.
        sub_llms: Further sub-models, by name.
        fallback: Who steps in.
    """

    root: Provider
    sub: Provider | None = None
    sub_llms: dict[str, Provider] = field(default_factory=dict)
    fallback: tuple[Provider, ...] = ()

    def asked(self, prompt_mode: str) -> Iterator[Provider]:
        """All that may be asked in this mode."""
        yield self.root
        if prompt_mode != "no_subcalls":
            yield from filter(None, (self.sub, *self.sub_llms.values()))
        yield from self.fallback


def models_from(options: argparse.Namespace) -> NamedModels:
    """Make them.

    Raises:
        UsageError: There is none, or one whose server has to be named.
        ConfigError: A model's own settings are wrong; the text names the option.
    """
    spec = options.model or os.environ.get("AIRLOCK_MODEL")
    if not spec:
        raise UsageError("no model is named. Give --model openai:NAME (or anthropic:NAME), or set AIRLOCK_MODEL")
    named = "--model" if options.model else "AIRLOCK_MODEL"
    make: Callable[..., Provider] = model_for_dry_run if options.dry_run else provider_from_spec
    root = _model(make, spec, options.base_url, named, "--base-url")
    sub = None
    if options.sub_model is not None or options.sub_base_url is not None:
        sub_spec = options.sub_model or spec
        named = "--sub-model" if options.sub_model else named
        sub = _model(make, sub_spec, _sub_base_url(options, spec, sub_spec), named, "--sub-base-url")
    return NamedModels(
        root=root,
        sub=sub,
        sub_llms={name: _sub_llm(make, options, spec, text) for name, text in _by_name(options.sub_models or [])},
        fallback=tuple(_stand_in(make, options, text) for text in options.fallback or []),
    )


def _by_name(given: list[str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for text in given:
        name, equals, spec = text.partition("=")
        if not equals or not spec:
            raise UsageError(f"--sub-models {text}: write NAME=openai:MODEL, for example fast=openai:gpt-5.4-mini")
        if name in seen:
            raise UsageError(f"--sub-models: the name {name!r} is given twice")
        try:
            check_name(name)
        except ConfigError as error:
            raise UsageError(str(error).replace("sub_llms", "--sub-models", 1)) from None
        seen.add(name)
        yield name, spec


def _sub_llm(make: Callable[..., Provider], options: argparse.Namespace, root_spec: str, text: str) -> Provider:
    spec, url = _with_address("--sub-models", text)
    return _model(make, spec, url or _sub_base_url(options, root_spec, spec), "--sub-models", "--sub-models SPEC@URL")


def _stand_in(make: Callable[..., Provider], options: argparse.Namespace, text: str) -> Provider:
    """As for sub-models no address is a default where somebody has named a server of their own."""
    spec, url = _with_address("--fallback", text)
    own_server = options.base_url or options.sub_base_url
    if own_server and not url and spec.partition(":")[0] != "scripted":
        raise UsageError(f"--fallback {spec}: --base-url is another model's; name this one's: {spec}@https://...")
    return _model(make, spec, url, "--fallback", "--fallback SPEC@URL")


def _with_address(option: str, text: str) -> tuple[str, str | None]:
    spec, *url = _ADDRESS.split(text, maxsplit=1)
    if url and spec.partition(":")[0] == "scripted":
        raise UsageError(f"{option} {text}: a script has no address")
    return spec, url[0] if url else None


def check_allowed(options: argparse.Namespace, models: NamedModels) -> None:
    """A model that is not allowed would be refused at its first call, when the box is up already.

    Raises:
        UsageError: One is not.
    """
    for model in models.asked(options.prompt_mode):
        if options.allow_model and model.name not in options.allow_model:
            raise UsageError(f"--allow-model: the model {model.name} is not among them, so nothing could be asked")


def _model(make: Callable[..., Provider], spec: str, base_url: str | None, option: str, url_option: str) -> Provider:
    if _ADDRESS.search(spec):  # as a name it would go to the vendor, and the text with it
        raise UsageError(f"{option} {spec}: the address of its server is given by {url_option}")
    try:
        return make(spec, base_url=base_url)
    except ConfigError as error:
        raise ConfigError(by_options(str(error), model=f"{option} {spec}", url=url_option)) from error


def _sub_base_url(options: argparse.Namespace, spec: str, sub_spec: str) -> str | None:
    """Whoever names a server of their own means that no text goes to a vendor: no address is left to a default then."""
    own: str | None = options.sub_base_url
    given: str | None = options.base_url
    root_vendor, sub_vendor = spec.partition(":")[0], sub_spec.partition(":")[0]
    if own or not given or sub_vendor == "scripted":
        return own
    if root_vendor not in (sub_vendor, "scripted"):
        raise UsageError(f"--base-url is the {root_vendor} model's; name the {sub_vendor} model's: --sub-base-url")
    return given


def prices_from(options: argparse.Namespace, models: NamedModels) -> dict[str, Price]:
    """The prices that the options name, by the models' names.

    Raises:
        ConfigError: One is no price, or there is no model of its own that it could be of; names the option.
    """
    found: dict[str, Price] = {}
    for option, text, name in _priced(options, models):
        try:
            price = parse_price(text)
        except ConfigError as error:
            raise ConfigError(f"{option}: {error}") from None
        if found.get(name, price) != price:
            raise ConfigError(f"{option}: both models are named {name}, so they have one price; give --price alone")
        found[name] = price
    return found


def _priced(options: argparse.Namespace, models: NamedModels) -> Iterator[tuple[str, str, str]]:
    """Option, price and the model's name."""
    if options.price is not None:
        yield "--price", options.price, models.root.name
    if options.sub_price is not None:
        if models.sub is None:
            raise ConfigError(f"--sub-price: the sub-questions go to {models.root.name}, whose price is --price")
        yield "--sub-price", options.sub_price, models.sub.name
    known = [model.name for model in models.asked("standard")]
    for text in options.price_of or []:
        name, _, price = text.rpartition("=")
        if name not in known:
            raise ConfigError(f"--price-of {text}: write MODEL=IN/OUT, of one of {', '.join(dict.fromkeys(known))}")
        yield f"--price-of {name}", price, name
