"""Holds what was seen against the aims. Pure: figures in, verdicts out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.monitoring import truth
from benchmarks.serving.aims import Verdict
from benchmarks.serving.figures import percentile

OURS = "ours"
FALSE_ALARMS = 0.001  # of windows of which nothing changed
FOUND = 0.95  # of windows that changed
DRIFT_MS = 50.0
WEEK_MS = 50.0
YEAR_MS = 200.0
# Below that a ratio of two timings on a shared machine says nothing.
THE_SAME = 1.5
INGESTED = 50_000  # predictions of 30 features a second
MILLION, HUNDRED_MILLION, WEEK, YEAR = "1 M", "100 M", "7 days by hour", "a year by day"


@dataclass(frozen=True)
class Judged:
    """What one tool said of windows of one case."""

    tool: str
    case: str
    rows: int  # of a window
    windows: int
    found: int  # windows in which the feature that changed fired
    alarms: int  # windows in which one that did not change fired
    by_feature: Mapping[str, int]  # such alarms
    seconds: float


@dataclass(frozen=True)
class CarLoan:
    """What one tool said of the car-loan set: of places that changed and of the others."""

    tool: str
    found: int
    changed: int
    wrong: int
    unchanged: int
    wrongly: Sequence[str] = ()  # "window 3: car_value"

    @property
    def is_right(self) -> bool:
        return self.found == self.changed and not self.wrong


@dataclass(frozen=True)
class Timed:
    """One question to the panel's tables, asked many times. In ms."""

    question: str
    ms: Sequence[float]
    rows: int  # in the tables that it is answered from

    @property
    def p50(self) -> float:
        return percentile(self.ms, 50)

    @property
    def p95(self) -> float:
        return percentile(self.ms, 95)


@dataclass(frozen=True)
class Drift:
    """The drift of 30 features of one window of so many predictions."""

    tool: str
    predictions: int
    seconds: float
    load_seconds: float  # of the Parquet file; ours reads none
    peak_mb: float


@dataclass(frozen=True)
class Estimate:
    """How far quality estimated without labels lay from the real one, on average."""

    tool: str
    auc_error: float
    accuracy_error: float
    seconds: float


@dataclass
class Figures:
    """Everything that was measured."""

    peers: Sequence[str]
    judged: list[Judged] = field(default_factory=list)
    car_loan: list[CarLoan] = field(default_factory=list)
    timed: list[Timed] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    estimates: list[Estimate] = field(default_factory=list)
    ingested: dict[str, float] = field(default_factory=dict)  # shape -> predictions a second
    missing: dict[str, str] = field(default_factory=dict)  # what could not be measured -> why

    def of(self, tool: str, case: str, rows: int) -> Judged | None:
        wanted = (tool, case, rows)
        return next((j for j in self.judged if (j.tool, j.case, j.rows) == wanted), None)

    def time_of(self, question: str) -> Timed | None:
        return next((one for one in self.timed if one.question == question), None)


def percent(count: int, total: int) -> str:
    """It writes a share; less than a percent with a digit more, or 0.05 would be read as 0.1."""
    share = 100 * count / total
    return f"{share:.2f} %" if 0 < share < 1 else f"{share:.1f} %"


def judge(figures: Figures) -> list[Verdict]:
    """It judges every aim."""
    return [
        *[_false_alarms(figures, rows) for rows in truth.ROWS],
        *[_found(figures, case) for case in truth.CHANGED],
        _car_loan(figures),
        *[_quick(figures, what, DRIFT_MS, "drift of 30 features") for what in _WINDOWS],
        _the_same(figures),
        _lighter(figures),
        _quick(figures, WEEK, WEEK_MS, "requests of 5 revisions"),
        _quick(figures, YEAR, YEAR_MS, "requests at 100/s"),
        _ingest(figures),
    ]


_WINDOWS = (MILLION, HUNDRED_MILLION)


def _false_alarms(figures: Figures, rows: int) -> Verdict:
    aim = f"{rows:,} rows, nothing changed: alarms in at most {100 * FALSE_ALARMS:g} % of windows"
    case = truth.UNCHANGED.name
    ours = figures.of(OURS, case, rows)
    words = _each(figures, lambda tool: _share(figures.of(tool, case, rows), "alarms"))
    if ours is None:
        return Verdict(aim, _why(figures, "truth"), words)
    return Verdict(aim, _share(ours, "alarms"), words, ours.alarms <= FALSE_ALARMS * ours.windows)


def _found(figures: Figures, case: truth.Case) -> Verdict:
    rows = truth.ROWS[0]
    aim = f"{rows:,} rows, {case.words}: found in at least {100 * FOUND:g} % of windows"
    ours = figures.of(OURS, case.name, rows)
    words = _each(figures, lambda tool: _share(figures.of(tool, case.name, rows), "found"))
    if ours is None:
        return Verdict(aim, _why(figures, "truth"), words)
    return Verdict(aim, _share(ours, "found"), words, ours.found >= FOUND * ours.windows)


def _share(judged: Judged | None, what: str) -> str:
    if judged is None:
        return ""
    count = judged.alarms if what == "alarms" else judged.found
    return f"{percent(count, judged.windows)} ({count} of {judged.windows})"


def _car_loan(figures: Figures) -> Verdict:
    aim = "car loan: found in the right windows and nowhere else"
    by_tool = {one.tool: one for one in figures.car_loan}

    def words(tool: str) -> str:
        one = by_tool.get(tool)
        return f"{one.found}/{one.changed} and {one.wrong}/{one.unchanged}" if one else ""

    if OURS not in by_tool:
        return Verdict(aim, _why(figures, "car_loan"), _each(figures, words))
    return Verdict(aim, words(OURS), _each(figures, words), by_tool[OURS].is_right)


def _quick(figures: Figures, question: str, most_ms: float, what: str) -> Verdict:
    aim = f"{what}, {question}: under {most_ms:g} ms"
    timed = figures.time_of(question)
    if timed is None:
        part = "drift" if question in _WINDOWS else "charts"
        return Verdict(aim, _why(figures, part))
    seen = f"p50 {timed.p50:.1f}, p95 {timed.p95:.1f} ms ({len(timed.ms)} times)"
    return Verdict(aim, seen, "", timed.p95 < most_ms)


def _the_same(figures: Figures) -> Verdict:
    aim = f"drift of {HUNDRED_MILLION} takes as long as of {MILLION} (at most {THE_SAME:g}x)"
    less, more = figures.time_of(MILLION), figures.time_of(HUNDRED_MILLION)
    if less is None or more is None:
        return Verdict(aim, _why(figures, "drift"))
    times = more.p50 / less.p50
    return Verdict(aim, f"{times:.2f}x", "", times <= THE_SAME)


def _lighter(figures: Figures) -> Verdict:
    aim = f"drift of {MILLION}: quicker and in less memory than each peer from Parquet"
    by_tool = {one.tool: one for one in figures.drift}
    ours = by_tool.get(OURS)
    peers = [by_tool[name] for name in figures.peers if name in by_tool]

    def words(tool: str) -> str:
        one = by_tool.get(tool)
        if one is None or ours is None:
            return ""
        times = f"{one.seconds / ours.seconds:,.0f}x ({one.seconds:.1f} s)"
        fewer = f" for {one.predictions:,}" if one.predictions < ours.predictions else ""
        return f"{times}{fewer} {one.peak_mb:,.0f} MiB"

    if ours is None:
        return Verdict(aim, _why(figures, "drift"), _each(figures, words))
    seen = f"{1000 * ours.seconds:.1f} ms, {ours.peak_mb:.0f} MiB ({ours.predictions:,})"
    holds = all(ours.seconds < one.seconds and ours.peak_mb < one.peak_mb for one in peers)
    is_whole = len(peers) == len(figures.peers) and bool(peers)
    return Verdict(aim, seen, _each(figures, words), holds if is_whole else None)


def _ingest(figures: Figures) -> Verdict:
    aim = f"ingest: at least {INGESTED:,} predictions of 30 features a second"
    if not figures.ingested:
        return Verdict(aim, _why(figures, "ingest"))
    seen = ", ".join(f"{shape} {rate:,.0f}/s" for shape, rate in figures.ingested.items())
    return Verdict(aim, seen, "", min(figures.ingested.values()) >= INGESTED)


def _each(figures: Figures, words: Callable[[str], str]) -> str:
    return ", ".join(f"{name} {words(name) or 'missing'}" for name in figures.peers)


def _why(figures: Figures, what: str) -> str:
    return figures.missing.get(what, "not measured")
