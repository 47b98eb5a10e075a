"""The commands beside `ask` and `demo`, each loaded when it is typed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

ParserMaker = Callable[[type[argparse.ArgumentParser]], argparse.ArgumentParser]
Command = Callable[[argparse.Namespace], int]

NAMES: Final = ("doctor", "resume", "replay", "verify", "export", "schema", "reap", "clean")


def command(name: str) -> tuple[ParserMaker, Command]:
    """What makes a command's options, and what runs it.

    Raises:
        KeyError: It is none of `NAMES`.
    """
    match name:
        case "doctor":
            from orchestrator.cli.doctor import doctor, doctor_parser

            return doctor_parser, doctor
        case "resume":
            from orchestrator.cli.resume import resume, resume_parser

            return resume_parser, resume
        case "replay":
            from orchestrator.cli.replay import replay, replay_parser

            return replay_parser, replay
        case "verify":
            from orchestrator.cli.verify import verify, verify_parser

            return verify_parser, verify
        case "export":
            from orchestrator.cli.export import export, export_parser

            return export_parser, export
        case "schema":
            from orchestrator.cli.export import schema, schema_parser

            return schema_parser, schema
        case "reap":
            from orchestrator.cli.reap import reap, reap_parser

            return reap_parser, reap
        case "clean":
            from orchestrator.cli.clean import clean, clean_parser

            return clean_parser, clean
    raise KeyError(name)
