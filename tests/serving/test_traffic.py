"""Traffic through the real gateway to real model servers."""

from __future__ import annotations

import json

from django.conf import settings

from apps.serving import keys
from apps.serving.lifecycle import RevisionState
from apps.serving.models import Endpoint, Revision
from apps.serving.services import wishes
from tests.serving.cast import NOW, ROW, Callers, ask, until
from tests.serving.conftest import Stage

INFER = "/production/v2/models/flight-delay/infer"
PREDICT = "/production/v1/models/flight-delay:predict"
INVOKE = "/production/endpoints/flight-delay/invocations"


def test_every_address_answers_with_version_and_revision(stage: Stage) -> None:
    first = stage.deploy(7)
    stage.wait_ready(first)
    assert stage.split({first: 1000}).weights == {first.pk: 1000}

    for path, body in (
        (INFER, ROW),
        (PREDICT, {"instances": [{"distance": 3.0}]}),
        (INVOKE, {"inputs": [[3.0]]}),
    ):
        status, headers, said = ask(path, body, x_request_id="mine-1")
        assert status == 200, said
        assert headers["x-model-version"] == "7"
        assert headers["x-revision"] == str(first.pk)
        assert headers["x-request-id"] == "mine-1"
    assert ask("/production/v2/models/flight-delay")[2]["name"] == "flight-delay"  # type: ignore[index]
    assert ask("/production/v2/models/flight-delay/ready")[0] == 200

    def logged() -> list[dict[str, object]]:
        lines = (settings.STACK.var / "gateway/access.log").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [line for line in found if line["id"] == "mine-1"][-3:]

    until("the gateway had logged", lambda: len(logged()) == 3)
    for line in logged():
        assert line["route"] == "production/flight-delay"
        assert line["cluster"] == f"production.flight-delay.r{first.pk}"
        assert line["code"] == 200
        assert line["method"] == "POST"
        assert int(str(line["ts"])) > 1_700_000_000_000_000
        assert 0 < int(str(line["upstream_us"])) <= int(str(line["us"]))


def test_unknown_and_empty_endpoints_say_so(stage: Stage) -> None:
    stage.converge()
    assert ask("/production/v2/models/nobody/infer", ROW)[::2] == (
        404,
        {"error": "There is no such endpoint"},
    )
    assert ask(INFER, ROW)[::2] == (
        503,
        {"error": "flight-delay in production has no traffic: nothing serves there yet"},
    )
    assert stage.converge().weights == {}


def test_a_change_of_the_split_loses_nothing(stage: Stage) -> None:
    stable, candidate = stage.deploy(1), stage.deploy(2)
    stage.wait_ready(stable, candidate)
    stage.split({stable: 900, candidate: 100})

    with Callers(INFER) as callers:
        callers.wait_for(400)
        before = dict(callers.counts)
        sight = stage.split({stable: 500, candidate: 500})
        callers.reset()
        callers.wait_for(400)

    assert callers.lost == []
    assert sight.weights == {stable.pk: 500, candidate.pk: 500}
    # 400 answers: 5 standard deviations are 7.5 and 12.5 percent.
    assert 0.02 < before[str(candidate.pk)] / sum(before.values()) < 0.18
    assert 0.37 < callers.counts[str(candidate.pk)] / sum(callers.counts.values()) < 0.63
    endpoint = Endpoint.objects.get(pk=stage.endpoint.pk)
    assert endpoint.traffic_seen == {str(stable.pk): 500, str(candidate.pk): 500}
    assert endpoint.traffic_reason == ""


def test_a_route_key_stays_on_its_side_while_the_candidate_grows(stage: Stage) -> None:
    stable, candidate = stage.deploy(1), stage.deploy(2)
    stage.wait_ready(stable, candidate)
    keys = [f"N{number}" for number in range(60)]

    def on_candidate(weight: int) -> set[str]:
        assert stage.split({stable: 1000 - weight, candidate: weight}).weights
        asked = {key: ask(INFER, ROW, x_route_key=key)[1]["x-revision"] for key in keys}
        return {key for key, revision in asked.items() if revision == str(candidate.pk)}

    at_20, again, at_50 = on_candidate(200), on_candidate(200), on_candidate(500)
    assert at_20 == again
    assert at_20 < at_50
    assert on_candidate(1000) == set(keys)


def test_a_key_opens_its_revision_past_the_split_and_no_other(stage: Stage) -> None:
    stable, dark = stage.deploy(1), stage.deploy(2)
    stage.wait_ready(stable, dark)
    stage.split({stable: 1000})

    for path, body in (
        (INFER, ROW),
        (PREDICT, {"instances": [{"distance": 3.0}]}),
        (INVOKE, {"inputs": [[3.0]]}),
    ):
        for revision in (stable, dark):
            _, headers, _ = ask(path, body, x_force_revision=keys.of(revision.pk))
            assert headers["x-revision"] == str(revision.pk)
        forged = f"{dark.pk}.{'0' * keys.CHARACTERS}"
        for wrong in (str(dark.pk), forged, keys.of(999_999)):
            assert ask(path, body, x_force_revision=wrong)[::2] == (
                403,
                {"error": "This key opens no revision that is ready"},
            )
        assert ask(path, body)[1]["x-revision"] == str(stable.pk)

    wishes.retire(revision=dark, now=NOW)
    until("the key opened nothing", lambda: stage.converge() and _asked(dark) == 403)


def _asked(revision: Revision) -> int:
    return ask(INFER, ROW, x_force_revision=keys.of(revision.pk))[0]


def test_a_retired_revision_ends_only_after_its_traffic_left(stage: Stage) -> None:
    old, new = stage.deploy(1), stage.deploy(2)
    stage.wait_ready(old, new)
    stage.split({old: 1000})
    wishes.set_stable(endpoint=stage.endpoint, revision=new, now=NOW)

    with Callers(INFER) as callers:
        callers.wait_for(100)
        stage.split({new: 1000})
        wishes.retire(revision=old, now=NOW)

        def ended() -> bool:
            stage.converge()
            old.refresh_from_db()
            return old.state == RevisionState.STOPPED

        until("the old revision had ended", ended)
        callers.reset()
        callers.wait_for(100)

    assert callers.lost == []
    assert set(callers.counts) == {str(new.pk)}
    assert not (settings.STACK.run / f"r{old.pk}" / "0.sock").exists()
    assert not (settings.STACK.var / "replicas" / f"{old.pk}.conf").exists()


def test_more_replicas_do_not_restart_those_that_serve(stage: Stage) -> None:
    revision = stage.deploy(1)
    stage.wait_ready(revision)
    stage.split({revision: 1000})
    with Callers(INFER, connections=2) as callers:
        callers.wait_for(50)
        revision.replicas = 2
        revision.save()
        stage.wait_ready(revision)
        callers.wait_for(50)
        revision.replicas = 1
        revision.save()
        until(
            "the second replica had ended",
            lambda: (
                stage.converge()
                and not (settings.STACK.run / f"r{revision.pk}" / "1.sock").exists()
            ),
        )
        callers.wait_for(50)
    assert callers.lost == []
