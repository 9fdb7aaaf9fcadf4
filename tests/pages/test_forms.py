"""What people do on pages, and what is refused: in words, and with nothing changed."""

import pytest
from django.test import Client

from apps.audit.models import Event
from apps.builds.models import Build
from apps.promotions.models import Promotion
from apps.registry.models import Policy
from apps.rollouts.models import Rollout
from tests.pages.stage import Stage, stage
from tests.pages.test_pages import client_of
from tests.people import Cast


@pytest.fixture
def built(cast: Cast) -> Stage:
    return stage(cast)


def events() -> int:
    return Event.objects.count()


def answer(client: Client, built: Stage, **given: str) -> tuple[int, str]:
    said = client.post(built.pages["promotion"], given)
    return said.status_code, said.content.decode()


def test_an_approver_approves(built: Stage, cast: Cast) -> None:
    status, _ = answer(client_of(cast.approver), built, answer="approve", words="Good")
    assert status == 302
    promotion = Promotion.objects.get(pk=built.waiting.pk)
    assert promotion.status == "approved"
    given = promotion.approvals.get()
    assert (given.user, given.answer, given.words) == (cast.approver, "approve", "Good")


def test_rejecting_needs_words(built: Stage, cast: Cast) -> None:
    before = events()
    status, text = answer(client_of(cast.approver), built, answer="reject", words="  ")
    assert status == 409
    assert "Say why: whoever trained it has to know what to do" in text
    assert Promotion.objects.get(pk=built.waiting.pk).status == "waiting"
    assert not built.waiting.approvals.exists()
    assert events() == before


def test_a_second_answer_is_refused_in_words(built: Stage, cast: Cast) -> None:
    client = client_of(cast.approver)
    answer(client, built, answer="approve", words="")
    before = events()
    status, text = answer(client, built, answer="approve", words="")
    assert status == 409
    assert "This promotion has ended already: it is approved" in text
    assert built.waiting.approvals.count() == 1
    assert events() == before


def test_a_page_of_an_older_bundle_does_not_approve(built: Stage, cast: Cast) -> None:
    status, text = answer(
        client_of(cast.approver), built, answer="approve", words="", digest="sha256:older"
    )
    assert status == 409
    assert "The bundle is not the one you looked at" in text
    assert not built.waiting.approvals.exists()


@pytest.mark.parametrize("who", ["owner", "operator", "viewer"])
def test_others_may_not_decide(built: Stage, cast: Cast, who: str) -> None:
    status, _ = answer(client_of(getattr(cast, who)), built, answer="approve", words="")
    assert status == 403
    assert not built.waiting.approvals.exists()


@pytest.mark.parametrize(("verb", "field"), [("pause", "pause_wanted"), ("abort", "abort_wanted")])
def test_an_operator_steers_and_a_viewer_does_not(
    built: Stage, cast: Cast, verb: str, field: str
) -> None:
    address = f"{built.pages['rollout']}/{verb}"
    assert client_of(cast.viewer).post(address).status_code == 403
    assert getattr(Rollout.objects.get(pk=built.rollout.pk), field) is False
    assert client_of(cast.operator).post(address, {"reason": "Callers complain"}).status_code == 302
    assert getattr(Rollout.objects.get(pk=built.rollout.pk), field) is True


def test_resuming_what_is_not_paused_is_refused_in_words(built: Stage, cast: Cast) -> None:
    before = events()
    said = client_of(cast.operator).post(f"{built.pages['rollout']}/resume")
    assert said.status_code == 409
    assert b"This rollout is not paused" in said.content
    assert events() == before


def test_verbs_are_not_done_by_reading(built: Stage, cast: Cast) -> None:
    client = client_of(cast.admin)
    for address in (
        f"{built.pages['rollout']}/abort",
        f"{built.pages['promotion']}/cancel",
        f"/versions/{built.version.pk}/build",
        f"/versions/{built.version.pk}/promote",
    ):
        assert client.get(address).status_code == 405


def test_a_form_without_the_csrf_token_does_nothing(built: Stage, cast: Cast) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.operator)
    assert client.post(f"{built.pages['rollout']}/abort").status_code == 403
    assert Rollout.objects.get(pk=built.rollout.pk).abort_wanted is False


def test_a_data_scientist_builds_again(built: Stage, cast: Cast) -> None:
    said = client_of(cast.owner).post(f"/versions/{built.version.pk}/build")
    queued = Build.objects.get(version=built.version, number=2)
    assert said.headers["Location"] == f"/builds/{queued.pk}"
    assert queued.status == "queued"


def test_the_requester_takes_the_request_back(built: Stage, cast: Cast) -> None:
    client_of(cast.owner).post(f"{built.pages['promotion']}/cancel", {"words": "Too early"})
    assert Promotion.objects.get(pk=built.waiting.pk).status == "cancelled"


def test_a_policy_with_mistakes_stays_in_the_editor(built: Stage, cast: Cast) -> None:
    text = "version: 1\nenvironments: {staging: {approvals: {required: 9}, colour: red}}\n"
    said = client_of(cast.admin).post(built.pages["policy"], {"text": text})
    assert said.status_code == 422
    page = said.content.decode()
    assert "environments.staging.approvals.required" in page
    assert "environments.staging.colour" in page
    assert "colour: red" in page
    assert Policy.objects.filter(model=built.model).count() == 1


def test_an_admin_edits_the_policy_and_a_data_scientist_does_not(built: Stage, cast: Cast) -> None:
    text = "version: 1\nenvironments: {staging: {enter: automatic}}\n"
    assert client_of(cast.owner).post(built.pages["policy"], {"text": text}).status_code == 403
    assert client_of(cast.admin).post(built.pages["policy"], {"text": text}).status_code == 302
    newest = Policy.objects.filter(model=built.model).first()
    assert newest is not None
    assert (newest.number, newest.text, newest.author) == (2, text, cast.admin)
