"""Which revisions get traffic, given what is wanted, what stands and what is ready."""

from __future__ import annotations

import pytest

from apps.serving.backends import RevisionSight, WantedEndpoint, WantedRevision
from apps.serving.backends.gateway import Status
from apps.serving.backends.local import _reached, _routes, _whole
from apps.serving.lifecycle import RevisionState


def wanted(traffic: dict[int, int], *, stable: int | None = None) -> WantedEndpoint:
    revisions = [WantedRevision(pk, pk + 100, "d", "/b", "/e", 1) for pk in (1, 2, 3)]
    return WantedEndpoint(5, "production", "flight-delay", traffic, stable, revisions)


def chosen(
    endpoint: WantedEndpoint, before: dict[int, int], usable: set[int]
) -> tuple[list[tuple[int, int]], str]:
    kept = {pk: (weight, pk + 100) for pk, weight in before.items()}
    routes, waiting = _routes([endpoint], {"production/flight-delay": kept}, usable)
    [route] = routes
    assert [target.version for target in route.targets] == [
        target.revision + 100 for target in route.targets
    ]
    return [(target.revision, target.weight) for target in route.targets], waiting.get(5, "")


LATE = "No replica of revision 2 is ready; traffic stays"


@pytest.mark.parametrize(
    ("traffic", "stable", "before", "usable", "expected", "reason"),
    [
        ({}, None, {}, set(), [], ""),
        ({1: 1000}, None, {}, {1}, [(1, 1000)], ""),
        ({2: 100, 1: 900}, 1, {1: 1000}, {1, 2}, [(1, 900), (2, 100)], ""),
        # A candidate that is not ready: nothing moves, however much was asked.
        ({1: 900, 2: 100}, 1, {1: 1000}, {1}, [(1, 1000)], LATE),
        ({1: 500, 2: 500}, 1, {1: 900, 2: 100}, {1}, [(1, 900), (2, 100)], LATE),
        ({2: 1000}, None, {}, set(), [], LATE),
        # The way back to the stable one is never blocked.
        ({1: 1000}, 1, {1: 900, 2: 100}, set(), [(1, 1000)], ""),
        # Nothing stands yet: those that can serve take all of it.
        ({1: 900, 2: 100}, 1, {}, {1}, [(1, 1000)], LATE),
        # A weight of nothing is not written: Envoy refuses a split of zeros.
        ({1: 1000, 2: 0}, 1, {}, {1}, [(1, 1000)], ""),
    ],
)
def test_who_gets_traffic(
    traffic: dict[int, int],
    stable: int | None,
    before: dict[int, int],
    usable: set[int],
    expected: list[tuple[int, int]],
    reason: str,
) -> None:
    assert chosen(wanted(traffic, stable=stable), before, usable) == (expected, reason)


def test_a_revision_that_is_not_wanted_any_more_gets_nothing_new() -> None:
    endpoint = wanted({9: 1000})
    assert chosen(endpoint, {1: 1000}, {1, 9}) == (
        [(1, 1000)],
        "No replica of revision 9 is ready; traffic stays",
    )


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({}, {}),
        ({1: 900}, {1: 1000}),
        ({1: 300, 2: 300, 3: 300}, {1: 334, 2: 333, 3: 333}),
        ({1: 100, 2: 800}, {1: 111, 2: 889}),
    ],
)
def test_weights_are_scaled_to_the_whole(shares: dict[int, int], expected: dict[int, int]) -> None:
    assert _whole(shares) == expected


READY = RevisionState.READY
DEGRADED = RevisionState.DEGRADED
STARTING = RevisionState.STARTING
FAILING = RevisionState.FAILING


@pytest.mark.parametrize(
    ("sight", "healthy", "expected"),
    [
        (RevisionSight(READY, 2), 2, RevisionSight(READY, 2)),
        # Both answer us, the gateway has found one: when that one dies, nobody takes over.
        (
            RevisionSight(READY, 2),
            1,
            RevisionSight(DEGRADED, 1, "The gateway reaches 1 of 2 replicas"),
        ),
        (
            RevisionSight(READY, 2),
            0,
            RevisionSight(STARTING, 0, "The gateway reaches 0 of 2 replicas"),
        ),
        # What is wrong with a replica says more than that the gateway does not reach it.
        (RevisionSight(FAILING, 1, "It said"), 0, RevisionSight(FAILING, 0, "It said")),
        # A replica that died a moment ago is still counted by the gateway.
        (RevisionSight(DEGRADED, 1, "1 of 2"), 2, RevisionSight(DEGRADED, 1, "1 of 2")),
    ],
)
def test_a_replica_is_ready_when_the_gateway_reaches_it_too(
    sight: RevisionSight, healthy: int, expected: RevisionSight
) -> None:
    revision = WantedRevision(4, 1, "d", "/b", "/e", 2)
    endpoint = WantedEndpoint(5, "production", "flight-delay", {}, None, [revision])
    status = Status(healthy={"production.flight-delay.r4": healthy})

    assert _reached([endpoint], {4: sight}, status) == {4: expected}


def test_a_replica_whose_gateway_does_not_know_it_is_not_ready() -> None:
    revision = WantedRevision(4, 1, "d", "/b", "/e", 1)
    endpoint = WantedEndpoint(5, "production", "flight-delay", {}, None, [revision])

    seen = _reached([endpoint], {4: RevisionSight(READY, 1)}, Status())

    assert seen == {4: RevisionSight(STARTING, 0, "The gateway reaches 0 of 1 replicas")}
