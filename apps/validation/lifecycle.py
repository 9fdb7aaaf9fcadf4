"""Words of validation."""

from enum import StrEnum


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"  # every check has a verdict
    FAILED = "failed"  # the run itself could not be done; `reason` says why
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (RunStatus.DONE, RunStatus.FAILED, RunStatus.CANCELLED)


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    UNCLEAR = "unclear"  # too little to tell; never a pass
    SKIPPED = "skipped"  # does not apply, and says why


def overall(verdicts: list[Verdict]) -> Verdict:
    """The worst of all: one failed check fails the run, one unclear one leaves it unclear."""
    for worst in (Verdict.FAIL, Verdict.UNCLEAR):
        if worst in verdicts:
            return worst
    return Verdict.PASS if Verdict.PASS in verdicts or verdicts else Verdict.UNCLEAR
