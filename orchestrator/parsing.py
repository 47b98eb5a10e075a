"""What a root model's reply holds: code to run, an answer, or neither.

The rules, and why they are so:

* Code is a fenced block (CommonMark: three or more backticks or tildes, closed by a run at least as long) whose
  first info word is ``repl``, ``python``, ``py`` or ``python3``. Untagged blocks are not run: models use them to
  quote a document or to imagine output, and both may be somebody else's text.
* A fence line inside an open triple-quoted string does not close the block, because root models put fences into
  the prompts they write for sub-calls. Where that reading finds no end, the plain CommonMark one is used.
* A last block without a closing fence is code (`ParsedReply.unclosed`): stop sequences eat fences.
* An answer is ``FINAL(...)`` or ``FINAL_VAR(name)`` outside every fence, at the start of a line (after white space
  or Markdown marks) and with nothing but Markdown marks or a full stop behind it. So "I will then call FINAL(x)" is
  no answer: asking again costs one turn, a wrong answer costs the run.
* Of several answers the last one counts, since models correct themselves downwards.
* ``<think>...</think>`` at the start of a reply, as local models send it, is dropped: it holds drafts of code and
  answers. A lone ``</think>`` line outside fences drops what precedes it (the opening tag was in the template).
* CRLF is read as LF.

How models misuse the two, and what comes of it. "Asked" costs a turn and names what is wrong; no answer is guessed.

=====================================  ================================================================================
the reply                              what comes of it
=====================================  ================================================================================
``FINAL(I will first look at ...)``    a plan: asked once a run (`reads_like_a_plan`); sent again, it is the answer
``FINAL_VAR("the text")``              no name: asked, and told that the answer itself goes into ``FINAL(...)``
``FINAL_VAR([1, 2])``, ``(42)``        likewise; quotes around a name are taken off
``FINAL_VAR(a.b)``, ``(f(x))``         likewise: nothing outside of code is computed
``FINAL(f"... {x}")``                  not filled in outside of code: asked
FINAL in a fence that is not run       asked: it may be a quotation
FINAL in a ``repl`` block              code: a call, which counts if the cell ends without an error
``FINAL(f(x), (y))``                   nested parentheses are the answer's; it ends with the one that closes
``FINAL(a :) b)``, ``FINAL(1) one)``   a parenthesis ends the answer only at the end of a line
``FINAL("a ) b")``                     one pair of quotes around the whole is taken off, with its escapes
FINAL over several lines               an answer may have many lines
``FINAL(...`` that never closes        asked
``I will call FINAL(x) later``         prose: asked, FINAL begins its own line
``FINAL(x)``, then ``FINAL_VAR(y)``    the last well-formed one counts
``FINAL(x)`` beside code               the code runs, then asked: the output was not seen when it was written
``FINAL_VAR(x)`` beside code           stands if the code ran without an error and x exists then
``FINAL()``, ``FINAL("")``             empty: asked
=====================================  ================================================================================

Everything here takes time linear in the reply's length, whatever the reply holds.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass

from orchestrator.blocks import STRING_MARK, Blocks

_START = re.compile(r"^[ \t>*_`#-]*FINAL(_VAR)?[ \t]*\(", re.MULTILINE)
_ANYWHERE = re.compile(r"\bFINAL(?:_VAR)?[ \t]*\(")
_PARENTHESIS = re.compile(r"[()]")
_TAIL_CHARS = " \t\n*_`.;!"
_LINE_END = re.compile(r"[ \t*_`.;!]*(?:\n|\Z)")
_FORMATTED_STRING = re.compile(r"\s*(?:[fF][rR]?|[rR][fF])[\"']")
_ESCAPE = re.compile(r"\\([nt\\\"'])")
_ESCAPED = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "'": "'"}

# Each malformed FINAL may make the scanner read on to the end of the text; this keeps the whole linear.
_MAX_MALFORMED = 16
_SHOWN_CHARS = 40
_NO_NAME = "for the answer itself write FINAL(your answer)"
_PLAN = re.compile(
    r"\W*(?:(?:first|next|now|then|ok|okay|so|sure|plan|my plan|the plan|step 1)\b\W*)*"
    r"(?:(?:i|we)(?: (?:will|shall|need to|should|must|have to|plan to|am going to|are going to|want to)|['\u2019]ll)\b"
    r"|(?:let me|let us|let['\u2019]s)\b|(?:plan|my plan|the plan|step 1)\b\W*(?:is to\b|:))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class FinalText:
    """``FINAL(...)``: the answer itself. One pair of quotes around the whole is taken off, with its simple escapes."""

    text: str


@dataclass(frozen=True, slots=True)
class FinalVar:
    """``FINAL_VAR(name)``: the answer is the value of a variable of the REPL. Whether it exists, the box must say."""

    name: str


Final = FinalText | FinalVar


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedReply:
    """What a reply holds. Code beside an answer is returned beside it: the loop decides which counts.

    Attributes:
        cells: Code blocks to run, in order, exactly as written; blank ones are left out.
        final: The answer, or None.
        problem: Why something that looks like an answer is none, in words for the model; None where `final` is set.
        skipped: Info word of each fenced block that is not run ("" for an untagged one).
        unclosed: The last block has no closing fence, so it may be cut off.
        hints: What else the reply has in place of code or an answer, in words for the model.
    """

    cells: tuple[str, ...]
    final: Final | None = None
    problem: str | None = None
    skipped: tuple[str, ...] = ()
    unclosed: bool = False
    hints: tuple[str, ...] = ()


def parse_reply(text: str) -> ParsedReply:
    """Take a root model's reply apart, by the rules at the top of this module. Raises nothing, whatever the text."""
    text = text.replace("\r\n", "\n")
    visible = _without_thinking(text)
    if visible is None:
        return ParsedReply(cells=(), hints=("the reply ended inside <think>",))
    blocks = Blocks(visible)
    final, problem = _find_final(blocks.prose)
    return ParsedReply(
        cells=tuple(code for code in blocks.cells if code.strip()),
        final=final,
        problem=problem,
        skipped=tuple(language for language, _ in blocks.skipped),
        unclosed=blocks.unclosed,
        hints=tuple(_hints(visible, blocks)),
    )


def missing_reason(parsed: ParsedReply) -> str:
    """Say in one line, for the model, what a reply without code and without answer lacks.

    Nothing of the reply is repeated but a short name (an info word, an argument of FINAL_VAR).
    """
    if parsed.problem:
        return parsed.problem
    return parsed.hints[0] if parsed.hints else "there is neither a code block nor an answer"


def reads_like_a_plan(answer: str) -> bool:
    """Whether a text says what somebody will do, as no answer begins: "I will first look at ...", "Let me ...".

    A guess from its first words. It is worth a question back, not a refusal.
    """
    return _PLAN.match(answer[:200]) is not None


def _hints(visible: str, blocks: Blocks) -> list[str]:
    """What stands in place of code or an answer; the most telling first."""
    hints = []
    if any(_START.search(content) for _, content in blocks.skipped):
        hints.append("FINAL stands inside a code fence; write it outside of every fence")
    for language, _ in blocks.skipped:
        block = f"a ```{_shorten(language)} block" if language else "a code block without a language"
        hints.append(f"{block} is not run; start it with ```repl")
        break
    if blocks.cells and not any(code.strip() for code in blocks.cells):
        hints.append("the code block is empty")
    if any(_ANYWHERE.search(part) for part in blocks.prose):
        hints.append("FINAL must begin its own line, with nothing behind its closing parenthesis")
    if any("```" in part for part in blocks.prose):
        hints.append("a code block must start with ```repl on a line of its own")
    if not visible.strip():
        hints.append("the reply is empty")
    return hints


def _without_thinking(text: str) -> str | None:
    """The reply behind its leading ``<think>`` block; None where that block never ends."""
    stripped = text.lstrip()
    if not stripped.startswith("<think>"):
        return text
    _, end, rest = stripped.partition("</think>")
    return rest if end else None


def _find_final(prose: list[str]) -> tuple[Final | None, str | None]:
    """The last well-formed answer; without one, what is wrong with the last that was tried."""
    final: Final | None = None
    problem: str | None = None
    malformed = 0
    for part in prose:
        position = 0
        while malformed < _MAX_MALFORMED and (start := _START.search(part, position)):
            read = _read_variable if start.group(1) else _read_text
            found, position = read(part, start.end())
            if isinstance(found, str):
                problem = found
                malformed += 1
            else:
                final = found
    return final, None if final else problem


def _read_variable(part: str, start: int) -> tuple[FinalVar | str, int]:
    end = part.find(")", start)
    if end < 0:
        return "FINAL_VAR has no closing parenthesis", start
    name = part[start:end].strip().strip("\"'`").strip()
    if not name.isidentifier() or keyword.iskeyword(name):
        return f"FINAL_VAR needs the name of a variable, got {_shorten(name)!r}; {_NO_NAME}", start
    if not _LINE_END.match(part, end + 1):
        return "text follows FINAL_VAR(...) on its line; write it alone on a line", start
    return FinalVar(name), end + 1


def _read_text(part: str, start: int) -> tuple[FinalText | str, int]:
    if _FORMATTED_STRING.match(part, start):
        return "an f-string in FINAL is not filled in outside of code; call FINAL in a ```repl block", start
    literal_end = _literal_end(part, start)
    end = literal_end if literal_end is not None else _closing(part, start)
    if end is None:
        return "FINAL has no closing parenthesis at the end of a line", start
    answer = part[start:end].strip()
    if literal_end is not None:
        answer = _unquote(answer)
    if not answer.strip():
        return "FINAL() is empty", start
    return FinalText(answer), end + 1


def _literal_end(part: str, start: int) -> int | None:
    """Where the parenthesis closes if the whole argument is one quoted string, whatever parentheses it holds."""
    while start < len(part) and part[start].isspace():
        start += 1
    opening = STRING_MARK.match(part, start)
    if opening is None or opening.group()[0] not in "\"'":
        return None
    quote = opening.group()
    for match in STRING_MARK.finditer(part, opening.end()):
        if match.group() == quote:
            end = match.end()
            while end < len(part) and part[end].isspace():
                end += 1
            closed = part.startswith(")", end) and _LINE_END.match(part, end + 1)
            return end if closed else None
    return None


def _closing(part: str, start: int) -> int | None:
    """Where the argument ends: a parenthesis at the end of a line that balances the opening one.

    Answers are prose, so parentheses need not balance ("1) one", ":)", ":("). A first balance in the middle of a
    line is passed over; after it only a surplus parenthesis closes. Without any, the text's very last character
    may be the closing one.
    """
    depth = 1
    balanced_before = False
    for match in _PARENTHESIS.finditer(part, start):
        if match.group() == "(":
            depth += 1
            continue
        depth -= 1
        if (depth < 0 or (depth == 0 and not balanced_before)) and _LINE_END.match(part, match.end()):
            return match.start()
        balanced_before = balanced_before or depth == 0
    last = part.rfind(")", start)
    if balanced_before or last < 0 or part[last + 1 :].strip(_TAIL_CHARS) or _START.search(part, start):
        return None
    return last


def _unquote(literal: str) -> str:
    width = 3 if literal[:3] in ('"""', "'''") else 1
    return _ESCAPE.sub(lambda match: _ESCAPED[match.group(1)], literal[width:-width])


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
