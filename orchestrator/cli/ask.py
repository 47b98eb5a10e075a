"""`airlock ask`: one question about documents, the answer alone on stdout."""

from __future__ import annotations

import argparse
import codecs
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrator.cli.exits import ExitCode, exit_code_of_error, exit_code_of_stop
from orchestrator.cli.log_lines import warnings_shown_by
from orchestrator.cli.messages import UsageError, by_options, say
from orchestrator.cli.options import keep_days_from, limits_from, policies_from
from orchestrator.context import MAX_DOCUMENT_BYTES, load_documents
from orchestrator.errors import ConfigError, ContextError, RLMError
from orchestrator.kept import remove_old_traces, traces_dir
from orchestrator.progress import ProgressPrinter
from orchestrator.providers.spec import provider_from_spec
from orchestrator.rendering import escape_terminal
from orchestrator.result import json_values
from orchestrator.rlm import RLM
from orchestrator.sync import run_sync
from orchestrator.trace import TraceFile
from sandbox.spec import SandboxSpec

if TYPE_CHECKING:
    from orchestrator.providers.base import Provider
    from orchestrator.recorder import Listener
    from orchestrator.result import RunResult

STDIN: Final = "-"
STDIN_NAME: Final = "stdin"
"""Name of stdin's text among several documents."""

_JSON_FIELDS: Final = (
    "isolation",
    "documents",
    "sub_replies",
    "decisions",
    "decision_count",
    "redactions",
    "violations",
)

_LIMIT_WORDS: Final = {
    "turn_limit": "the root used all of its replies (--max-iterations)",
    "token_limit": "the token limit does not allow the next call (--max-tokens)",
    "time_limit": "the time is over (--max-seconds)",
    "no_progress": "the root sent neither code nor an answer, three times in a row",
}


def ask(options: argparse.Namespace) -> ExitCode:
    """Run the command.

    Raises:
        UsageError: The words make no question and documents, or no model is named.
        RLMError: As `RLM.arun`, where there is nothing to print.
    """
    question, files = question_and_files(options.words, options.question)
    limits = limits_from(options)
    keep_days = keep_days_from(options)
    root, sub = _models(options)
    rlm = RLM(
        root,
        sub,
        prompt_mode=options.prompt_mode,
        observe=options.observe,
        limits=limits,
        sandbox=SandboxSpec(isolation=options.isolation, image=options.image),
        policies=policies_from(options),
    )
    if options.audit_anchor is not None:
        _write_anchor(options.audit_anchor, "")  # now, before anything is spent
    context = _documents(files)
    if not context:
        raise ContextError("the document is empty")
    remove_old_traces(traces_dir(), keep_days)
    trace = TraceFile(traces_dir(), keep_text=options.keep)
    progress = None if options.quiet or sys.stderr is None else ProgressPrinter(sys.stderr, trace=trace.path)
    listeners: list[Listener] = [trace, progress] if progress else [trace]
    failure: RLMError | None = None
    try:
        with warnings_shown_by(progress.note if progress else lambda _: None):
            result = run_sync(rlm.arun(question, context, listeners=listeners))
    except RLMError as error:
        if error.result is None:
            raise
        failure, result = error, error.result
    finally:
        trace.close()
        if progress:
            progress.close()
        _report_head(trace, options.audit_anchor, quiet=options.quiet)
    if not options.quiet:
        _report_policies(result)
    return _deliver(result, failure, as_json=options.json)


def _report_head(trace: TraceFile, anchor_file: str | None, *, quiet: bool) -> None:
    """Say the trace's head, which only helps where it is kept apart from the trace."""
    if not quiet:
        say(f"trace head {trace.head}")
    if anchor_file is not None:
        _write_anchor(anchor_file, trace.head + "\n")


def _report_policies(result: RunResult) -> None:
    """Say what was redacted, and how often policies stepped in."""
    counts = dict(result.redactions)
    if result.trace and result.trace.redactions:
        counts["trace"] = result.trace.redactions
    if counts:
        say("redacted: " + ", ".join(f"{count:,} in the {place}" for place, count in counts.items()))
    for action, words in (("refuse", "refused"), ("report", "reported")):
        found = [decision for decision in result.decisions if decision.action == action]
        if found:
            say(f"policies {words} {len(found):,} times, first {found[0].policy}: {found[0].reason}")


def _write_anchor(file: str, text: str) -> None:
    try:
        Path(file).write_text(text, encoding="ascii")
    except OSError as error:
        raise UsageError(f"--audit-anchor: {file!r} can't be written: {error.strerror}") from None


# --------------------------------------------------------------------------------------------------- what was asked for


def question_and_files(words: list[str], question: str | None) -> tuple[str, list[str]]:
    """Tell the question from the documents.

    Raises:
        UsageError: One of them is missing, or the last word could be either.
    """
    files = list(words)
    if question is None and files:
        question = files.pop()
        if question == STDIN or os.path.exists(question):
            kind = "stdin" if question == STDIN else "a directory" if os.path.isdir(question) else "a file"
            raise UsageError(f'there is no question: the last argument, {question!r}, is {kind}. Add -q "question"')
    if question is None or (not files and not question.strip()):
        raise UsageError('there is no document and no question. Type: airlock ask FILE... "question"')
    if not question.strip():
        raise UsageError("the question is empty")
    if not files:
        raise UsageError(f'{question!r:.60} is no file, and a question needs one. Type: airlock ask FILE... "question"')
    if files.count(STDIN) > 1:
        raise UsageError("stdin (-) is given twice")
    return question, files


def _models(options: argparse.Namespace) -> tuple[Provider, Provider | None]:
    spec = options.model or os.environ.get("AIRLOCK_MODEL")
    if not spec:
        raise UsageError("no model is named. Give --model openai:NAME (or anthropic:NAME), or set AIRLOCK_MODEL")
    named = "--model" if options.model else "AIRLOCK_MODEL"
    root = _model(spec, options.base_url, named, "--base-url")
    if options.sub_model is None and options.sub_base_url is None:
        return root, None
    sub_spec = options.sub_model or spec
    named = "--sub-model" if options.sub_model else named
    return root, _model(sub_spec, _sub_base_url(options, spec, sub_spec), named, "--sub-base-url")


def _model(spec: str, base_url: str | None, option: str, url_option: str) -> Provider:
    try:
        return provider_from_spec(spec, base_url=base_url)
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


def _documents(files: list[str]) -> str | dict[str, str]:
    named = [file for file in files if file != STDIN]
    if named == files:
        return load_documents(files)
    piped = _read_stdin()
    if not named:
        return piped
    loaded = load_documents(named)
    documents = {Path(named[0]).name: loaded} if isinstance(loaded, str) else loaded
    if STDIN_NAME in documents:
        raise ContextError(f"a document is named {STDIN_NAME!r}, as the text of stdin is; rename it")
    return documents | {STDIN_NAME: piped}


def _read_stdin() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("- reads a document from stdin, but stdin is a terminal. Type: airlock ask - ... < FILE")
    data = sys.stdin.buffer.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise ContextError(f"stdin: is larger than {MAX_DOCUMENT_BYTES:,} bytes; cut it into parts")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise ContextError(
            f"stdin: is not UTF-8 text: byte 0x{error.object[error.start]:02x} at offset {error.start:,}"
        ) from None


# ------------------------------------------------------------------------------------------------------ what comes out


def _deliver(result: RunResult, failure: RLMError | None, *, as_json: bool) -> ExitCode:
    if as_json:
        _print_json(result, failure)
    elif result.answer is not None:
        print_answer(result.answer)
    if failure is not None:
        say(str(failure))
        return exit_code_of_error(failure)
    if result.stop_reason.value in _LIMIT_WORDS:
        have = "the answer is partial" if result.answer is not None else "there is no answer"
        say(f"{_LIMIT_WORDS[result.stop_reason.value]}; {have}")
    if result.stop_reason.value == "policy_refused":
        say(f"{_refusal(result)}; there is no answer")
    return exit_code_of_stop(result.stop_reason)


def _refusal(result: RunResult) -> str:
    """Which policy ended the run, of which few decisions are kept."""
    last = next((decision for decision in reversed(result.decisions) if decision.action == "refuse"), None)
    return f"the policy {last.policy} refused: {last.reason}" if last else "a policy refused"


def _print_json(result: RunResult, failure: RLMError | None) -> None:
    record: dict[str, Any] = {
        "answer": result.answer,
        "stop_reason": result.stop_reason.value,
        "error": str(failure) if failure else None,
        "usage": dataclasses.asdict(result.usage) | {"total_tokens": result.usage.total_tokens},
        **{name: json_values(getattr(result, name)) for name in _JSON_FIELDS},
        "trace": result.trace.path if result.trace else None,
        "trace_head": result.trace.head if result.trace else None,
        "trace_digest_key": result.trace.digest_key if result.trace else None,
    }
    sys.stdout.write(json.dumps(record) + "\n")  # ASCII: nothing in it can move a terminal
    sys.stdout.flush()


def print_answer(answer: str) -> None:
    """Write an answer to stdout: escaped where a terminal would obey it, else byte for byte."""
    if sys.stdout.isatty():
        text = escape_terminal(answer) + "\n"
        sys.stdout.write(text.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding))
    else:
        sys.stdout.buffer.write(answer.encode("utf-8", "replace") + (b"" if answer.endswith("\n") else b"\n"))
    sys.stdout.flush()
