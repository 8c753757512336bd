"""Configurations of Snakepit as its documents, examples and users have them, each with what it
becomes, exactly: `legacy_cases/*.txt`.

A case is its name after `##`, the configuration as the host sends it, the tree it becomes, and the
report: a line for each key, and after `!` the mistakes. The cases have all settings that Snakepit's
keys can become; of those that this version has not, the report has to say so.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from snakepit_port.config import ConfigError, load_terms
from snakepit_port.config.legacy import convert, recognised
from snakepit_port.config.legacy_rules import RULES
from snakepit_port.config.model import PROFILE_KINDS
from snakepit_port.config.settings import POOL
from snakepit_port.config.terms import plain_tree

# Settings that a version of ours may not have yet.
LATER = {
    *("affinity", "health_check_interval", "health_check_timeout", "max_restarts", "max_seconds"),
    *("memory_threshold_mb", "session_ttl", "thread_safety_checks", "threads_per_worker"),
    *("worker_max_requests", "worker_ttl"),
}


class Case(NamedTuple):
    name: str
    source: Any
    tree: dict[str, Any]
    report: list[str]
    mistakes: list[str]


def cases() -> list[Case]:
    found = []
    for file in sorted(Path(__file__).with_name("legacy_cases").glob("*.txt")):
        for text in file.read_text(encoding="utf-8").removeprefix("## ").split("\n\n## "):
            head, tree, told = text.strip().split("\n=>\n")
            name, _, source = head.partition("\n")
            lines = told.split("\n")
            mistakes = [line.removeprefix("! ") for line in lines if line.startswith("! ")]
            report = [line for line in lines if not line.startswith("! ")]
            found.append(
                Case(name, ast.literal_eval(source), ast.literal_eval(tree), report, mistakes)
            )
    return found


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_what_it_becomes(case: Case) -> None:
    source = plain_tree(case.source, [])
    assert recognised(source)
    conversion = convert(source)
    lacking = {name for name in LATER if name not in POOL.settings}
    for change, line in zip(conversion.changes, case.report, strict=True):
        missing = change.note.partition("it has no setting ")[2].split(";")[0]
        if missing in lacking:
            assert change.outcome == "unsupported"
            assert line.startswith(f"{change.key}: ")
        else:
            assert str(change) == line
    pools = [
        {name: value for name, value in pool.items() if name not in lacking}
        for pool in case.tree["pools"]
    ]
    assert conversion.tree() == {**case.tree, "pools": pools}
    assert not recognised(conversion.tree())


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_it_is_accepted_or_told_what_is_wrong(case: Case) -> None:
    threads = "thread" not in PROFILE_KINDS and "'worker_profile': 'thread'" in str(case.source)
    try:
        config = load_terms(case.source, "/base")
    except ConfigError as error:
        told = [str(problem) for problem in error.problems]
        assert [line for line in told if not (threads and "worker_profile" in line)] == (
            case.mistakes
        )
    else:
        assert case.mistakes == []
        assert [change.key for change in config.changes]


def test_rules_name_settings_that_there_are_or_will_be() -> None:
    pool = {rule.to for rule in RULES.values() if "." not in rule.to} - {""}
    assert pool - set(POOL.settings) <= LATER


def test_the_table_has_every_rule() -> None:
    places = {"snakepit", "pools", "pool_config"}
    names = {
        ".".join(part for part in entry.path if isinstance(part, str) and part not in places)
        for case in cases()
        for entry in convert(plain_tree(case.source, [])).entries
    }
    assert [
        rule
        for rule in RULES
        if rule not in names
        and not (rule.endswith("*") and any(name.startswith(rule[:-1]) for name in names))
    ] == []


def test_the_table_is_large_enough() -> None:
    names = [case.name for case in cases()]
    assert len(set(names)) == len(names) >= 40
