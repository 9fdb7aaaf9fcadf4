"""Runs models on this machine: replicas under the supervisor, traffic through the gateway.

The order of every change keeps requests whole: replicas, then clusters, then routes; and back:
routes, then clusters, then the processes. A step that is not confirmed is not built upon, and the
next look goes on from there.
"""

import contextlib
import fcntl
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from django.conf import settings

from apps.serving.backends import (
    Capabilities,
    Flow,
    Report,
    RevisionSight,
    WantedEndpoint,
    WantedRevision,
    Wishes,
    envoy,
    routing,
)
from apps.serving.backends.gateway import Gateway, Split, Status
from apps.serving.backends.judging import size
from apps.serving.backends.programs import Place
from apps.serving.backends.replicas import Replicas
from apps.serving.backends.supervisord import Down
from apps.serving.lifecycle import WEIGHT_TOTAL, RevisionState

CONFIRM_SECONDS = 3.0
MOST_REPLICAS = 64


class LocalBackend:
    capabilities = Capabilities(
        split=True, sticky=True, shadow=True, forced_revision=True, scale_to_zero=True, copy=True
    )

    def __init__(self, *, most_mb: int | None = None, reserve_mb: int = 512) -> None:
        stack = settings.STACK
        place = Place(
            configurations=stack.var / "replicas",
            logs=stack.logs / "replicas",
            sockets=stack.run,
            spool=stack.var / "spool",
            supervisor=stack.supervisor_socket,
        )
        self._replicas = Replicas(place, most_mb=most_mb, reserve_mb=reserve_mb)
        self._gateway = Gateway(
            home=stack.var / "gateway", admin=stack.gateway_admin, port=stack.gateway_port
        )
        self._doorkeeper = stack.doorkeeper_socket

    def flow(self) -> dict[int, Flow] | None:
        """It tells what goes through each revision now; None: the gateway did not answer."""
        status = self._gateway.status()
        if status is None:
            return None
        return {
            int(name.rpartition(".r")[2]): Flow(active, status.total.get(name, 0))
            for name, active in status.active.items()
        }

    def shortage(self, *, needs_mb: int, replicas: int) -> str:
        """It says in words why so many more replicas have no room; "" when they have."""
        try:
            room = self._replicas.room_mb()
        except Down as down:
            return str(down)
        if needs_mb * replicas <= room:
            return ""
        what = "It needs" if replicas == 1 else f"{replicas} replicas need"
        return f"{what} {size(needs_mb * replicas)} of memory, {size(max(room, 0))} free"

    def copy(
        self, revision: int, path: str, body: bytes, *, request_id: str, timeout_seconds: float
    ) -> tuple[int, bytes] | None:
        """It asks the first replica that answers; the gateway lets nobody mark a copy."""
        return self._replicas.copy(
            revision, path, body, request_id=request_id, timeout_seconds=timeout_seconds
        )

    def look(self, wanted: Sequence[WantedEndpoint]) -> Report:
        """It reports what is in force now, and changes nothing."""
        listed = [revision for endpoint in wanted for revision in endpoint.revisions]
        sights = self._replicas.sights(listed, remember=False)
        return self._report(wanted, sights, self._gateway.status())

    def converge(self, wishes: Wishes) -> Report:
        """It goes as far towards the wishes as can be confirmed, and reports what is in force."""
        with _only_one(self._gateway.home):
            wanted = sorted(wishes(), key=lambda endpoint: endpoint.id)
            problem, outdated = "", set()
            before = self._gateway.split(self._gateway.version("rds.json")) or {}
            try:
                outdated = self._replicas.start(_by_revision(wanted), _carrying(before))
            except Down as down:
                problem = str(down)
            listed = [revision for endpoint in wanted for revision in endpoint.revisions]
            sights = self._under_way(self._replicas.sights(listed, remember=True))
            ready = {pk for pk, sight in sights.items() if sight.ready}
            status, waiting = self._bring_traffic(wanted, before, ready)
            running = None
            if status is not None and _took(self._gateway, status, "cds.json"):
                try:
                    running = self._stop_unused(wanted)
                    self._replicas.renew(
                        listed, sights, outdated, _healthy(wanted, status), _patience(wanted)
                    )
                except Down as down:
                    problem = str(down)
            leaving = None if running is None else running - sights.keys()
            return self._report(wanted, sights, status, waiting, problem, leaving)

    def _under_way(self, sights: Mapping[int, RevisionSight]) -> dict[int, RevisionSight]:
        """It takes the gateway's word for what is in flight at each replica.

        One that computes reads no further request meanwhile, so that itself it would say one,
        or nothing at all, when many wait.
        """
        counted = self._gateway.in_flight()
        return {
            pk: replace(
                sight,
                replicas=[
                    replace(
                        one,
                        in_flight=counted.get(
                            str(self._replicas.place.socket(pk, one.index)), one.in_flight
                        ),
                    )
                    for one in sight.replicas
                ],
            )
            for pk, sight in sights.items()
        }

    def _bring_traffic(
        self, wanted: Sequence[WantedEndpoint], before: Split, ready: set[int]
    ) -> tuple[Status | None, dict[int, str]]:
        gateway = self._gateway
        status = gateway.status()
        old = gateway.clusters()
        dozing = self._dozing(wanted, ready, old)
        routes, waiting = _routes(wanted, before, ready, dozing)
        new = self._clusters(wanted, routes, ready, old, dozing)
        gateway.write_clusters(old | new, status)
        if status is not None:
            fresh = {t.cluster for r in routes for t in r.targets} - old.keys()
            status = gateway.wait(
                lambda now: (
                    _took(gateway, now, "cds.json") and all(now.healthy.get(name) for name in fresh)
                ),
                CONFIRM_SECONDS,
            )
        if status is not None:
            # A revision whose replicas answer us but not yet the gateway gets no traffic either.
            usable = ready & {pk for pk, count in _healthy(wanted, status).items() if count}
            routes, waiting = _routes(wanted, before, usable, dozing)
        gateway.write_routes(routes, status)
        gateway.write_listener(status)
        if status is None:
            return None, waiting
        refused = status.rejected.get("rds.json", 0)
        status = gateway.wait(
            lambda now: (
                _took(gateway, now, "rds.json") or now.rejected.get("rds.json", 0) > refused
            ),
            CONFIRM_SECONDS,
        )
        if status is None or not _took(gateway, status, "rds.json"):
            return status, waiting
        # Only now may a cluster go: no route in force names it, and no request is under way in it.
        still = {name: made for name, made in old.items() if status.active.get(name)}
        needed = self._clusters(wanted, routes, ready, old, dozing)
        gateway.write_clusters(still | needed, status)
        status = gateway.wait(lambda now: _took(gateway, now, "cds.json"), CONFIRM_SECONDS)
        return status, waiting

    def _dozing(
        self, wanted: Sequence[WantedEndpoint], ready: set[int], old: Mapping[str, envoy.Json]
    ) -> set[int]:
        """Revisions whose requests the doorkeeper holds: until a woken one has a ready replica."""
        return {
            revision.id
            for endpoint in wanted
            for revision in endpoint.revisions
            if not revision.replicas
            or (
                revision.id not in ready
                and _sockets(old.get(_cluster_name(endpoint, revision.id)))
                == [str(self._doorkeeper)]
            )
        }

    def _clusters(
        self,
        wanted: Sequence[WantedEndpoint],
        routes: Sequence[routing.Route],
        ready: set[int],
        old: Mapping[str, envoy.Json],
        dozing: set[int],
    ) -> dict[str, envoy.Json]:
        """Those that routes name, and those of ready revisions, warm before they get traffic."""
        named = {target.cluster for route in routes for target in route.targets}
        named |= {forced.cluster for route in routes for forced in route.forced}
        named |= {copy.cluster for route in routes for copy in route.copies}
        made: dict[str, envoy.Json] = {name: old[name] for name in named & old.keys()}
        for endpoint in wanted:
            for revision in endpoint.revisions:
                name = _cluster_name(endpoint, revision.id)
                if revision.id in dozing:
                    made[name] = envoy.doorkept(name, self._doorkeeper)
                elif name in named or name in old or revision.id in ready:
                    indexes = self._replicas.indexes(revision)
                    sockets = [self._replicas.place.socket(revision.id, index) for index in indexes]
                    made[name] = envoy.cluster(name, sockets)
        return made

    def _stop_unused(self, wanted: Sequence[WantedEndpoint]) -> frozenset[int]:
        """Replicas that nobody wants end when the gateway has confirmed that it forgot them."""
        keep = {
            (revision.id, index)
            for endpoint in wanted
            for revision in endpoint.revisions
            for index in self._replicas.indexes(revision)
        }
        known = {revision.id for endpoint in wanted for revision in endpoint.revisions}
        for name in self._gateway.clusters():
            pk = int(name.rpartition(".r")[2])
            if pk not in known:
                keep |= {(pk, index) for index in range(MOST_REPLICAS + 1)}
        return self._replicas.stop(keep)

    def _report(
        self,
        wanted: Sequence[WantedEndpoint],
        sights: Mapping[int, RevisionSight],
        status: Status | None,
        waiting: Mapping[int, str] | None = None,
        problem: str = "",
        leaving: frozenset[int] | None = None,
    ) -> Report:
        split = self._gateway.split_seen(status)
        if status is None:
            problem = problem or "The gateway does not answer"
        else:
            problem = problem or self._gateway.refusal(status)
        traffic = copies = None
        if status is not None and split is not None:
            seen = self._gateway.copies_seen(status)
            copies = {endpoint.id: seen.get(endpoint.route, {}) for endpoint in wanted}
            traffic = {
                endpoint.id: {
                    pk: weight for pk, (weight, _) in split.get(endpoint.route, {}).items()
                }
                for endpoint in wanted
            }
        if status is not None:
            sights = _reached(wanted, sights, status)
        return Report(traffic, dict(sights), problem, dict(waiting or {}), leaving, copies)


def _routes(
    wanted: Sequence[WantedEndpoint],
    before: Split,
    usable: set[int],
    dozing: Collection[int] = (),
) -> tuple[list[routing.Route], dict[int, str]]:
    """It chooses every endpoint's targets; a revision without a ready replica gets no new weight.

    The stable revision is the exception: it is where traffic goes when nothing else is right. So
    are those that sleep: their requests are held until one has started.
    """
    serving = usable | set(dozing)
    routes, waiting = [], {}
    for endpoint in wanted:
        versions = {revision.id: revision.version for revision in endpoint.revisions}
        shares = {pk: weight for pk, weight in endpoint.traffic.items() if weight > 0}
        late = [
            pk
            for pk in sorted(shares)
            if pk not in versions or (pk not in serving and pk != endpoint.stable)
        ]
        kept = {pk: share for pk, share in before.get(endpoint.route, {}).items() if share[0] > 0}
        if not late:
            chosen = {pk: (weight, versions[pk]) for pk, weight in shares.items()}
        else:
            named = ", ".join(str(pk) for pk in late)
            waiting[endpoint.id] = f"No replica of revision {named} is ready; traffic stays"
            rest = {pk: weight for pk, weight in shares.items() if pk not in late}
            chosen = kept or {pk: (w, versions[pk]) for pk, w in _whole(rest).items()}
        routes.append(
            routing.Route(
                endpoint.environment,
                endpoint.name,
                [
                    # Always in the order of their revisions: another order would move callers
                    # with a route key from one revision to the other without a change of weight.
                    routing.Target(_cluster_name(endpoint, pk), pk, version, weight, pk in dozing)
                    for pk, (weight, version) in sorted(chosen.items())
                ],
                [
                    routing.Forced(
                        _cluster_name(endpoint, revision.id),
                        revision.key,
                        revision.id,
                        revision.id in dozing,
                    )
                    for revision in endpoint.revisions
                    if revision.key and revision.id in serving
                ],
                [
                    routing.Copy(_cluster_name(endpoint, pk), pk, share)
                    for pk, share in sorted(endpoint.shadow.items())
                    if share > 0 and pk in usable and pk in versions
                ],
                routing.Timeouts(endpoint.request_seconds, endpoint.try_seconds),
                endpoint.sticky_cookie,
                endpoint.body_bytes,
            )
        )
    return routes, waiting


def _whole(shares: Mapping[int, int]) -> dict[int, int]:
    """It scales weights to their full sum; the largest takes what rounding leaves."""
    total = sum(shares.values())
    if not total:
        return {}
    scaled = {pk: weight * WEIGHT_TOTAL // total for pk, weight in shares.items()}
    largest = max(scaled, key=lambda pk: scaled[pk])
    scaled[largest] += WEIGHT_TOTAL - sum(scaled.values())
    return scaled


def _by_revision(
    wanted: Sequence[WantedEndpoint],
) -> dict[int, tuple[str, str, WantedRevision]]:
    return {
        revision.id: (endpoint.environment, endpoint.name, revision)
        for endpoint in wanted
        for revision in endpoint.revisions
    }


def _carrying(split: Split) -> set[int]:
    return {pk for shares in split.values() for pk, (weight, _) in shares.items() if weight > 0}


def _healthy(wanted: Sequence[WantedEndpoint], status: Status) -> dict[int, int]:
    """How many replicas of each revision the gateway reaches."""
    return {
        revision.id: status.healthy.get(_cluster_name(endpoint, revision.id), 0)
        for endpoint in wanted
        for revision in endpoint.revisions
    }


def _patience(wanted: Sequence[WantedEndpoint]) -> dict[int, float]:
    """For how long a replica of each revision may be silent: as long as a request may take."""
    return {
        revision.id: endpoint.request_seconds
        for endpoint in wanted
        for revision in endpoint.revisions
    }


def _sockets(cluster: envoy.Json | None) -> list[str]:
    """Where the hosts of a cluster listen, as `envoy.cluster` wrote it."""
    if cluster is None:
        return []
    hosts = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    return [host["endpoint"]["address"]["pipe"]["path"] for host in hosts]


def _reached(
    wanted: Sequence[WantedEndpoint], sights: Mapping[int, RevisionSight], status: Status
) -> dict[int, RevisionSight]:
    """It counts a replica as ready only when the gateway has found it so too.

    The gateway asks once a second: until then a second replica that already answers us is none that
    could take over when the first one dies, and a candidate would be called ready too early.
    """
    found = dict(sights)
    for endpoint in wanted:
        for revision in endpoint.revisions:
            sight = sights.get(revision.id)
            healthy = status.healthy.get(_cluster_name(endpoint, revision.id), 0)
            if sight is None or healthy >= sight.ready:
                continue
            words = f"The gateway reaches {healthy} of {revision.replicas} replicas"
            state = RevisionState.DEGRADED if healthy else RevisionState.STARTING
            if sight.state in (RevisionState.READY, RevisionState.DEGRADED):
                sight = replace(sight, state=state, reason=words)
            found[revision.id] = replace(sight, ready=healthy)
    return found


def _cluster_name(endpoint: WantedEndpoint, revision: int) -> str:
    return envoy.cluster_name(endpoint.environment, endpoint.name, revision)


def _took(gateway: Gateway, status: Status, name: str) -> bool:
    return status.versions.get(name, "") == gateway.version(name)


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Two at once would write each other's older wishes; the lock ends with its process."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
