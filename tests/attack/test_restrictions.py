"""Each restriction and each attack: stopped in a locked box, stopped by that setting alone, and possible without.

The report at the end of the session is made here; README.md says how to read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.audit.controls import CONTROLS
from sandbox.engine import _address, connect
from sandbox.host import Host
from sandbox.spec import Isolation
from tests.attack.attack import LEVELS, Attack, Need
from tests.attack.exhaustion import EXHAUSTION, EXHAUSTION_SPEC, OFF_LIMITS
from tests.attack.facts import offered, wants
from tests.attack.laboratory import Kind, Laboratory, Said, alone, without
from tests.attack.off import KEPT, OFF
from tests.attack.privileges import PRIVILEGES
from tests.attack.reaching import REACHING
from tests.attack.report import Line, Status, add
from tests.attack.required import demand, why_not
from tests.boxes import SMALL

KINDS = (
    Kind(attacks=(*REACHING, *PRIVILEGES), spec=SMALL, off=OFF),
    Kind(attacks=EXHAUSTION, spec=EXHAUSTION_SPEC, off=OFF | OFF_LIMITS),
)
ATTACKS = {attack.name: attack for kind in KINDS for attack in kind.attacks}


@pytest.fixture(scope="module")
def info(box_host: Host) -> dict[str, Any]:
    """The engine's description of itself."""
    return asyncio.run(box_host.engine.info())


@pytest.fixture(scope="module")
def laboratory(request: pytest.FixtureRequest, box_host: Host, info: dict[str, Any]) -> Iterator[Laboratory]:
    chosen = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    with offered() as facts:
        known = {"name": info["Name"], "kernel": info["KernelVersion"]}
        yield Laboratory(box_host, [kind.of(chosen) for kind in KINDS], facts | known)


@pytest.fixture(scope="module")
def wanting(image_id: str) -> dict[Need, str]:
    """What the engine does not offer to a control, and why."""
    client = connect()
    try:
        has_bridge = bool(client.networks(names=["bridge"]))
    finally:
        client.close()
    return wants(str(_address().get("base_url") or "unix:///var/run/docker.sock"), has_bridge=has_bridge)


def tell(attack: Attack, level: Isolation, status: Status, reason: str = "") -> None:
    """Put a line for each of its settings into the report."""
    for setting in attack.stopped_by:
        also = tuple(other for other in attack.stopped_by if other != setting)
        add(Line(setting=setting, level=level, attack=attack.name, status=status, reason=reason, also=also))


@pytest.mark.timeout(400)  # the first test of a level fills all its boxes
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_stopped_by_each_of_its_settings_and_works_without_them(
    request: pytest.FixtureRequest, wanting: dict[Need, str], level: Isolation, name: str
) -> None:
    attack = ATTACKS[name]
    if reason := why_not(level):
        tell(attack, level, "not available here", reason)
        demand(level)
    said = request.getfixturevalue("laboratory").said(level)
    if reason := attack.not_available.get(level, ""):
        tell(attack, level, "not available here", reason)
        assert said.get((name, frozenset()), "nothing") not in attack.worked
        return
    problems = wrong_where_stopped(attack, level, said)
    reason = attack.no_control.get(level) or (wanting.get(attack.needs, "") if attack.needs else "")
    if not reason and (word := said[name, without(attack)]) in attack.absent:
        reason = f"it says {word} also where nothing stops it"
    if not reason:
        problems += wrong_without(attack, level, said)
    tell(attack, level, "NOT HELD" if problems else "no control on this kernel" if reason else "held", reason)
    assert not problems, "\n".join(problems)


def wrong_where_stopped(attack: Attack, level: Isolation, said: Said) -> list[str]:
    """What it says in a locked box that it must not say."""
    word = said[attack.name, frozenset()]
    return [] if word in attack.held[level] else [f"a locked box: {word}"]


def wrong_without(attack: Attack, level: Isolation, said: Said) -> list[str]:
    """What it says without the settings that stop it, and with each of them alone."""
    word = said[attack.name, without(attack)]
    found = [] if word in attack.worked else [f"a box without {', '.join(attack.stopped_by)}: {word}"]
    for setting in attack.stopped_by:
        word = said[attack.name, alone(attack, setting)]
        if word not in attack.held[level]:
            found.append(f"a box with {setting} alone: {word}")
    return found


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("setting", "why"), KEPT.items(), ids=KEPT.keys())
def test_what_no_attack_can_show_is_kept_by_the_audit(level: Isolation, setting: str, why: str) -> None:
    if reason := why_not(level):
        add(Line(setting=setting, level=level, attack="none", status="not available here", reason=reason))
        demand(level)
    found = {finding for control in CONTROLS if (finding := control.setting) == setting}
    assert found
    add(Line(setting=setting, level=level, attack="none", status="kept by the audit, no attack", reason=why))


def test_every_setting_has_an_attack_or_a_reason_for_having_none() -> None:
    attacked = {setting for attack in ATTACKS.values() for setting in attack.stopped_by}
    assert attacked | set(KEPT) == {control.setting for control in CONTROLS}
    assert not attacked & set(KEPT)


def test_every_attack_says_its_outcome_at_every_level() -> None:
    assert len(ATTACKS) == sum(len(kind.attacks) for kind in KINDS)
    for attack in ATTACKS.values():
        assert set(attack.held) | set(attack.not_available) == set(LEVELS), attack.name
        for words in attack.held.values():
            assert not words & attack.worked, attack.name
