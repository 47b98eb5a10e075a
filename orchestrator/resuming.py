"""Opens a journal to go on with its run, once it is certain that it can be gone on with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.context import Context, check_context
from orchestrator.errors import ConfigError
from orchestrator.journal import Journal

if TYPE_CHECKING:
    from orchestrator.result import RunResult
    from orchestrator.settings import RunSettings


async def open_again(
    directory: Path | None, settings: RunSettings, context: Any
) -> RunResult | tuple[Journal, Context]:
    """The journal of a run that goes on, with what the run is about; or its result, where it has ended for good.

    Args:
        directory: Where the journal is; None: the caller set none.
        settings: How the run goes on.
        context: What it is about, as the caller has it; None: as the journal has it.

    Raises:
        ConfigError: There is none, another process has it, it was begun by other models, or the context has changed.
        ContextError: The context can't be read.
    """
    if directory is None:
        raise ConfigError("journal_dir: it is not set, so there is nothing to resume")
    journal = await asyncio.to_thread(Journal.open, directory)
    try:
        journal.check(settings)
        if result := journal.result():
            journal.close()
            return result
        kept = await asyncio.to_thread(journal.context)
        if context is not None and await asyncio.to_thread(check_context, context) != kept:
            raise ConfigError("context: it is not the one that the journal was begun with")
    except BaseException:
        journal.close()
        raise
    return journal, kept
