"""What Home shows: what needs the reader, what is moving, and which version serves where."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Max, Q, Sum
from django.db.models.functions import TruncMinute

from apps.accounts.models import User
from apps.accounts.selectors import teams_of
from apps.core.templatetags.formats import revision_index
from apps.incidents.lifecycle import State
from apps.incidents.models import Incident
from apps.incidents.selectors import incidents
from apps.monitoring.models import Rollup
from apps.promotions.lifecycle import Status
from apps.promotions.models import Promotion
from apps.registry.models import Model, Version
from apps.rollouts.lifecycle import Phase, Verdict
from apps.rollouts.models import Rollout
from apps.serving.models import Endpoint, Environment

MINUTES = 30
RECENT = timedelta(minutes=5)
REVERTED_FOR = timedelta(hours=24)
MOST_INCIDENTS = 8
SORTS = ("model", "environment", "since", "rate", "errors")


@dataclass(frozen=True)
class Need:
    """One thing that waits for the reader."""

    state: str
    title: str
    text: str
    url: str
    at: datetime | None


@dataclass(frozen=True)
class Traffic:
    """What callers of an endpoint got lately; None is not measured, never zero."""

    values: tuple[int | None, ...] = ()  # requests by minute
    rate: float | None = None  # requests per second
    errors: float | None = None  # share answered by no model or with 5xx


@dataclass(frozen=True)
class Moving:
    rollout: Rollout
    parts: tuple[dict[str, object], ...]
    traffic: Traffic


@dataclass(frozen=True)
class Row:
    """One model in one environment; without an endpoint when nothing serves it yet."""

    model: Model
    newest: int | None
    endpoint: Endpoint | None = None
    version: Version | None = None
    rollout: Rollout | None = None
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def environment(self) -> str:
        return self.endpoint.environment.name if self.endpoint else ""

    @property
    def since(self) -> datetime | None:
        return self.endpoint.traffic_changed_at if self.endpoint else None

    @property
    def state(self) -> str:
        if self.rollout is not None:
            return self.rollout.phase
        return "serving" if self.version else "stopped" if self.endpoint else "registered"


@dataclass(frozen=True)
class Overview:
    needs: tuple[Need, ...]
    moving: tuple[Moving, ...]
    rows: tuple[Row, ...]
    environments: tuple[str, ...]
    asked: Mapping[str, str]
    total: int  # rows before the filter
    states: tuple[str, ...] = ("serving", "moving", "paused", "registered")

    @property
    def first_commands(self) -> str:
        """What somebody types who has no model here yet."""
        return (
            f"export MLFLOW_TRACKING_URI={settings.PUBLIC_URL}/mlflow\n"
            "export MLFLOW_TRACKING_TOKEN=<your token>\n"
            "python -c 'import mlflow.sklearn;"
            " from sklearn.linear_model import LinearRegression as L;"
            ' mlflow.sklearn.log_model(L().fit([[0], [1]], [0, 1]), name="model",'
            ' registered_model_name="first-model", input_example=[[0.5]])\''
        )

    @property
    def topics(self) -> str:
        """What the page listens to."""
        rollouts = " ".join(f"rollout:{moving.rollout.pk}" for moving in self.moving)
        return f"home:all {rollouts}".strip()


def of(user: User, now: datetime, asked: Mapping[str, str] | None = None) -> Overview:
    """It gathers Home for one reader in a fixed number of queries, however many models there are.

    `asked` is the filter as it stands in the address: q, environment, state, sort.
    """
    asked = asked or {}
    teams = list(teams_of(user).values_list("pk", flat=True))
    rollouts = _rollouts(teams, now)
    by_endpoint = {r.endpoint_id: r for r in rollouts if not Phase(r.phase).is_final}
    traffic = _traffic(teams, now)
    rows = _rows(teams, by_endpoint, traffic)
    return Overview(
        needs=(*_incidents(user, teams), *_approvals(user), *_troubles(rollouts)),
        moving=tuple(
            Moving(rollout, _parts(rollout), traffic.get(rollout.endpoint_id, Traffic()))
            for rollout in by_endpoint.values()
        ),
        rows=_sorted(_kept(rows, asked), asked.get("sort", "")),
        environments=tuple(Environment.objects.values_list("name", flat=True)),
        asked=asked,
        total=len(rows),
    )


def _rollouts(teams: list[int], now: datetime) -> list[Rollout]:
    late = Q(phase=Phase.REVERTED, finished_at__gt=now - REVERTED_FOR)
    return list(
        Rollout.objects.filter(endpoint__model__team__in=teams)
        .filter(late | ~Q(phase__in=[Phase.REVERTED, Phase.SUCCEEDED]))
        .select_related(
            "endpoint__model", "endpoint__environment", "candidate__version__model",
            "stable__version",
        )
    )  # fmt: skip


def _approvals(user: User) -> list[Need]:
    """Requests that this person may answer and has not."""
    waiting = (
        Promotion.objects.filter(
            status=Status.WAITING, version__model__team__in=teams_of(user, "promotion.decide")
        )
        .exclude(approvals__user=user)
        .select_related("version__model", "environment", "requester")
    )
    return [
        Need(
            "waiting",
            f"Approve {promotion.version} for {promotion.environment}?",
            f"Asked by {promotion.requester.get_username() if promotion.requester else 'policy'}. "
            f"{promotion.reason}",
            promotion.get_absolute_url(),
            promotion.created_at,
        )
        for promotion in waiting
        if promotion.asker_id != user.pk or promotion.rules.requester_may_approve
    ]


def _incidents(user: User, teams: list[int]) -> list[Need]:
    """What nobody is on yet, and what is the reader's own; critical ones first."""
    mine = Q(state=State.OPEN) | Q(assignee=user)
    rows = Incident.objects.filter(mine, endpoint__model__team__in=teams)
    rows = rows.filter(state__in=incidents.UNRESOLVED)
    found = incidents.with_relations(rows).order_by("severity", "-pk")
    return [
        Need(
            incident.state,
            f"{incident.title} in {incident.endpoint}",
            f"{incident.severity.capitalize()}; {_assigned(incident, user)}",
            incident.get_absolute_url(),
            incident.opened_at,
        )
        for incident in found[:MOST_INCIDENTS]
    ]


def _assigned(incident: Incident, user: User) -> str:
    if incident.assignee is None:
        return "nobody is on it"
    return "assigned to you" if incident.assignee == user else f"assigned to {incident.assignee}"


def _troubles(rollouts: list[Rollout]) -> list[Need]:
    words = {
        Phase.PAUSED: "is paused",
        Phase.REVERTING: "goes back",
        Phase.REVERTED: "was taken back",
    }
    needs = []
    for rollout in rollouts:
        label = f"{rollout.candidate.version} in {rollout.endpoint.environment}"
        phase = Phase(rollout.phase)
        url, at = rollout.get_absolute_url(), rollout.finished_at or rollout.reached_at
        if phase in words:
            needs.append(Need(phase, f"{label} {words[phase]}", rollout.reason, url, at))
        elif rollout.evidence.get("verdict") == Verdict.UNCLEAR:
            needs.append(Need("unclear", f"{label} is unclear", rollout.reason, url, at))
    return needs


def _parts(rollout: Rollout) -> tuple[dict[str, object], ...]:
    """The split as it was last wanted, stable first, each version in its own colour."""
    candidate = rollout.candidate.version.number
    parts: list[dict[str, object]] = []
    if rollout.stable is not None:
        number = rollout.stable.version.number
        rest = 1000 - rollout.weight
        parts.append(_part(f"v{number} stable", rest, number))
    parts.append(_part(f"v{candidate} candidate", rollout.weight, candidate))
    return tuple(parts)


def _part(label: str, weight: int, number: int) -> dict[str, object]:
    return {"label": label, "weight": weight, "index": revision_index(number)}


def _traffic(teams: list[int], now: datetime) -> dict[int, Traffic]:
    # The running minute is left out: half of it would look like a fall.
    until = now.replace(second=0, microsecond=0)
    since = until - timedelta(minutes=MINUTES)
    rows = (
        Rollup.objects.filter(
            revision__endpoint__model__team__in=teams,
            origin=Rollup.From.GATEWAY,
            width_seconds=60,
            at__gte=since,
            at__lt=until,
        )
        .annotate(minute=TruncMinute("at"))
        .values("revision__endpoint_id", "minute")
        .annotate(taken=Sum("requests"), lost=Sum("server_errors"))
        .order_by()
    )
    seen: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
    for row in rows:
        place = int((row["minute"] - since).total_seconds() // 60)
        seen[row["revision__endpoint_id"]][place] = (row["taken"], row["lost"])
    return {endpoint: _summed(minutes) for endpoint, minutes in seen.items()}


def _summed(minutes: dict[int, tuple[int, int]]) -> Traffic:
    values = tuple(minutes[m][0] if m in minutes else None for m in range(MINUTES))
    first = MINUTES - int(RECENT.total_seconds() // 60)
    late = [counts for minute, counts in minutes.items() if minute >= first]
    taken, lost = sum(counts[0] for counts in late), sum(counts[1] for counts in late)
    # A measure that began a minute ago is not spread over five.
    seconds = 60 * (MINUTES - max(first, min(minutes)))
    return Traffic(values, taken / seconds if late else None, lost / taken if taken else None)


def _rows(
    teams: list[int], rollouts: Mapping[int, Rollout], traffic: Mapping[int, Traffic]
) -> list[Row]:
    models = list(
        Model.objects.filter(team__in=teams)
        .select_related("team")
        .annotate(newest=Max("versions__number"))
        .order_by("name")
    )
    endpoints: dict[int, list[Endpoint]] = defaultdict(list)
    for endpoint in (
        Endpoint.objects.filter(model__team__in=teams)
        .select_related("environment", "stable__version")
        .order_by("environment__order")
    ):
        endpoints[endpoint.model_id].append(endpoint)
    rows = []
    for model in models:
        newest: int | None = model.newest
        for endpoint in endpoints[model.pk]:
            version = endpoint.stable.version if endpoint.stable else None
            if version is not None:
                version.model = model
            seen = traffic.get(endpoint.pk, Traffic())
            rows.append(Row(model, newest, endpoint, version, rollouts.get(endpoint.pk), seen))
        if not endpoints[model.pk]:
            rows.append(Row(model, newest))
    return rows


def _kept(rows: list[Row], asked: Mapping[str, str]) -> list[Row]:
    words, environment = asked.get("q", "").lower().split(), asked.get("environment", "")
    state = asked.get("state", "")
    return [
        row
        for row in rows
        if all(word in row.model.name.lower() for word in words)
        and (not environment or row.environment == environment)
        and (not state or row.state == state or (state == "moving" and row.rollout is not None))
    ]


def _sorted(rows: list[Row], sort: str) -> tuple[Row, ...]:
    name, descending = sort.removeprefix("-"), sort.startswith("-")
    if name not in SORTS:
        return tuple(rows)
    keys = [(_key(row, name), row) for row in rows]
    measured: list[tuple[Any, Row]] = [pair for pair in keys if pair[0] is not None]
    # What was not measured stands last, whichever way the table is sorted.
    rest = [row for key, row in keys if key is None]
    measured.sort(key=lambda pair: pair[0], reverse=descending)
    return (*(row for _, row in measured), *rest)


def _key(row: Row, name: str) -> str | float | None:
    if name == "model":
        return row.model.name
    if name == "environment":
        return row.environment or None
    if name == "since":
        return row.since.timestamp() if row.since else None
    return row.traffic.rate if name == "rate" else row.traffic.errors
