"""What is killed, broken or wrong under load: callers lose nothing, people read a reason."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

from django.conf import settings

from apps.serving.backends import envoy, unix
from apps.serving.backends.supervisord import Supervisor
from apps.serving.lifecycle import RevisionState
from apps.serving.models import Endpoint
from apps.serving.services import sights, wishes
from tests.serving.cast import NOW, ROW, Callers, ask, until
from tests.serving.conftest import Stage, is_live

INFER = "/production/v2/models/flight-delay/infer"


def pid_of(name: str) -> int:
    rows = Supervisor(settings.STACK.supervisor_socket)._call("getAllProcessInfo")
    return next(int(row["pid"]) for row in rows if row["name"] == name)


def test_a_killed_replica_of_two_costs_no_request(stage: Stage) -> None:
    revision = stage.deploy(1, replicas=2)
    stage.wait_ready(revision)
    stage.split({revision: 1000})
    victim = pid_of(f"r{revision.pk}.0")

    with Callers(INFER, connections=8) as callers:
        callers.wait_for(200)
        os.kill(victim, signal.SIGKILL)
        callers.wait_for(600)
        stage.converge()
        revision.refresh_from_db()
        state, reason = revision.state, revision.reason
        stage.wait_ready(revision)

    assert callers.lost == []
    assert (state, reason) in [
        (RevisionState.DEGRADED, "1 of 2 replicas are ready"),
        (RevisionState.DEGRADED, "The gateway reaches 1 of 2 replicas"),
        (RevisionState.READY, ""),  # it was back before anybody looked
    ]
    assert pid_of(f"r{revision.pk}.0") != victim


def test_a_killed_gateway_comes_back_with_the_same_split(stage: Stage) -> None:
    stable, candidate = stage.deploy(1), stage.deploy(2)
    stage.wait_ready(stable, candidate)
    stage.split({stable: 900, candidate: 100})
    victim = pid_of("gateway")

    os.kill(victim, signal.SIGKILL)
    until("the gateway had ended", lambda: pid_of("gateway") != victim)
    until("the gateway was live", is_live)

    assert sights.look(stage.endpoint).weights == {stable.pk: 900, candidate.pk: 100}
    until("it answered", lambda: ask(INFER, ROW)[0] == 200)


def test_a_gateway_that_is_down_is_unknown_and_takes_the_change_later(stage: Stage) -> None:
    first, second = stage.deploy(1), stage.deploy(2)
    stage.wait_ready(first, second)
    stage.split({first: 1000})
    supervisor = Supervisor(settings.STACK.supervisor_socket)
    supervisor._call("stopProcess", "gateway")
    try:
        sight = stage.ask_split({second: 1000})
        kept = Endpoint.objects.values_list("traffic_seen", "traffic_reason")
        assert sight.weights is None
        assert kept.get(pk=stage.endpoint.pk) == (None, "The gateway does not answer")
    finally:
        supervisor.start("gateway")
    until("the gateway was live", is_live)
    assert stage.converge().weights == {second.pk: 1000}
    assert kept.get(pk=stage.endpoint.pk) == ({str(second.pk): 1000}, "")


def test_a_broken_configuration_is_refused_and_the_old_one_serves(stage: Stage) -> None:
    revision = stage.deploy(1)
    stage.wait_ready(revision)
    stage.split({revision: 1000})
    path = settings.STACK.var / "gateway" / "rds.json"
    good = path.read_text()
    broken = json.loads(good) | {"version_info": "broken"}
    broken["resources"][0]["no_such_field"] = True
    temporary = Path(f"{path}.broken")

    temporary.write_text(json.dumps(broken))
    temporary.rename(path)

    def refused() -> bool:
        answer = unix.get(
            settings.STACK.gateway_admin,
            "/stats?filter=rds.serving.update_rejected",
            timeout_seconds=2,
        )
        return answer is not None and int(answer[1].split(b": ")[1]) > 0

    until("the gateway had refused it", refused)
    assert ask(INFER, ROW)[0] == 200
    # The sweep writes what should stand there, and that is taken.
    assert stage.converge().weights == {revision.pk: 1000}
    assert envoy.read(path)["resources"] == json.loads(good)["resources"]
    assert Endpoint.objects.get(pk=stage.endpoint.pk).traffic_reason == ""


def test_a_replica_with_another_digest_never_gets_traffic(stage: Stage, tmp_path: Path) -> None:
    stable = stage.deploy(1)
    stage.wait_ready(stable)
    stage.split({stable: 1000})
    wishes.set_stable(endpoint=stage.endpoint, revision=stable, now=NOW)
    tampered = tmp_path / "bundle"
    shutil.copytree(stage.bundle, tampered)
    card = tampered / "model" / "MLmodel"
    card.write_text(card.read_text() + "\n# one more line\n")
    candidate = stage.deploy(2, bundle=tampered)

    def failing() -> bool:
        stage.converge()
        candidate.refresh_from_db()
        return candidate.state == RevisionState.FAILING

    until("the candidate was seen to fail", failing)
    assert "wrong_bundle: the model's digest is sha256:" in candidate.reason
    sight = stage.ask_split({stable: 500, candidate: 500})

    assert sight.weights == {stable.pk: 1000}
    assert sight.failing == {candidate.pk: candidate.reason}
    endpoint = Endpoint.objects.get(pk=stage.endpoint.pk)
    assert endpoint.traffic_wanted == {str(stable.pk): 500, str(candidate.pk): 500}
    assert endpoint.traffic_seen == {str(stable.pk): 1000}
    assert endpoint.traffic_reason == (
        f"No replica of revision {candidate.pk} is ready; traffic stays"
    )
    assert {ask(INFER, ROW)[1]["x-revision"] for _ in range(20)} == {str(stable.pk)}


def test_the_supervisors_socket_alone_opens_nothing(gateway: None) -> None:
    connection = unix.Connection(settings.STACK.supervisor_socket, timeout_seconds=5)
    body = "<methodCall><methodName>supervisor.getPID</methodName></methodCall>"
    connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
    assert connection.getresponse().status == 401
    connection.close()


def test_a_gateways_own_answer_is_told_apart_from_a_models(stage: Stage) -> None:
    revision = stage.deploy(1)
    stage.wait_ready(revision)
    stage.split({revision: 1000})
    os.kill(pid_of(f"r{revision.pk}.0"), signal.SIGKILL)

    until("the gateway answered by itself", lambda: ask(INFER, ROW)[0] == 503)
    status, headers, said = ask(INFER, ROW, x_request_id="mine-2")

    assert status == 503
    assert headers["x-request-id"] == "mine-2"
    assert said in (
        {"error": "no healthy upstream"},
        {
            "error": "upstream connect error or disconnect/reset before headers. retried and the "
            "latest reset reason: remote connection failure"
        },
    )
    assert "x-model-version" not in headers
    assert "x-revision" not in headers
