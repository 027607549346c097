"""One line of the printed table, and the clock that all measurements share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Target:
    """What the ratio should be: at least, or at most, `value`."""

    relation: Literal["at least", "at most"]
    value: float

    def met(self, ratio: float) -> bool:
        return ratio >= self.value if self.relation == "at least" else ratio <= self.value

    def __str__(self) -> str:
        return f"{self.relation} {self.value:g}"


@dataclass(frozen=True)
class Row:
    """A measurement beside what it is compared with.

    Attributes:
        what: was measured.
        measured: the number with its unit.
        against: the baseline: what it is, and its number with its unit.
        ratio: measured / baseline, or baseline / measured where that is the speed-up; `what` or `against` says which.
        target: of the ratio; None where there is none.
    """

    what: str
    measured: str
    against: str
    ratio: float
    target: Target | None = None

    @property
    def verdict(self) -> str:
        return "" if self.target is None else "met" if self.target.met(self.ratio) else "MISSED"


def cpu_seconds(work: Callable[[], object]) -> float:
    """Seconds of processor time that `work` takes in this process: what others run on the machine hardly counts."""
    began = time.process_time()
    work()
    return time.process_time() - began
