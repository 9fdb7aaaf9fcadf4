"""Recorded requests asked of another revision: real model servers answer them."""

import csv
import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.test import Client

from apps.accounts.models import User
from apps.explorer import results, selectors, services
from apps.explorer.models import Replay, Search
from apps.explorer.question import SearchRefused
from apps.jobs import services as jobs
from apps.monitoring.collector import Collector
from apps.monitoring.models import Rollup
from apps.serving.models import Endpoint, Environment, Revision
from apps.serving.services import asking, sights, wishes
from tests.explorer.conftest import asked, collect, find, question, run
from tests.monitoring.making import START_US, record, segment
from tests.people import Cast, bearer
from tests.serving.cast import NOW, make_model, put_serving, until
from tests.serving.conftest import Stage, backend, bundle, gateway, production, stage
from tests.serving.test_shadow import captured

__all__ = ["backend", "bundle", "gateway", "production", "stage"]
pytestmark = pytest.mark.django_db(transaction=True)
V2 = {"inputs": [{"name": "distance", "shape": [1], "datatype": "FP64", "data": [3.0]}]}


@pytest.fixture
def endpoint(cast: Cast, production: Environment) -> Endpoint:
    """On the run's own servers, since model servers run there."""
    return wishes.ensure_endpoint(
        model=make_model("flights", team=cast.team), environment=production, now=NOW
    )


def one(distance: object, answer: object, **more: Any) -> dict[str, Any]:
    """A request as MLflow's server takes it; the model answers 1.0 to whatever is asked."""
    split = {"columns": ["distance"], "data": [[distance]]}
    body = {"request": {"dataframe_split": split}, "response": {"predictions": [answer]}}
    return asked(distance, **body) | more


def put_all(revision: Revision, *records: dict[str, Any]) -> None:
    lines = [record(START_US + number, **changes) for number, changes in enumerate(records)]
    segment(revision.pk, lines)
    collect(NOW)


def ready(stage: Stage, *numbers: int) -> list[Revision]:
    """Revisions that answer, as the sweep would have written down."""
    revisions = [stage.deploy(number) for number in numbers]
    stage.wait_ready(*revisions)
    sights.sweep(now=NOW)
    return revisions


def replayed(
    endpoint: Endpoint, revision: Revision, actor: User, search: Search | None, request_id: str = ""
) -> Replay:
    made = services.replay(
        endpoint=endpoint, revision=revision, search=search, request_id=request_id, actor=actor,
        now=NOW,
    )  # fmt: skip
    assert made.job is not None
    run(made.job.pk)
    made.refresh_from_db()
    return made


def test_answers_are_compared_and_callers_figures_stay(
    stage: Stage, endpoint: Endpoint, cast: Cast, client: Client
) -> None:
    old, new = ready(stage, 1, 2)
    put_all(
        old,
        one(1.0, 1.0, id="equal"),
        one(2.0, 0.5, id="other"),
        one("[redacted]", 1.0, id="redacted"),
        one("far", 1.0, id="refused"),
        one(3.0, None, id="broke", status=500, response={"error": "x"}, error="ValueError: x"),
        one(4.0, 1.0, id="tensor", format="v2", request=V2, response={"outputs": [
            {"name": "predict", "datatype": "FP64", "shape": [1], "data": [1.0]}]}),
    )  # fmt: skip
    search = find(endpoint, cast, NOW, question())
    assert search.shown == 6

    made = replayed(endpoint, new, cast.owner, search)

    path = results.folder() / made.result_path
    rows = {row["id"]: row for row in pq.read_table(path).to_pylist()}
    outcomes = {name: row["outcome"] for name, row in rows.items()}
    assert outcomes == {
        "equal": "equal", "other": "differing", "redacted": "left_out", "refused": "failed",
        "broke": "differing", "tensor": "equal",
    }  # fmt: skip
    assert (rows["other"]["difference"], rows["other"]["words"]) == (0.5, "[0]: 0.5 and 1.0")
    assert rows["broke"]["words"] == "It was answered with 500, now with 200"
    assert (rows["refused"]["status_before"], rows["refused"]["status_after"]) == (200, 400)
    assert (made.state, made.total, made.done, made.left_out) == ("done", 6, 6, 1)
    assert made.largest_difference == 0.5
    assert made.reason == "1 could not be replayed: It holds redacted values"

    def all_captured() -> bool:
        return len(captured(new)) == 5

    until("the copies were recorded", all_captured)
    assert {row["shadow"] for row in captured(new)} == {True}
    assert {row["id"] for row in captured(new)} == set(rows) - {"redacted"}

    def all_counted() -> bool:
        Collector().tick()
        counted = Rollup.objects.filter(revision=new, width_seconds=10)
        return sum(counted.values_list("requests", flat=True)) == 5

    until("the copies were counted", all_counted)
    assert set(Rollup.objects.filter(revision=new).values_list("origin", flat=True)) == {"shadow"}

    signed = bearer(cast.viewer)
    detail = client.get(f"/api/v1/replays/{made.pk}?count=2", headers=signed).json()
    assert [row["outcome"] for row in detail["rows"]] == ["failed", "differing"]
    assert (detail["revision"], detail["left_out"], detail["state"]) == (2, 1, "done")
    assert made.expires_at is not None
    client.force_login(cast.viewer)
    text = client.get(f"/replays/{made.pk}").content.decode()
    assert "answers are not the same" in text
    assert "[0]: 0.5 and 1.0" in text
    assert " style=" not in text
    assert f'href="/api/v1/replays/{made.pk}/download?as=csv"' in text
    as_csv, as_parquet, refused = (
        client.get(f"/api/v1/replays/{made.pk}/download", {"as": kind}, headers=signed)
        for kind in ("csv", "parquet", "xlsx")
    )
    name = f'attachment; filename="flights-replay-{made.pk}'
    assert as_csv["Content-Disposition"] == f'{name}.csv"'
    lines = {line["id"]: line for line in csv.DictReader(io.StringIO(content(as_csv).decode()))}
    assert set(lines) == set(rows)
    other = lines["other"]
    assert (other["outcome"], other["difference"]) == ("differing", "0.5")
    assert (other["status_before"], other["status_after"]) == ("200", "200")
    assert (json.loads(other["before"]), json.loads(other["after"])) == (
        {"predictions": [0.5]}, {"predictions": [1.0]},
    )  # fmt: skip
    assert json.loads(other["request"]) == one(2.0, 0)["request"]
    assert (lines["broke"]["error_before"], other["error_before"]) == ("ValueError: x", "")
    assert as_parquet["Content-Disposition"] == f'{name}.parquet"'
    assert pq.read_table(io.BytesIO(content(as_parquet))).num_rows == 6
    assert refused.status_code == 400
    strangers = client.get(f"/api/v1/replays/{made.pk}/download", headers=bearer(cast.stranger))
    assert strangers.status_code == 404

    services.sweep(now=made.expires_at)
    gone = client.get(f"/api/v1/replays/{made.pk}/download", headers=signed)
    assert (gone.status_code, gone.json()["code"]) == (409, "no_result")
    text = client.get(f"/replays/{made.pk}").content.decode()
    assert "The answers are gone" in text
    assert "/download" not in text


def content(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


def test_one_request_is_replayed_by_its_id_and_who_may(
    stage: Stage, endpoint: Endpoint, cast: Cast, client: Client
) -> None:
    old, new = ready(stage, 1, 2)
    put_all(old, one(1.0, 1.0, id="a"))
    where = f"/api/v1/endpoints/{endpoint.pk}/replays"
    body = {"revision": new.number, "request_id": "a"}

    def post(user: User, **changes: Any) -> tuple[int, Any]:
        answer = client.post(
            where, body | changes, content_type="application/json", headers=bearer(user)
        )
        return answer.status_code, answer.json()

    assert post(cast.viewer)[0] == 403
    assert post(cast.stranger)[0] == 404
    assert post(cast.owner, search=1)[0] == 400
    assert post(cast.owner, revision=99)[0] == 404
    assert post(cast.owner, request_id="a" * 501)[0] == 400
    assert not Replay.objects.exists()
    status, made = post(cast.owner)
    assert (status, made["state"], made["request_id"]) == (202, "queued", "a")

    job = Replay.objects.get().job
    assert job is not None
    run(job.pk)

    replay = Replay.objects.get()
    # That of 2030 is older than a month of nothing: it is found by its id.
    assert (replay.state, replay.equal, replay.done) == ("done", 1, 1)
    nothing = replayed(endpoint, new, cast.owner, None, "nothing")
    assert (nothing.state, nothing.reason) == (
        "failed",
        "There is no such request in the log any more",
    )


def test_what_cannot_be_asked_is_refused(stage: Stage, endpoint: Endpoint, cast: Cast) -> None:
    [revision] = ready(stage, 1)
    put_all(revision, one(1.0, 1.0, id="a"))
    search = find(endpoint, cast, NOW, question())

    def ask(which: Revision, of: Search | None = search) -> str:
        with pytest.raises(SearchRefused) as refused:
            services.replay(
                endpoint=endpoint, revision=which, search=of, request_id="", actor=cast.owner,
                now=NOW,
            )  # fmt: skip
        return refused.value.code

    starting = stage.deploy(2)
    assert ask(starting) == "revision_not_running"
    endpoint.shadow_wanted = {str(revision.pk): 100}
    assert ask(revision) == "revision_gets_copies"
    endpoint.shadow_wanted = {}
    services.remove(row=search)
    gone = Search.objects.create(
        endpoint=endpoint, question=question().as_json(), state="done", created_at=NOW
    )
    assert ask(revision, gone) == "no_result"
    assert not Replay.objects.exists()


def test_a_redacted_column_keeps_numbers_from_being_sent(
    stage: Stage, endpoint: Endpoint, cast: Cast
) -> None:
    put_serving(endpoint.model, capture={"redact": ["distance"]})
    [revision] = ready(stage, 1)
    empty = {"inputs": [V2["inputs"][0] | {"data": [None]}]}
    put_all(revision, one(0, 1.0, id="a", format="v2", request=empty))
    search = find(endpoint, cast, NOW, question())

    made = replayed(endpoint, revision, cast.owner, search)

    assert (made.left_out, made.done) == (1, 1)
    assert made.reason == "1 could not be replayed: It may hold redacted values"
    assert captured(revision) == []


def test_a_replay_whose_worker_was_killed_is_done_by_the_next_and_may_be_cancelled(
    stage: Stage, endpoint: Endpoint, cast: Cast, client: Client
) -> None:
    [revision] = ready(stage, 1)
    put_all(revision, *(one(float(number), 1.0) for number in range(5)))
    search = find(endpoint, cast, NOW, question())
    made = services.replay(
        endpoint=endpoint, revision=revision, search=search, request_id="", actor=cast.owner,
        now=NOW,
    )  # fmt: skip
    job = made.job
    assert job is not None
    assert job.claim(worker="gone:1", now=NOW, seconds=15)
    assert services.begin(row=made, running=jobs.Running(job), total=5, done=3, equal=3)
    jobs.sweep(now=NOW.replace(year=2031))

    run(job.pk)

    made.refresh_from_db()
    assert (made.state, made.done, made.equal) == ("done", 5, 5)
    assert selectors.can_be_asked(endpoint).get() == revision
    again = services.replay(
        endpoint=endpoint, revision=revision, search=search, request_id="", actor=cast.owner,
        now=NOW,
    )  # fmt: skip
    url = f"/replays/{again.pk}"
    not_yet = client.get(f"/api/v1{url}/download", headers=bearer(cast.owner))
    assert (not_yet.status_code, not_yet.json()["code"]) == (409, "not_ended")
    client.force_login(cast.viewer)
    assert "cancel" not in client.get(url).content.decode().partition("<main")[2]
    assert client.post(f"{url}/cancel").status_code == 403
    client.force_login(cast.owner)
    assert f'action="{url}/cancel"' in client.get(url).content.decode()
    assert client.post(f"{url}/cancel").headers["Location"] == url
    again.refresh_from_db()
    assert (again.state, again.result_path) == ("cancelled", "")
    assert "The replay was cancelled" in client.get(url).content.decode()
    assert client.post(f"{url}/cancel").status_code == 409


def test_a_revision_that_went_silent_fails_the_replay(
    stage: Stage, endpoint: Endpoint, cast: Cast
) -> None:
    [revision] = ready(stage, 1)
    put_all(revision, *(one(float(number), 1.0) for number in range(6)))
    search = find(endpoint, cast, NOW, question())
    made = services.replay(
        endpoint=endpoint, revision=revision, search=search, request_id="", actor=cast.owner,
        now=NOW,
    )  # fmt: skip
    wishes.retire(revision=revision, now=NOW)
    until("nothing runs", lambda: not stage.converge().ready)

    def is_silent() -> bool:
        """A replica that is told to end still answers for a moment."""
        answer = asking.copy(
            revision=revision, path="/invocations", body=b"{}", request_id="is-it-there",
            timeout_seconds=5,
        )  # fmt: skip
        return answer is None

    until("it answers no more", is_silent)
    assert made.job is not None

    run(made.job.pk)

    made.refresh_from_db()
    assert (made.state, made.result_path) == ("failed", "")
    assert made.reason == "Revision 1 does not answer; does it still run?"


@pytest.mark.parametrize("when", ["written", "put on the disk"])
def test_a_disk_without_room_fails_the_replay_in_words(
    when: str, stage: Stage, endpoint: Endpoint, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    [revision] = ready(stage, 1)
    put_all(revision, one(1.0, 1.0, id="a"))
    search = find(endpoint, cast, NOW, question())

    def full(table: object, path: Path, **named: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def unsynced(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        if when == "written":
            broken.setattr(pq, "write_table", full)
        else:
            broken.setattr(os, "fsync", unsynced)
        made = replayed(endpoint, revision, cast.owner, search)

    assert (made.state, made.reason) == ("failed", "The disk has no room for the result")
    assert list(results.folder().glob(f"replay-{made.pk}.*")) == []
