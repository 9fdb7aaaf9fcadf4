"""What the gateway's files remember."""

from __future__ import annotations

import json
from pathlib import Path

from apps.serving.backends import routing
from apps.serving.backends.gateway import KEPT_VERSIONS, Gateway, Status


def gateway(home: Path) -> Gateway:
    return Gateway(home=home, admin=home / "none", port=1)


def route(weight: int) -> routing.Route:
    targets = [
        routing.Target("production.m.r1", 1, 7, weight),
        routing.Target("production.m.r2", 2, 8, 1000),
    ]
    return routing.Route("production", "m", targets)


def test_the_split_in_force_stays_known_while_newer_ones_are_refused(tmp_path: Path) -> None:
    files = gateway(tmp_path)
    files.write_routes([route(1000)], None)
    in_force = Status(versions={"rds.json": files.version("rds.json")})

    for number in range(KEPT_VERSIONS + 10):
        files.write_routes([route(number + 1)], in_force)

    assert files.split_seen(in_force) == {"production/m": {1: (1000, 7), 2: (1000, 8)}}
    assert len(list((tmp_path / "splits").glob("*.json"))) == KEPT_VERSIONS + 1


def test_a_clock_that_was_set_back_makes_no_older_version(tmp_path: Path) -> None:
    files = gateway(tmp_path)
    ahead = 9_000_000_000_000_000_000
    (tmp_path / "rds.json").write_text(json.dumps({"version_info": str(ahead), "resources": []}))

    files.write_routes([route(1000)], None)

    assert files.version("rds.json") == str(ahead + 1)
    assert files.split(str(ahead + 1)) == {"production/m": {1: (1000, 7), 2: (1000, 8)}}
