"""Holds what was seen against the aims. Pure: figures in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.serving.figures import Shot, median, middle, percentile

OURS = "ours"
TIMES_MLFLOW = 12.0
TIMES_FASTEST = 2.0
OF_LIBRARY = 0.85
TIMES_ONE_WORKER = 1.7
GATEWAY_MS = 0.4
OF_UNCAPTURED = 0.95
SWITCH_MS = {1: 10.0, 200: 50.0}
REPLICA_MB = 220.0
READY_SECONDS = 5.0
# The generator and the gateway need processors of their own for a direct comparison.
DIRECT_CPUS = 4


@dataclass(frozen=True)
class Verdict:
    """One aim and what was seen. `holds` None: what it needs was not measured."""

    aim: str
    seen: str
    peers: str = ""
    holds: bool | None = None


@dataclass(frozen=True)
class Switches:
    """Weight changes under full load, with so many endpoints configured. Times in ms."""

    endpoints: int
    forward: Sequence[float]  # from the rename to the first answer of the new revision
    back: Sequence[float]
    last_old: Sequence[float]  # to the start of the last request that the old one still answered
    ordered: Sequence[float]  # from the call, which also writes and syncs the file, to the rename
    requests: int
    failed: int
    failures: Sequence[str] = ()


@dataclass(frozen=True)
class Start:
    model: str
    ready_seconds: float
    rss_mb: float  # after it has served


@dataclass
class Figures:
    """Everything that was measured."""

    cpus: int
    peers: Sequence[str]
    shots: list[Shot] = field(default_factory=list)
    library: dict[str, list[float]] = field(default_factory=dict)  # model -> calls/s of each round
    gateway: list[tuple[Shot, Shot]] = field(default_factory=list)  # through it, past it
    capture: list[tuple[Shot, Shot]] = field(default_factory=list)  # with, without
    workers: list[tuple[Shot, Shot]] = field(default_factory=list)  # two, one
    switches: list[Switches] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # what could not be measured -> why

    def of(self, system: str, model: str, concurrency: int) -> Shot | None:
        """It gives the median round of one combination; None when there is none."""
        found = [
            shot
            for shot in self.shots
            if (shot.system, shot.model, shot.concurrency) == (system, model, concurrency)
        ]
        return middle(found) if found else None


def judge(figures: Figures) -> list[Verdict]:
    """It judges every aim."""
    return [
        *_linear(figures),
        *[_trees(figures, model) for model in ("lightgbm", "forest")],
        _workers(figures),
        _gateway(figures),
        _capture(figures),
        *[_switch(figures, endpoints) for endpoints in SWITCH_MS],
        _memory(figures),
        _ready(figures),
        _no_failures(figures),
    ]


def _linear(figures: Figures) -> list[Verdict]:
    ours = figures.of(OURS, "linear", 8)
    peers = {name: figures.of(name, "linear", 8) for name in figures.peers}
    found = {name: shot for name, shot in peers.items() if shot is not None}
    all_there = ours is not None and len(found) == len(peers) and bool(found)
    rate = ours.rate if ours else 0.0
    slow = found.get("mlflow")
    fastest = max((shot.rate for shot in found.values()), default=0.0)
    best_p99 = min((shot.p99 for shot in found.values()), default=0.0)
    rates = _listed({name: f"{shot.rate:.0f}/s" for name, shot in found.items()}, figures)
    tails = _listed({name: f"{shot.p99:.1f} ms" for name, shot in found.items()}, figures)
    times_mlflow = rate / slow.rate if slow and slow.rate else 0.0
    times_fastest = rate / fastest if fastest else 0.0
    return [
        Verdict(
            f"linear, 8 callers: at least {TIMES_MLFLOW:g}x mlflow models serve",
            f"{times_mlflow:.1f}x ({rate:.0f}/s)" if ours and times_mlflow else "",
            f"mlflow {slow.rate:.0f}/s" if slow else _listed({}, figures),
            times_mlflow >= TIMES_MLFLOW if ours and slow and slow.rate else None,
        ),
        Verdict(
            f"linear, 8 callers: at least {TIMES_FASTEST:g}x the fastest peer",
            f"{times_fastest:.1f}x ({rate:.0f}/s)" if ours and times_fastest else "",
            rates,
            times_fastest >= TIMES_FASTEST if all_there and fastest else None,
        ),
        Verdict(
            "linear, 8 callers: p99 lower than every peer's",
            f"{ours.p99:.1f} ms" if ours else "",
            tails,
            ours.p99 < best_p99 if all_there and ours else None,
        ),
    ]


def _trees(figures: Figures, model: str) -> Verdict:
    """The share of the library's own speed; at the concurrency of the other comparisons."""
    library = median(figures.library[model]) if figures.library.get(model) else 0.0
    ours = figures.of(OURS, model, 8)
    shares = {
        name: f"{100 * shot.rate / library:.0f} %"
        for name in figures.peers
        if library and (shot := figures.of(name, model, 8)) is not None
    }
    share = ours.rate / library if ours and library else 0.0
    return Verdict(
        f"{model}, 8 callers: at least {100 * OF_LIBRARY:.0f} % of the library in a loop",
        f"{100 * share:.0f} % ({ours.rate:.0f}/s of {library:.0f}/s)" if ours and library else "",
        _listed(shares, figures),
        share >= OF_LIBRARY if ours and library and len(shares) == len(figures.peers) else None,
    )


def spread(shot: Shot) -> float:
    """How many equally busy workers the work would have filled: two that share evenly give 2."""
    times = [seconds for seconds in shot.worker_cpu_seconds if seconds > 0]
    return sum(times) / max(times) if times else 0.0


def _workers(figures: Figures) -> Verdict:
    aim = f"two workers: at least {TIMES_ONE_WORKER:g}x of one"
    pairs = [pair for pair in figures.workers if all(shot.requests for shot in pair)]
    if not pairs:
        return Verdict(aim, _why(figures, "workers"))
    direct = median([two.rate / one.rate for two, one in pairs])
    # As if each worker had a processor: requests per second of the servers' time, times how
    # evenly the workers shared it.
    scaled = median([one.cpu_ms / two.cpu_ms * spread(two) for two, one in pairs])
    seen = f"{direct:.2f}x directly, {scaled:.2f}x per CPU second and worker"
    if figures.cpus < DIRECT_CPUS:
        return Verdict(aim, f"{seen} (judged, {figures.cpus} CPUs)", "", scaled >= TIMES_ONE_WORKER)
    return Verdict(aim, f"{seen} (judged: directly)", "", direct >= TIMES_ONE_WORKER)


def _gateway(figures: Figures) -> Verdict:
    aim = f"the gateway adds at most {GATEWAY_MS:g} ms at p50 (1 caller)"
    added = {
        callers: [a.p50 - b.p50 for a, b in figures.gateway if a.concurrency == callers]
        for callers in (1, 8)
    }
    if not added[1]:
        return Verdict(aim, _why(figures, "gateway"))
    seen = f"{median(added[1]):.2f} ms"
    if added[8]:
        seen += f" (8 callers: {median(added[8]):.2f} ms)"
    return Verdict(aim, seen, "", median(added[1]) <= GATEWAY_MS)


def _capture(figures: Figures) -> Verdict:
    aim = f"capture costs at most {100 * (1 - OF_UNCAPTURED):.0f} % of throughput (8 callers)"
    pairs = [pair for pair in figures.capture if all(shot.requests for shot in pair)]
    if not pairs:
        return Verdict(aim, _why(figures, "capture"))
    cost = 1 - median([with_it.rate / without.rate for with_it, without in pairs])
    more = 1 - median([without.cpu_ms / with_it.cpu_ms for with_it, without in pairs])
    seen = f"{100 * cost:.1f} % ({100 * more:.1f} % of CPU time)"
    return Verdict(aim, seen, "", cost <= 1 - OF_UNCAPTURED + 1e-9)


def _switch(figures: Figures, endpoints: int) -> Verdict:
    most = SWITCH_MS[endpoints]
    word = "endpoint" if endpoints == 1 else "endpoints"
    aim = f"{endpoints} {word}: weights change within {most:g} ms, back too, 0 failed"
    found = next((one for one in figures.switches if one.endpoints == endpoints), None)
    if found is None or not found.forward or not found.back:
        return Verdict(aim, _why(figures, "switches"))
    seen = (
        f"there {_tail(found.forward)}, back {_tail(found.back)} ms; "
        f"{found.failed} of {found.requests} failed"
    )
    p99 = max(percentile(found.forward, 99), percentile(found.back, 99))
    return Verdict(aim, seen, "", p99 < most and found.failed == 0)


def _memory(figures: Figures) -> Verdict:
    aim = f"a scikit-learn replica takes less than {REPLICA_MB:g} MiB"
    starts = [start for start in figures.starts if start.model in ("linear", "forest")]
    if not starts:
        return Verdict(aim, _why(figures, "starts"))
    seen = ", ".join(
        f"{model} {max(s.rss_mb for s in starts if s.model == model):.0f} MiB"
        for model in dict.fromkeys(start.model for start in starts)
    )
    return Verdict(aim, seen, "", max(start.rss_mb for start in starts) < REPLICA_MB)


def _ready(figures: Figures) -> Verdict:
    aim = f"a replica is ready within {READY_SECONDS:g} s"
    if not figures.starts:
        return Verdict(aim, _why(figures, "starts"))
    slowest = max(start.ready_seconds for start in figures.starts)
    return Verdict(
        aim, f"slowest of {len(figures.starts)}: {slowest:.1f} s", "", slowest < READY_SECONDS
    )


def _no_failures(figures: Figures) -> Verdict:
    """Not an aim of its own, but what makes the others worth something."""
    shots = [shot for shot in figures.shots if shot.system == OURS]
    failed = sum(shot.failed for shot in shots)
    requests = sum(shot.requests for shot in shots)
    peers = {
        name: str(sum(shot.failed for shot in figures.shots if shot.system == name))
        for name in dict.fromkeys(shot.system for shot in figures.shots)
        if name != OURS
    }
    return Verdict(
        "every answer is right",
        f"{failed} of {requests + failed} failed" if shots else "",
        _listed(peers, figures), failed == 0 if requests else None,
    )  # fmt: skip


def _tail(values: Sequence[float]) -> str:
    shown = [percentile(values, 50), percentile(values, 99), max(values)]
    return "p50 {:.1f} p99 {:.1f} max {:.1f}".format(*shown)


def _listed(words: Mapping[str, str], figures: Figures) -> str:
    absent = {name: "missing" for name in figures.peers if name not in words}
    return ", ".join(f"{name} {what}" for name, what in {**words, **absent}.items())


def _why(figures: Figures, what: str) -> str:
    return figures.missing.get(what, "not measured")
