"""``tools=``: functions of the caller's that cells may call. They run on the host, outside of the box.

A tool is a hole in the box that its owner cuts on purpose. The code that calls it may do what a document says, so its
arguments are chosen by whoever wrote the document, and what it returns lies in the box with them. Therefore each tool
opts in by name, ``takes_hostile_arguments=True``: whoever writes that says that the function is safe with *any* values
of its types, a path such as ``../../etc/shadow``, another customer's number or a URL inside the company included. A
bare function in the list is refused, since it was most likely written for arguments of one's own.

What the host holds, whatever the box sends: only a tool of the list is called; its arguments are one JSON object within
``max_argument_bytes``, no name in it twice, with at most `MAX_ARGUMENT_VALUES` values, nested at most
`MAX_ARGUMENT_DEPTH` deep, of the signature's types as pydantic checks them strictly (no bool for an int, no text for a
number); no more calls and time than its limits and the run's; what comes back is JSON within ``max_result_bytes``. The
types are the caller's: what a validator in one of them does with a hostile value is the caller's affair, like the
function itself.

Policies are not asked about tools: no model sees what goes in or comes back unless a cell sends it to one, and then
they are asked. A child run has the same tools and counts against the same limits.
"""

from __future__ import annotations

import inspect
import json
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from orchestrator.errors import ConfigError
from orchestrator.limits import MIB, UNLIMITED
from orchestrator.prompts import TOOLS
from orchestrator.signatures import first_fault, quoted, shown, signature_of, told, type_of
from orchestrator.type_costs import most_faults, whole_schema
from sandbox.errors import ProtocolViolation, ValueUnavailable
from sandbox.protocol import decode_json_text, decode_text
from sandbox.tools import MAX_ARGUMENT_BYTES, ToolSpec
from sandbox.value_size import containers_in, is_within

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MAX_TOOLS: Final = 64
MAX_ARGUMENT_DEPTH: Final = 16
"""Lists and objects inside of one another: types that hold themselves are checked in time exponential to it."""
MAX_ARGUMENT_VALUES: Final = 10_000
"""Items of all lists and entries of all objects in one call: each that does not fit takes memory of the host's."""
MAX_ARGUMENT_FAULTS: Final = 50_000
"""Faults that an argument of so many lists and objects could have: likewise."""
MAX_DESCRIPTION_CHARS: Final = 4_000
"""It stands in the root's system prompt, whole."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
RESERVED: Final = frozenset(
    {
        *("context", "history", "answer", "budget", "FINAL", "FINAL_VAR", "SUBMIT", "SHOW_VARS"),
        *("llm_query", "llm_query_batched", "llm_query_as_completed", "rlm_query", "rlm_query_batched"),
        *("report", "declare_labels"),
        *("SubCallError", "LimitExceeded", "PromptTooLarge", "ProviderError", "PolicyRefused", "ChildRunFailed"),
        *("NoCellRunning", "BatchError", "UnknownModel", "ToolError", "ToolArgumentError"),
        *("In", "Out", "exit", "quit", "get_ipython", "display"),
    }
)
"""Names that mean something else in the REPL; Python's own (``open``, ``print``) can't be taken either."""
_CONTEXTS: Final = re.compile(r"context_[0-9]+")

# field: (least, most, whether a whole number, whether UNLIMITED is allowed)
_RANGES: Final[dict[str, tuple[float, float, bool, bool]]] = {
    "max_calls": (1, 1_000_000_000, True, True),
    "timeout_s": (0.001, 10**6, False, False),
    "max_argument_bytes": (2, MAX_ARGUMENT_BYTES, True, False),
    "max_result_bytes": (1, 4 * MIB, True, False),
    "concurrency": (1, 64, True, False),
}


class BadArguments(Exception):
    """A tool does not take these arguments. The text says why, in words for the cell that chose them."""


class ToolFailed(Exception):
    """Raised by a tool to tell the model why: the text goes into the cell, up to 2,000 characters of it."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that cells may call, for ``RLM(tools=[Tool(function, takes_hostile_arguments=True)])``.

    Every parameter has a type that JSON can carry (``str``, ``int``, ``float``, ``bool``, lists, dicts, ``Literal``,
    unions of them, ``Annotated`` with pydantic's bounds, dataclasses, pydantic models) and can be given by name; those
    with a default may be left out. A union that holds itself needs a field that tells its members apart
    (``Field(discriminator=...)``). It returns JSON values: None, bool, int, finite float, str, and lists and dicts
    with str keys of these.

    A plain function runs in a thread of its own, an async one on the run's event loop, which for `RLM.query` is not the
    caller's. At ``timeout_s``, and when the run or the cell ends, an async one is cancelled and a plain one is left to
    itself, since no thread can be stopped: its result is dropped, and until it returns it holds one of its
    ``concurrency`` places.

    What it raises stays on the host: the cell gets ``ToolError`` with the exception's type, never its text, which may
    hold a path or an address. Words for the model are raised on purpose, as `ToolFailed`.

    Args:
        function: The function.
        takes_hostile_arguments: Must be True: the caller's word that the function is safe with any arguments of its
            types, for a document may choose them.
        name: What the cell calls it; by default the function's own name.
        description: What the root is told of it, after its signature; by default the docstring. At most
            `MAX_DESCRIPTION_CHARS`.
        max_calls: Calls in one run with all its children, or in one session. Past it a call raises ``LimitExceeded`` in
            the cell. It and ``Limits.max_tool_calls``, for all tools together, count calls with good arguments, failed
            ones included.
        timeout_s: Seconds one call may take.
        max_argument_bytes: UTF-8 bytes of one call's arguments as JSON, up to 1 MiB.
        max_result_bytes: UTF-8 bytes of one result as JSON, up to 4 MiB. A longer one is an error in the cell.
        concurrency: Calls of this tool at once in one run with all its children, 1 to 64. More wait for their turn.

    Raises:
        ConfigError: Names the tool, the setting or parameter, and what to write.
    """

    function: Callable[..., Any]
    _: KW_ONLY
    takes_hostile_arguments: bool = False
    name: str = ""
    description: str = ""
    max_calls: float = 100
    timeout_s: float = 60
    max_argument_bytes: int = 64 << 10
    max_result_bytes: int = 256 << 10
    concurrency: int = 4
    _types: Mapping[str, TypeAdapter[Any]] = field(init=False, repr=False, compare=False)
    _faults: Mapping[str, int] = field(init=False, repr=False, compare=False)
    _signature: inspect.Signature = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ConfigError(f"Tool: {self.function!r:.80} is no function")
        name = self.name or getattr(self.function, "__name__", "")
        _check_name(name)
        if self.takes_hostile_arguments is not True:
            raise ConfigError(
                f"Tool {name}: a document may choose its arguments. If it is safe with any values of its types, "
                "write takes_hostile_arguments=True"
            )
        for setting in _RANGES:
            _check(name, setting, getattr(self, setting))
        description = self.description or inspect.getdoc(self.function) or ""
        if len(description) > MAX_DESCRIPTION_CHARS:
            raise ConfigError(
                f"Tool {name}: description: {len(description):,} characters; at most {MAX_DESCRIPTION_CHARS:,} are "
                "allowed. Without one it is the docstring"
            )
        signature = signature_of(name, self.function)
        types = {parameter.name: type_of(name, parameter) for parameter in signature.parameters.values()}
        faults = {parameter: most_faults(whole_schema(adapter)) for parameter, adapter in types.items()}
        made = {"name": name, "description": description}
        made |= {"_signature": signature, "_types": types, "_faults": faults}
        for attribute, value in made.items():
            object.__setattr__(self, attribute, value)

    @property
    def is_async(self) -> bool:
        """Whether it is awaited on the event loop."""
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(
            getattr(self.function, "__call__", None)  # noqa: B004 - not whether it has one, but which
        )

    @property
    def spec(self) -> ToolSpec:
        """What the kernel is told of it."""
        return ToolSpec(
            name=self.name,
            description=self.description,
            parameters=tuple(told(parameter) for parameter in self._signature.parameters.values()),
            returns=shown(self._signature.return_annotation),
            argument_bytes=self.max_argument_bytes,
        )

    def usage(self) -> str:
        """What the root is told: signature, limits, description, and the shape of arguments that are objects."""
        most = "" if self.max_calls == UNLIMITED else f", at most {self.max_calls:,.0f} calls"
        head = f"- `{self.name}{self.spec.signature}`{most}"
        shapes = [self._shape(name, adapter) for name, adapter in self._types.items()]
        lines = [line for text in (self.description, *shapes) for line in text.splitlines()]
        return "\n".join([head, *(f"  {line}" if line else "" for line in lines)])

    def _shape(self, name: str, adapter: TypeAdapter[Any]) -> str:
        """Of what its type does not say to who does not know the class, or the bounds."""
        schema = json.dumps(adapter.json_schema(), ensure_ascii=False)
        bounded = "Annotated[" in str(self._signature.parameters[name].annotation)
        return f"`{name}` is JSON of this schema: {schema}" if bounded or '"properties"' in schema else ""

    def result_json(self, value: Any) -> str:
        """What the function returned, as the cell gets it.

        Raises:
            ToolFailed: It is no JSON, or too large.
        """
        try:
            text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            raise ToolFailed("what it returned is no JSON") from None
        size = len(text.encode("utf-8", "replace"))
        if size > self.max_result_bytes:
            raise ToolFailed(f"its result has {size:,} bytes; at most {self.max_result_bytes:,} are allowed")
        return text

    def arguments(self, raw: bytes) -> dict[str, Any]:
        """A call's arguments, of the signature's types.

        Args:
            raw: What the cell sent.

        Raises:
            BadArguments: They do not fit the signature, or are no JSON, too deep, too long a number or the like.
        """
        given = self._decoded(raw)
        for name in given:
            if name not in self._types:
                raise BadArguments(f"{self.name} has no parameter {quoted(name)}")
        checked = {}
        for name, parameter in self._signature.parameters.items():
            if name in given:
                checked[name] = self._checked(name, given[name])
            elif parameter.default is parameter.empty:
                raise BadArguments(f"{self.name} needs {name}")
        return checked

    def _decoded(self, raw: bytes) -> dict[str, Any]:
        try:
            given = decode_json_text(decode_text(raw), unique=True)
        except (ProtocolViolation, ValueUnavailable) as error:  # the message was legal; what it holds is not
            raise BadArguments(f"{self.name}: the arguments can't be read: {error}") from None
        if not isinstance(given, dict):
            raise BadArguments(f"{self.name}: the arguments are no object")
        if not is_within(given, depth=MAX_ARGUMENT_DEPTH, values=MAX_ARGUMENT_VALUES):
            raise BadArguments(
                f"{self.name}: the arguments are nested deeper than {MAX_ARGUMENT_DEPTH}, or have more than "
                f"{MAX_ARGUMENT_VALUES:,} items"
            )
        return given

    def _checked(self, name: str, value: Any) -> Any:
        """By way of JSON again, whose rules are the right ones: text may be a date there, and a list a tuple."""
        from pydantic import ValidationError

        if containers_in(value) * self._faults[name] > MAX_ARGUMENT_FAULTS:
            raise BadArguments(f"{self.name}: {name}: too many lists and objects for one call")
        try:
            return self._types[name].validate_json(json.dumps(value, allow_nan=False), strict=True)
        except ValidationError as error:
            why = first_fault(error)
        except Exception as error:  # noqa: BLE001 - an infinity, or a validator of the caller's, whose text stays here
            why = "not a JSON number" if isinstance(error, ValueError) else "it can't be checked"
        raise BadArguments(f"{self.name}: {name}: {why}")


def checked_tools(given: Sequence[Tool]) -> tuple[Tool, ...]:
    """The tools of a run.

    Raises:
        ConfigError: One is none, or two have the same name, or there are more than `MAX_TOOLS`.
    """
    if not isinstance(given, list | tuple):
        raise ConfigError(f"tools: of type {type(given).__name__}, not a list of Tool")
    if len(given) > MAX_TOOLS:
        raise ConfigError(f"tools: {len(given):,}; at most {MAX_TOOLS} are allowed")
    names: set[str] = set()
    for index, tool in enumerate(given):
        if not isinstance(tool, Tool):
            called = getattr(tool, "__name__", "function")
            raise ConfigError(
                f"tools[{index}]: {tool!r:.80} is no Tool. Cells that do what a document says will call it; if it is "
                f"safe with any arguments, write Tool({called}, takes_hostile_arguments=True)"
            )
        if tool.name in names:
            raise ConfigError(f"tools[{index}]: a second tool of the name {tool.name!r}; give it another by name=")
        names.add(tool.name)
    return tuple(given)


def tools_note(tools: Sequence[Tool]) -> str:
    """What the root is told of its tools, behind the mode's prompt; "" where it has none."""
    return TOOLS + "\n".join(tool.usage() for tool in tools) + "\n" if tools else ""


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigError(
            f"Tool.name: {name!r:.80} is no name for a cell's function (a letter, then up to 63 letters, digits and _)"
        )
    import builtins

    if name in RESERVED or _CONTEXTS.fullmatch(name) or hasattr(builtins, name):
        raise ConfigError(f"Tool.name: {name!r} means something else in the REPL; give the tool another by name=")


def _check(tool: str, setting: str, value: Any) -> None:
    least, most, whole, unlimited = _RANGES[setting]
    if unlimited and value == UNLIMITED:
        return
    number = isinstance(value, int) or (isinstance(value, float) and not whole)
    if isinstance(value, bool) or not number or not least <= value <= most:
        kind, hint = "an integer" if whole else "a number", ", or UNLIMITED" if unlimited else ""
        raise ConfigError(f"Tool {tool}: {setting}: {value!r} is not {kind} from {least:,} to {most:,}{hint}")
