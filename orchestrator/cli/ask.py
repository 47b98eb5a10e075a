"""`airlock ask`: one question about documents, the answer alone on stdout."""

from __future__ import annotations

import argparse
import codecs
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrator.cli.anchor import AnchorFile
from orchestrator.cli.dry_run import dry_run
from orchestrator.cli.exits import ExitCode, exit_code_of_error, exit_code_of_stop
from orchestrator.cli.journaled import begin_journal, divergence_lines, report_divergences, report_journal
from orchestrator.cli.log_lines import warnings_shown_by
from orchestrator.cli.messages import UsageError, print_safely, say
from orchestrator.cli.models import check_allowed, models_from, prices_from
from orchestrator.cli.option_files import schema_from, setup_from
from orchestrator.cli.options import keep_days_from, limits_from, policies_from
from orchestrator.context import MAX_DOCUMENT_BYTES, load_documents
from orchestrator.errors import ConfigError, ContextError, ProviderError, RLMError
from orchestrator.intake import is_large_file
from orchestrator.kept import remove_old_traces, traces_dir
from orchestrator.progress import ProgressPrinter
from orchestrator.rendering import escape_terminal
from orchestrator.result import json_values
from orchestrator.rlm import RLM
from orchestrator.sync import run_sync
from orchestrator.trace import NO_LINE, TraceFile
from sandbox.spec import SandboxSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from orchestrator.recorder import Listener
    from orchestrator.result import RunResult

STDIN: Final = "-"
STDIN_NAME: Final = "stdin"
"""Name of stdin's text among several documents."""

_JSON_FIELDS: Final = (
    "answer_kind",
    "valid",
    "value",
    "isolation",
    "documents",
    "sub_replies",
    "decisions",
    "decision_count",
    "redactions",
    "violations",
    "divergences",
)

_STOP_WORDS: Final = {
    "turn_limit": "the root used all of its replies (--max-iterations)",
    "token_limit": "the token limit does not allow the next call (--max-tokens)",
    "call_limit": "the runs above have no call left (--max-calls)",
    "cost_limit": "the limit in money does not allow the next call (--max-cost)",
    "time_limit": "the time is over (--max-seconds)",
    "overbilled": "a provider billed more than was reserved for a call, so that no limit can be kept (see the trace)",
    "no_progress": "the root did not get on",
    "policy_refused": "a policy refused",
}


_WORTH: Final = {
    None: "there is no answer",
    "partial": "the answer is partial",
    "best_effort": "the answer is what the root said when asked once more",
    "final": "the answer was accepted",
}


def ask(options: argparse.Namespace) -> ExitCode:
    """Run the command.

    Raises:
        UsageError: The words make no question and documents, or no model is named.
        RLMError: As `RLM.arun`, where there is nothing to print.
    """
    question, files = question_and_files(options.words, options.question)
    keep_days = keep_days_from(options)
    rlm = rlm_from(options)
    if options.dry_run:
        return dry_run(rlm, question, _documents_or_file(files, rlm), as_json=options.json)
    anchor = AnchorFile(options.audit_anchor, files) if options.audit_anchor is not None else None
    if options.journal is not None:
        context = _documents(files)
        kept = files if STDIN not in files and all(map(os.path.isfile, files)) else []  # a pipe can't be read again
        journal = begin_journal(options, question, context, rlm.settings, kept)
        return run_and_tell(options, partial(rlm.alive, journal, context), journal.trace, anchor)
    documents = _documents_or_file(files, rlm)
    remove_old_traces(traces_dir(), keep_days)
    trace = _new_trace(keep_text=options.keep)
    return run_and_tell(options, partial(rlm.arun, question, documents), trace, anchor, records=[trace])


def rlm_from(options: argparse.Namespace) -> RLM:
    """What the options say of the run.

    Raises:
        UsageError: No model is named, or one that is not allowed.
        ConfigError: A value is wrong; names the option.
    """
    limits = limits_from(options)
    models = models_from(options)
    rlm = _rlm(
        options.schema,
        models.root,
        models.sub,
        sub_llms=models.sub_llms,
        fallback=models.fallback,
        cache=None if options.dry_run or options.cache is None else Path(options.cache),
        prompt_mode=options.prompt_mode,
        observe=options.observe,
        limits=limits,
        sandbox=SandboxSpec(isolation=options.isolation, image=options.image),
        policies=policies_from(options),
        setup_code=setup_from(options.setup),
        modules=options.module or (),
        prices=prices_from(options, models),
        on_kill=options.on_kill,
        context_mode=options.context_mode,
    )
    check_allowed(options, models)
    return rlm


def run_and_tell(
    options: argparse.Namespace,
    run: Callable[..., Coroutine[Any, Any, RunResult]],
    trace: TraceFile,
    anchor: AnchorFile | None,
    records: Sequence[Listener] = (),
) -> ExitCode:
    """Run to the end, show what happens, and print what came of it.

    Args:
        options: How to show and print it.
        run: Takes ``listeners=``.
        trace: Where the run is recorded.
        anchor: Where its head goes.
        records: Listeners beside what shows it.

    Raises:
        RLMError: There is nothing to print.
    """
    progress = _progress(options, trace)
    listeners: list[Listener] = [*records, progress] if progress else [*records]
    failure: RLMError | None = None
    resumable = False
    try:
        with warnings_shown_by(progress.note if progress else lambda _: None):
            stopping = partial(progress.note if progress else say, "stopping; press Ctrl-C again to stop at once")
            result = run_sync(run(listeners=listeners), on_slow_stop=stopping)
    except KeyboardInterrupt:
        resumable = True
        raise
    except RLMError as error:
        resumable = isinstance(error, ProviderError)
        if error.result is None:
            raise
        failure, result = error, error.result
    finally:
        trace.close()
        if progress:
            progress.left_behind()
            progress.close()
        _report_head(trace, anchor, quiet=options.quiet)
        report_journal(trace, broken_off=resumable and not options.quiet)
    if not options.quiet:
        _report_policies(result)
        report_divergences(result)
    return deliver(result, failure, as_json=options.json)


def _progress(options: argparse.Namespace, trace: TraceFile) -> ProgressPrinter | None:
    if options.quiet or sys.stderr is None:
        return None
    return ProgressPrinter(sys.stderr, trace=trace.path, whole_output=options.verbose)


def _new_trace(*, keep_text: bool) -> TraceFile:
    try:
        return TraceFile(traces_dir(), keep_text=keep_text)
    except ConfigError as error:
        raise ConfigError(f"AIRLOCK_STATE: {error}; set it to a directory that can be written") from error


def _report_head(trace: TraceFile, anchor: AnchorFile | None, *, quiet: bool) -> None:
    """Say the trace's head, which only helps where it is kept apart from the trace."""
    if trace.head == NO_LINE:  # no run has started
        return
    if not quiet:
        say(f"trace head {trace.head}")
    if anchor is not None:
        anchor.write(trace.head)


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
            times = "once" if len(found) == 1 else f"{len(found):,} times, first"
            say(f"policies {words} {times}: {found[0].policy}: {found[0].reason}")


def _rlm(schema_file: str | None, *models: Any, **settings: Any) -> RLM:
    """`RLM`, which speaks of the schema's file by its option."""
    schema = schema_from(schema_file)
    try:
        return RLM(*models, output_schema=schema, **settings)
    except ConfigError as error:
        said = str(error).replace("output_schema", f"--schema {schema_file}", 1)
        said = said.replace("modules", "--module", 1) if said.startswith("modules") else said
        said = f"--{said}" if said.startswith("cache:") else said
        raise ConfigError(said.replace("Limits.max_cost_usd:", "--max-cost:", 1)) from error


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
    if not words:
        raise UsageError('no document is named. Type: airlock ask FILE... -q "question"')
    if not files:
        raise UsageError(f'{question!r:.60} is no file, and a question needs one. Type: airlock ask FILE... "question"')
    if files.count(STDIN) > 1:
        raise UsageError("stdin (-) is given twice")
    return question, files


def _documents_or_file(files: list[str], rlm: RLM) -> str | dict[str, str] | Path:
    """What the files hold, or the path of one that is too large to be held here."""
    large = len(files) == 1 and is_large_file(files[0], rlm.settings.context_mode, rlm.limits.memory_bytes)
    return Path(files[0]) if large and files[0] != STDIN else _documents(files)


def _documents(files: list[str]) -> str | dict[str, str]:
    documents = _loaded(files)
    if not documents:
        raise ContextError(f"{STDIN_NAME if files[0] == STDIN else files[0]}: the document is empty")
    return documents


def _loaded(files: list[str]) -> str | dict[str, str]:
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
        raise ContextError(f"stdin: is larger than {MAX_DOCUMENT_BYTES:,} bytes; write it to a file and name that")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise ContextError(
            f"stdin: is not UTF-8 text: byte 0x{error.object[error.start]:02x} at offset {error.start:,}"
        ) from None


# ------------------------------------------------------------------------------------------------------ what comes out


def deliver(result: RunResult, failure: RLMError | None, *, as_json: bool) -> ExitCode:
    """Print what came of a run; returns the command's exit code."""
    if as_json:
        _print_json(result, failure)
    elif result.answer is not None and result.valid is not False:  # whoever gives a schema reads JSON that fits it
        print_answer(result.answer)
    if failure is not None:
        say("\n".join([str(failure), *divergence_lines(failure)]))
        return exit_code_of_error(failure)
    if why := _why_it_stopped(result):
        say(f"{why}; {_WORTH[result.answer_kind]}")
    if result.valid is False:
        say("what there is of an answer does not fit the schema" + ("" if as_json else "; --json shows it"))
    if result.valid is False and result.stop_reason.value == "answered":  # it did before a policy redacted it
        return ExitCode.POLICY
    return exit_code_of_stop(result.stop_reason)


def _why_it_stopped(result: RunResult) -> str | None:
    """Which limit or policy ended the run; None where it was answered."""
    words = _STOP_WORDS.get(result.stop_reason.value)
    return f"{words}: {result.stop_detail}" if words and result.stop_detail else words


def _print_json(result: RunResult, failure: RLMError | None) -> None:
    record: dict[str, Any] = {
        "answer": result.answer,
        "stop_reason": result.stop_reason.value,
        "stop_detail": result.stop_detail,
        "error": str(failure) if failure else _why_it_stopped(result),
        "usage": json_values(result.usage) | {"total_tokens": result.usage.total_tokens},
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
        print_safely(escape_terminal(answer))
    else:
        sys.stdout.buffer.write(answer.encode("utf-8", "replace") + (b"" if answer.endswith("\n") else b"\n"))
    sys.stdout.flush()
