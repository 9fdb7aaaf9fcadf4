"""What replicas use, on the monitoring page and over HTTP, for who may see the endpoint."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from apps.monitoring.services import usage
from apps.serving.models import Endpoint, Replica
from tests.pages.stage import stage
from tests.people import Cast, bearer

KINDS = ("processors", "memory", "in_flight", "saturation", "use")


@pytest.fixture
def endpoint(cast: Cast) -> Endpoint:
    cache.clear()
    made = stage(cast).endpoint
    made.refresh_from_db()
    return made


def looked(endpoint: Endpoint, **figures: Any) -> datetime:
    """Two looks, ten seconds apart and two minutes ago, at two replicas of the stable revision."""
    start = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=2)
    Replica.objects.all().delete()
    for index in (0, 1):
        for seconds in (0, 10):
            values = {
                "ready": True,
                "started_at": start - timedelta(hours=1),
                "read_at": start + timedelta(seconds=seconds),
                "processor_seconds": 40 + seconds * 0.25 * (index + 1),
                "memory_mb": 1000 + 100 * index,
                "in_flight": 2 * index,
            }
            Replica.objects.update_or_create(
                revision=endpoint.stable, index=index, defaults=values | figures
            )
            usage.count()
    return start


def page(cast: Cast, endpoint: Endpoint, query: str = "", **headers: str) -> str:
    client = Client()
    client.force_login(cast.viewer)
    address = f"/endpoints/production/{endpoint.name}/monitoring{query}"
    answer = client.get(address, headers=headers)
    assert answer.status_code == 200
    return answer.content.decode()


def chart(cast: Cast, endpoint: Endpoint, kind: str, start: datetime, **query: str) -> Any:
    asked = {"since": start.isoformat(), "until": (start + timedelta(minutes=1)).isoformat()}
    return Client().get(
        f"/api/v1/endpoints/{endpoint.pk}/charts/{kind}", asked | query,
        headers=bearer(cast.viewer),
    )  # fmt: skip


def test_the_page_sums_a_revision_and_shows_it_over_time(cast: Cast, endpoint: Endpoint) -> None:
    looked(endpoint)
    text = page(cast, endpoint, "?window=1h")
    assert '0.375 <span class="muted">(most 0.5)</span>' in text
    assert '1.0 GiB <span class="muted">(most 1.1 GiB, limit 4.0 GiB)</span>' in text
    assert '1 <span class="muted">(most 2, limit 4)</span>' in text
    assert "near its limit" not in text
    for kind in KINDS[:4]:
        assert f'id="chart-{kind}"' in text
        assert f"charts/{kind}?only=figure&amp;window=1h" in text
        assert f'id="table-{kind}"' in text


def test_what_is_near_its_limit_is_said(cast: Cast, endpoint: Endpoint) -> None:
    looked(endpoint, memory_mb=3900, in_flight=4)
    text = page(cast, endpoint, "?window=1h")
    assert text.count("near its limit") == 2


def test_who_cannot_tell_shows_no_figure(cast: Cast, endpoint: Endpoint) -> None:
    looked(endpoint, processor_seconds=None, memory_mb=None)
    text = page(cast, endpoint, "?window=1h")
    cell = text.partition('data-label="Processors"')[2].partition("</td>")[0]
    assert cell == "><span>–</span>"


def test_before_the_first_look_it_tells_the_next_step(cast: Cast, endpoint: Endpoint) -> None:
    text = page(cast, endpoint)
    assert "No replica was looked at in 24 hours." in text
    assert f'<a href="/endpoints/production/{endpoint.name}">see what runs here</a>' in text


def test_the_live_part_holds_the_sums(cast: Cast, endpoint: Endpoint) -> None:
    looked(endpoint)
    text = page(cast, endpoint, "?window=1h", hx_request="true")
    assert text.lstrip().startswith('<div id="monitoring"')
    assert "What replicas use" in text


def test_only_compared_revisions_are_shown(cast: Cast, endpoint: Endpoint) -> None:
    start = looked(endpoint)
    both = page(cast, endpoint, "?window=1h&revision=1&compare=2")
    assert "1.0 GiB" in both
    assert endpoint.stable is not None
    other = next(one for one in endpoint.revisions.all() if one.pk != endpoint.stable_id)
    given = {"revision": str(other.number), "compare": str(other.number)}
    assert chart(cast, endpoint, "memory", start, **given).json()["figure"]["data"] == []


def test_charts_as_json_png_and_table(cast: Cast, endpoint: Endpoint) -> None:
    start = looked(endpoint)
    found = {kind: chart(cast, endpoint, kind, start).json() for kind in KINDS}
    assert found["processors"]["table"] == {
        "unit": "processors",
        "columns": ["at", "v1, replica 0", "v1, replica 1", "v1 most"],
        "rows": [[start.isoformat(), 0.25, 0.5, 0.5]],
    }
    assert found["memory"]["table"]["rows"] == [[start.isoformat(), 1000, 1100, 1100, 4096]]
    assert found["in_flight"]["table"]["rows"] == [[start.isoformat(), 0, 2, 2, 4]]
    assert found["saturation"]["table"]["columns"] == ["at", "v1 in flight", "v1 memory"]
    assert found["saturation"]["table"]["rows"] == [[start.isoformat(), 0.25, 1100 / 4096]]
    assert found["use"]["table"]["rows"] == [["v1", 2, 0.375, 0.5, None, 1050, 1100, 4096, 1, 2, 4]]
    client = Client()
    client.force_login(cast.viewer)
    for kind in KINDS:
        drawn = chart(cast, endpoint, kind, start, format="png")
        assert drawn.content.startswith(b"\x89PNG")
        table = client.get(f"/endpoints/{endpoint.pk}/charts/{kind}/table?window=1h")
        assert table.status_code == 200
        assert "v1" in table.content.decode()


def test_another_teams_use_is_not_shown(cast: Cast, endpoint: Endpoint) -> None:
    start = looked(endpoint)
    asked = f"/api/v1/endpoints/{endpoint.pk}/charts/memory?since={start:%Y-%m-%dT%H:%M:%SZ}"
    assert Client().get(asked, headers=bearer(cast.stranger)).status_code == 404
