"""Waiting awake, and for how long that goes on."""

from __future__ import annotations

import pytest

from snakepit_port.worker import vigil
from snakepit_port.worker.vigil import Vigil

SECONDS = 10.0


class Peer:
    """Says something at the `n`-th look of a wait, or never. Each look takes a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.looks = 0
        self.says_at: int | None = None
        self.gave_way = 0
        monkeypatch.setattr(vigil, "perf_counter", lambda: self.now)
        monkeypatch.setattr(vigil, "_give_way", self._yielded)

    def _yielded(self) -> None:
        self.gave_way += 1

    def poll(self, timeout: int) -> list[str]:
        assert timeout == 0
        self.now += 1
        self.looks += 1
        return ["something"] if self.looks == self.says_at else []

    def looks_of(self, vigil: Vigil, says_at: int | None = None) -> int:
        """How often a wait looked."""
        self.looks, self.says_at = 0, says_at
        assert vigil.keep(self.poll) == ([] if says_at is None else ["something"])
        return self.looks


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Peer:
    return Peer(monkeypatch)


def test_what_is_there_is_taken_at_once(peer: Peer) -> None:
    assert peer.looks_of(Vigil(SECONDS), says_at=1) == 1
    assert peer.gave_way == 0


def test_what_comes_meanwhile_ends_the_wait_and_others_may_run_before(peer: Peer) -> None:
    assert peer.looks_of(Vigil(SECONDS), says_at=5) == 5
    assert peer.gave_way == 4


def test_a_wait_in_vain_ends_in_time(peer: Peer) -> None:
    assert peer.looks_of(Vigil(SECONDS)) == SECONDS + 1


def test_where_nothing_comes_few_waits_are_spent_awake(peer: Peer) -> None:
    vigil = Vigil(SECONDS)
    for _ in range(100):
        peer.looks_of(vigil)
    spent = [peer.looks_of(vigil) > 1 for _ in range(1700)]
    assert sum(spent) == pytest.approx(100, abs=1)


def test_where_every_other_wait_is_worth_it_all_are(peer: Peer) -> None:
    vigil = Vigil(SECONDS)
    for _ in range(1000):
        assert peer.looks_of(vigil) > 1
        assert peer.looks_of(vigil, says_at=3) == 3


def test_after_a_long_silence_it_is_soon_worth_it_again(peer: Peer) -> None:
    vigil = Vigil(SECONDS)
    for _ in range(1000):
        peer.looks_of(vigil)

    def wait() -> bool:
        """One of those that would be worth it: whether it was spent awake."""
        peer.looks, peer.says_at = 0, 3
        return bool(vigil.keep(peer.poll))

    first = next(n for n in range(100) if wait())
    assert first <= 16
    assert all(wait() for _ in range(100))
