"""Secrets in texts: the common forms are replaced, ordinary text is not, and no text makes the search slow."""

from __future__ import annotations

import base64
import random
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policies.base import Allow, FinalAnswer, OutgoingRequest, Redact
from orchestrator.policies.secrets import MAX_TEXT_CHARS, PLACE, TOO_LONG, SecretsRedaction, redact_secrets
from orchestrator.providers.base import Message

RANDOM = random.Random(7)
LETTERS = string.ascii_letters + string.digits


def some(number: int, alphabet: str = LETTERS) -> str:
    """Random characters, with a digit among them."""
    return "".join(RANDOM.choices(alphabet, k=number - 1)) + "7"


def pem(label: str = "PRIVATE KEY", lines: int = 20) -> str:
    body = base64.encodebytes(RANDOM.randbytes(48 * lines)).decode().rstrip()
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----"


FORMS = {
    "aws": "AKIA" + some(16, string.ascii_uppercase + string.digits),
    "aws session": "ASIA" + some(16, string.ascii_uppercase + string.digits),
    "github": "ghp_" + some(36),
    "github app": "ghs_" + some(36),
    "github fine-grained": "github_pat_" + some(22) + "_" + some(59),
    "openai": "sk-" + some(48),
    "openai project": "sk-proj-" + some(74, LETTERS + "_-"),
    "anthropic": "sk-ant-api03-" + some(95, LETTERS + "_-"),
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0." + some(43, LETTERS + "_-"),
    "pem": pem(),
    "pem rsa": pem("RSA PRIVATE KEY"),
    "pem encrypted": pem("ENCRYPTED PRIVATE KEY"),
    "openssh": pem("OPENSSH PRIVATE KEY"),
    "pgp": pem("PGP PRIVATE KEY BLOCK"),
    "pem in json": pem().replace("\n", "\\n"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("around", ["{}", "key={}", '"{}"', "see {}, it works", "x\n{}\ny", "{{'k': '{}'}}", "({})"])
def test_a_key_is_replaced_wherever_it_stands(form: str, around: str) -> None:
    assert redact_secrets(around.format(FORMS[form])) == (around.format(PLACE), 1)


@pytest.mark.parametrize(
    "written",
    [
        "password = {}",
        "DB_PASSWORD={}",
        '"apiKey": "{}"',
        "api key: {}",
        "Authorization: Bearer {}",
        "aws_secret_access_key = {}",
        "client-secret:'{}'",
        "my_token=  {}",
    ],
)
def test_what_the_text_itself_calls_a_secret_is_replaced(written: str) -> None:
    for value in (some(16), some(40, LETTERS + "+/"), RANDOM.randbytes(16).hex()):
        assert redact_secrets(written.format(value)) == (written.format(PLACE), 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The secret of the harbour is that nobody knows it.",
        "password = hunter2",
        "password: correct_horse_battery_staple",
        "token = tokenizer.encode(batch1_of_documents)",
        "token=aaaaaaaaaaaaaaaaaaa1",
        "task-" + "a1" * 30,
        "sk-loading-spinner-container-wide",
        "AKIA1234",
        "eyJ.eyJ.eyJ",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "3f786850e387550fdab836ed7e6dc881de23001b",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact_secrets(text) == (text, 0)


def test_two_keys_are_counted_as_two_and_what_is_between_stays() -> None:
    text = f"a {FORMS['pem']} b {FORMS['openai']} c {FORMS['pem rsa']} d"
    assert redact_secrets(text) == (f"a {PLACE} b {PLACE} c {PLACE} d", 3)


@pytest.mark.parametrize("kept", [40, 200, 1000])
def test_a_private_key_that_was_cut_off_is_replaced_to_its_last_line(kept: int) -> None:
    text, count = redact_secrets(FORMS["pem"][:kept] + ". The text goes on.")
    assert (text, count) == (PLACE + ". The text goes on.", 1)


@given(st.text(), st.sampled_from(sorted(FORMS)), st.text())
def test_nothing_is_left_to_find_and_no_text_grows(before: str, form: str, after: str) -> None:
    text = f"{before} {FORMS[form]} {after}"
    redacted, count = redact_secrets(text)
    assert count >= 1
    assert FORMS[form] not in redacted
    assert len(redacted) < len(text)
    assert redact_secrets(redacted) == (redacted, 0)


def test_real_documents_are_left_alone(shared_data: Path) -> None:
    files = [file for file in shared_data.rglob("*") if file.suffix in (".txt", ".jsonl", ".json", ".csv", ".md")]
    texts = [file.read_text(encoding="utf-8", errors="replace")[:MAX_TEXT_CHARS] for file in files]
    assert sum(map(len, texts)) > 1_000_000
    assert sum(redact_secrets(text)[1] for text in texts) == 0


UNITS = ["a", "AKIA", "AKIAA ", "sk-", "-sk-a", "sk-a ", "ghp_", "github_pat_", "eyJ", "eyJ-", "eyJaaaaaaaa."]
UNITS += [
    "eyJaaaaaaaa.eyJaaaaaaaa ",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nAAAA ",
    "-----BEGIN ",
]
UNITS += ["token", "token ", "token=", "api_key", "bearer a1", "secret-  ", 'token"  ', "password = aaaaaaaaaaaaaaaa1 "]


@pytest.mark.parametrize("unit", UNITS)
def test_no_text_makes_the_search_slow(unit: str) -> None:
    """A form whose time grows with the square of the text would take hours here."""
    size = 1 << 20
    text = "AKIA ghp_ github_pat_ sk- eyJ PRIVATE KEY token " + unit * (size // len(unit))
    redacted, _ = redact_secrets(text)
    assert len(redacted) <= len(text)


def test_a_text_too_long_to_search_is_replaced_as_a_whole() -> None:
    assert redact_secrets("x" * (MAX_TEXT_CHARS + 1)) == (TOO_LONG, 1)


# --- the policy ---


def request(*contents: str) -> OutgoingRequest:
    roles = ("system", "user", "assistant")
    messages = tuple(Message(role=role, content=text) for role, text in zip(roles, contents, strict=False))  # type: ignore[arg-type]
    return OutgoingRequest(role="root", depth=0, model="m", messages=messages, document_bytes=1, sent_bytes=0)


def test_prompts_are_redacted_only_on_request_and_system_messages_never() -> None:
    key = FORMS["aws"]
    asked = request(key, f"my {key}", f"{key} {key}")
    done = SecretsRedaction(prompts=True).on_request(asked)
    assert done == Redact(
        text=(key, f"my {PLACE}", f"{PLACE} {PLACE}"), count=3, reason="what has the form of a secret"
    )
    assert SecretsRedaction(answers=True).on_request(asked) == Allow()
    assert SecretsRedaction(prompts=True).on_request(request(key, "no key")) == Allow()


def test_answers_are_redacted_only_on_request() -> None:
    answer = FinalAnswer(text=FORMS["jwt"], partial=False)
    assert SecretsRedaction(prompts=True).on_answer(answer) == Allow()
    assert SecretsRedaction(answers=True).on_answer(answer) == Redact(
        text=PLACE, count=1, reason="what has the form of a secret"
    )
