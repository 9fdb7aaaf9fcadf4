"""Goes through the parts of the benchmark, one after the other, and collects the figures."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from apps.baselines.layout import SCORE
from apps.builds.steps.uv import UvFailed
from apps.core.errors import Unavailable
from apps.quality import cbpe
from benchmarks.monitoring import carloan, environments, ingest, ours, peers, speed, truth
from benchmarks.monitoring.aims import (
    HUNDRED_MILLION,
    MILLION,
    OURS,
    Drift,
    Estimate,
    Figures,
    Judged,
    Timed,
)
from benchmarks.monitoring.carloan import Loans
from benchmarks.monitoring.ours import Judge
from benchmarks.monitoring.peers import PeerFailed
from benchmarks.monitoring.truth import CASES, ROWS, UNCHANGED, Case


@dataclass(frozen=True)
class Length:
    """How many windows are judged and how often each question is asked."""

    unchanged: dict[str, dict[int, int]]  # tool -> rows of a window -> windows
    changed: dict[str, int]  # tool -> windows of each case
    times: int
    whole_million: bool  # whether peers get all of it, or the reference's length
    ingested: int  # predictions of each shape


FULL = Length(
    unchanged={
        OURS: {1_000: 20_000, 10_000: 2_000},  # five alarms of 10,000 may be chance
        "evidently": {1_000: 40, 10_000: 30},  # 1.3 s each
        "nannyml": {1_000: 1_000, 10_000: 300},
    },
    changed={OURS: 200, "evidently": 16, "nannyml": 200},
    times=speed.TIMES,
    whole_million=True,
    ingested=400_000,
)
QUICK = Length(
    unchanged={
        OURS: {1_000: 300, 10_000: 100},
        "evidently": {1_000: 6, 10_000: 3},
        "nannyml": {1_000: 200, 10_000: 20},
    },
    changed={OURS: 40, "evidently": 2, "nannyml": 40},
    times=10,
    whole_million=False,
    ingested=100_000,
)


@dataclass
class Bench:
    """One run, with its folder below the data directory."""

    folder: Path
    length: Length
    chosen: Sequence[str]
    figures: Figures
    pythons: dict[str, Path] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.folder / "monitoring"

    def prepare(self) -> None:
        """It makes the peers' environments, so that nothing installs later."""
        self.work.mkdir(parents=True, exist_ok=True)
        for name in self.chosen:
            try:
                self.pythons[name] = environments.made(name, self.folder / "environments")
            except (UvFailed, Unavailable) as error:
                self.miss(name, f"cannot be installed: {error}")

    @cached_property
    def judge(self) -> Judge:
        return ours.of_truth()

    def truth(self) -> None:
        """It lets all tools judge the same windows of known truth.

        The peers do so beside us, one after the other: half of the processors would be idle.
        """
        digests: dict[tuple[str, int, int], int] = {}
        with ThreadPoolExecutor(1) as beside:
            answers = {name: beside.submit(self._find, name) for name in self.pythons}
            try:
                for case, rows in _cases():
                    self._judge(case, rows, digests)
                for name, answer in answers.items():
                    self._compare(name, answer.result(), digests)
            except BaseException:
                beside.shutdown(wait=False, cancel_futures=True)
                peers.stop()
                raise

    def car_loan(self) -> None:
        """It lets all tools judge the car-loan windows."""
        loans = self._loans()
        judge = _of_loans(loans)
        fired = [judge.fired(window) for window in loans.windows()]
        self.figures.car_loan.append(carloan.judged(OURS, fired))
        for name in self.pythons:
            if answer := self._ask(name, "car_loan", loans.question):
                self.figures.car_loan.append(carloan.judged(name, answer["alarms"]))
        for one in self.figures.car_loan:
            say(f"{one.tool}: {one.found}/{one.changed} found, {one.wrong}/{one.unchanged} false")

    def drift(self) -> None:
        """It asks for drift over windows of different length, and lets peers read the rows."""
        until, facts, times = speed.moment(), self.judge.facts, self.length.times
        window = speed.million(self.judge, until, self.work)
        self._say_timed(speed.drift_of(MILLION, window, times))
        long = speed.hundred_million(facts, until)
        self._say_timed(speed.drift_of(HUNDRED_MILLION, long, times))
        predictions = speed.HOUR_MINUTES * speed.A_MINUTE
        self._say_drift(speed.alone(window, predictions, times))
        question = {"reference": str(self.work / "reference.parquet")}
        question["window"] = str(self.work / "window.parquet")
        if not self.length.whole_million:
            question["window"], predictions = question["reference"], truth.REFERENCE_ROWS
        for name in self.pythons:
            if answer := self._ask(name, "speed", question):
                self._say_drift(
                    Drift(
                        name, predictions, answer["seconds"], answer["load_seconds"],
                        answer["peak_mb"],
                    )
                )  # fmt: skip

    def charts(self) -> None:
        """It has charts of long times drawn."""
        until = speed.moment()
        for timed in (
            *speed.week(until, self.length.times),
            *speed.year(until, self.length.times),
        ):
            self._say_timed(timed)

    def ingest(self) -> None:
        """It takes predictions from the spool to committed files and sums."""
        logging.getLogger("apps.monitoring").setLevel(logging.WARNING)  # it tells of each file
        try:
            rates = ingest.run(self.length.ingested)["predictions_per_second"]
            self.figures.ingested = {shape: float(rate) for shape, rate in rates.items()}
        except (AssertionError, TimeoutError, TypeError) as error:
            self.miss("ingest", str(error))  # counted wrongly, or not at all
        for shape, rate in self.figures.ingested.items():
            say(f"{shape}: {rate:,.0f} predictions/s")

    def estimates(self) -> None:
        """It estimates quality without labels and holds it against the real one."""
        loans = self._loans()
        aucs, accuracies = loans.realised()
        found = {OURS: _estimated(loans)}
        if "nannyml" in self.pythons and (answer := self._ask("nannyml", "cbpe", loans.question)):
            found["nannyml"] = answer
        for tool, one in found.items():
            estimate = Estimate(
                tool,
                carloan.error(one["auc"], aucs),
                carloan.error(one["accuracy"], accuracies),
                one["seconds"],
            )
            self.figures.estimates.append(estimate)
            say(
                f"{tool}: AUC off by {estimate.auc_error:.4f}, "
                f"accuracy by {estimate.accuracy_error:.4f}"
            )

    def miss(self, name: str, words: str) -> None:
        """It keeps why something cannot be measured, which its aims then say."""
        self.figures.missing[name] = words
        say(f"{name}: {words}")

    def _find(self, name: str) -> Any:
        asked = [(c.name, rows, self._windows(name, c, rows)) for c, rows in _cases()]
        return self._ask(name, "find", {"asked": asked})

    def _compare(self, name: str, answer: Any, digests: dict[tuple[str, int, int], int]) -> None:
        """It keeps what a peer said. Raises: PeerFailed where it drew other windows."""
        for (case, rows), found in zip(_cases(), (answer or {}).get("answers", []), strict=False):
            if found["digest"] != digests[case.name, rows, self._windows(name, case, rows)]:
                raise PeerFailed(f"{name} drew other windows of {case.name}")
            self._note(name, case, rows, found["alarms"], found["seconds"])

    def _windows(self, tool: str, case: Case, rows: int) -> int:
        length = self.length
        return length.unchanged[tool][rows] if case is UNCHANGED else length.changed[tool]

    def _judge(self, case: Case, rows: int, digests: dict[tuple[str, int, int], int]) -> None:
        """It judges windows of one case by our own rule, and keeps a checksum for each number."""
        start, alarms, digest = time.perf_counter(), [], 0
        for index in range(self._windows(OURS, case, rows)):
            table = truth.window(case, rows, index)
            digest = truth.digest(table, digest)
            digests[case.name, rows, index + 1] = digest
            alarms.append(self.judge.fired(ours.as_rows(table)))
        self._note(OURS, case, rows, alarms, time.perf_counter() - start)

    def _note(
        self, tool: str, case: Case, rows: int, alarms: Sequence[Sequence[str]], seconds: float
    ) -> None:
        judged = told(tool, case, rows, alarms, seconds)
        self.figures.judged.append(judged)
        say(
            f"{case.name}, {rows} rows, {tool}: {judged.found} found and {judged.alarms} with "
            f"false alarms of {judged.windows} ({seconds:.1f} s)"
        )

    def _loans(self) -> Loans:
        """It gives the set that comes with NannyML, written once. Raises: PeerFailed."""
        folder = self.work / "car-loan"
        loans = Loans(folder / "reference.parquet", folder / "analysis.parquet")
        if not loans.analysis.exists():
            if "nannyml" not in self.pythons:
                raise PeerFailed("it comes with NannyML, which is not there")
            folder.mkdir(parents=True, exist_ok=True)
            peers.ask("nannyml", self.pythons["nannyml"], "export", {"folder": str(folder)}, folder)
        return loans

    def _ask(self, name: str, task: str, question: dict[str, Any]) -> Any:
        """It asks a peer and goes on without it where it fails."""
        try:
            return peers.ask(name, self.pythons[name], task, question, self.work / name)
        except PeerFailed as error:
            self.miss(f"{name}, {task}", str(error))
            return None

    def _say_timed(self, timed: Timed) -> None:
        self.figures.timed.append(timed)
        say(f"{timed.question}: p50 {timed.p50:.1f} ms, p95 {timed.p95:.1f} ms")

    def _say_drift(self, drift: Drift) -> None:
        self.figures.drift.append(drift)
        say(
            f"drift of {drift.predictions:,} predictions, {drift.tool}: {drift.seconds:.3f} s, "
            f"{drift.peak_mb:.0f} MiB"
        )


def parts(bench: Bench) -> dict[str, Callable[[], None]]:
    """It gives everything that is measured, in order."""
    return {
        "truth": bench.truth,
        "car_loan": bench.car_loan,
        "drift": bench.drift,
        "charts": bench.charts,
        "ingest": bench.ingest,
        "estimates": bench.estimates,
    }


def say(words: str) -> None:
    """It tells how far the run has come."""
    print(f"  {words}", flush=True)


def told(
    tool: str, case: Case, rows: int, alarms: Sequence[Sequence[str]], seconds: float
) -> Judged:
    """It sums up what a tool said of windows: the features that fired in each."""
    wrong = [[name for name in names if name != case.feature] for names in alarms]
    return Judged(
        tool,
        case.name,
        rows,
        windows=len(alarms),
        found=sum(case.feature in names for names in alarms),
        alarms=sum(bool(names) for names in wrong),
        # asdict() would count the items of a Counter.
        by_feature=dict(Counter(name for names in wrong for name in names)),
        seconds=seconds,
    )


def _cases() -> list[tuple[Case, int]]:
    return [*((UNCHANGED, rows) for rows in ROWS), *((case, ROWS[0]) for case in CASES[1:])]


def _of_loans(loans: Loans) -> Judge:
    return Judge(loans.rows(loans.reference), loans.labels(loans.reference), carloan.SCORE)


def _estimated(loans: Loans) -> dict[str, Any]:
    """It estimates each window from the counts of its scores, as the panel does."""
    judge = _of_loans(loans)
    start, first = time.perf_counter(), judge.facts.layout.slices[SCORE][0]
    shares = cbpe.shares_of(judge.facts.calibration)
    assert shares is not None
    found: dict[str, Any] = {"auc": [], "accuracy": []}
    for window in loans.windows():
        counts = judge.count(window)[first : first + 2 * len(shares)]
        figures = cbpe.estimate(shares, counts.reshape(2, -1).T)
        found["auc"].append(figures["roc_auc"].value)
        found["accuracy"].append(figures["accuracy"].value)
    return {**found, "seconds": time.perf_counter() - start}
