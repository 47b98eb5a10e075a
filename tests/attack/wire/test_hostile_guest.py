"""A guest that is wholly the attacker's, against the host's own code: how each attack ends, and what it costs."""

from __future__ import annotations

import pytest

from tests.attack.wire.conftest import ATTACKS, Measured
from tests.attack.wire.figures import MAX_PEAK_MIB

pytestmark = [pytest.mark.timeout(900), pytest.mark.alone]  # it compares what another kernel takes meanwhile

ENDS = {
    "four_gigabytes": "violation: a frame of 4,294,967,295 bytes",
    "zero_length": "violation: a frame of 0 bytes",
    "lying_part": "violation: a part is longer than its frame",
    "endless_parts": "violation: a frame's parts do not add up",
    "half_frame_and_gone": "lost",
    "half_frame_for_ever": "lost wall",
    "slow_drip": "lost wall",
    "never_reading": "lost",
    "deep_json": "violation: not a legal Stream",
    "huge_int": "violation: not a legal Metadata",
    "nan": "violation: not a legal Metadata",
    "infinity": "violation: not a legal Told",
    "duplicate_keys": "ok",
    "escaped_surrogate": "violation: not a legal Stream",
    "raw_surrogate": "ok",
    "wrong_types": "violation: not a legal ReplyContent",
    "endless_traceback": "violation: 4,000,063 bytes of JSON",
    "growing_output": "ok",
    "invalid_utf8": "ok",
    "growing_answer": "ok",
    "growing_answer_too_large": "violation: an answer of 2,097,156 bytes",
    "growing_prompts": "lost wall",
    "growing_batches": "lost wall",
    "reports": "ok",
    "pictures": "ok",
    "displayed_picture": "violation: message type 'display_data' on iopub",
    "password": "violation: message type 'input_request' on channel 4",
    "terminal": "error",
    "terminal_by_type": r"violation: message type 'x\x1b]0;OWNED\x07",
    "terminal_by_answer": "ok",
    "forged_parents": "ok",
    "early_idle": "ok",
    "second_reply": "violation: execute_reply to no open request",
    "reply_to_another": "violation: execute_reply to no open request",
    "reply_of_another_kind": "violation: airlock_value_reply to no open request",
    "another_comm": "violation: a message on a comm that the host did not give",
    "query_twice": "violation: a query id used twice",
    "query_again": "ok",
    "answer_after_the_cell": "violation: an answer outside a cell",
    "two_answers": "violation: an answer outside a cell, or a second one",
    "dead_and_alive": "lost wall",
    "output_flood": "violation: a flood",
    "small_output_flood": "violation: a flood",
    "comm_open_storm": "violation: a flood",
    "million_queries": "violation: a flood",
    "endless_context": "violation: a flood",
    "endless_empty_pieces": "violation: a flood",
    "many_contexts": "violation: more than 1,000 contexts on their way at once",
    "context_of_two_forms": "violation: a context of two forms",
    "too_large_a_piece": "violation: a piece of a context has one buffer of at most 1,048,576 bytes",
    "children_of_nothing": "ok",
    "children_that_do_not_match": "violation: a child run's buffers do not match its questions",
    "another_tool": r"violation: a call of 'lookup\x1b]0;OWNED\x07",
    "too_large_a_tool_call": "violation: a call of a tool has one buffer, of at most 1,000 bytes here",
    "million_in_batches": "violation: a flood",
    "after_the_limit": "ok",
    "gigabytes_after_the_limit": "violation: a flood",
    "too_large_a_prompt": "violation: prompts of 2,097,153 bytes",
    "long_output": "violation: 580,0",
    "harmless": "ok",
    "hello_storm": "violation: a flood",
    "silent_start": "never answered",
    "growing_lists": "ValueUnavailable: it has too many items",
    "growing_objects": "ValueUnavailable: it has too many items",
    "growing_string": "a value",
    "growing_string_too_large": "ValueUnavailable: it has too many items, or too long a text",
    "deep_value": "ValueUnavailable: it is nested too deep",
    "nan_value": "ProtocolViolation: a value that is not JSON",
}
SEEN = {
    "duplicate_keys": "last",
    "raw_surrogate": "a\ufffd\ufffd\ufffdb",
    "pictures": "plain",
    "early_idle": "after",
    "after_the_limit": "2000 refused",
    "children_of_nothing": "3 refused",
    "harmless": "hello",
}
"""Output of attacks that the host takes as text, all of it."""


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_ends_with_the_right_reason_within_the_hosts_memory(measured: Measured, attack: str) -> None:
    outcome = measured[attack]
    assert outcome["ended"].startswith(ENDS[attack])
    assert outcome["peak_mib"] <= MAX_PEAK_MIB
    if attack in SEEN:
        assert outcome["seen"] == SEEN[attack]


def test_late_output_is_dropped_and_counted(measured: Measured) -> None:
    assert measured["forged_parents"]["late_chars"] == 5 * len("late")
    assert measured["forged_parents"]["seen"] == ""


def test_another_kernel_in_the_same_process_goes_on(measured: Measured) -> None:
    """All its cells had the right result, or the measurement would have failed; how much slower is printed."""
    assert [name for name in ATTACKS if measured[name]["took_s"] > 1 and measured[name]["honest_cells"] < 10] == []


def test_no_attack_leaves_memory_behind(measured: Measured) -> None:
    assert measured[ATTACKS[-1]]["idle_mib"] - measured[ATTACKS[0]]["idle_mib"] <= MAX_PEAK_MIB
