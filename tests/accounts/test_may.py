"""Who may do what, written down a second time: a change of the table must be meant."""

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import Http404

from apps.accounts.lifecycle import VERBS, Role, Scope
from apps.accounts.models import Team, User
from apps.accounts.selectors import may, people_who_may, require, teams_of
from apps.registry.models import Model
from tests.factories.accounts import UserFactory, member
from tests.factories.registry import ModelFactory, TeamFactory

pytestmark = pytest.mark.django_db

LETTERS = {
    "v": Role.VIEWER,
    "d": Role.DATA_SCIENTIST,
    "a": Role.APPROVER,
    "o": Role.OPERATOR,
    "m": Role.ADMIN,
}
# verb: the roles that may, the one scope that a token needs
EXPECTED = {
    "view": ("vdaom", "read"),
    "team.manage": ("m", "admin"),
    "mail.view": ("m", "admin"),
    "token.manage_own": ("vdaom", "admin"),
    "dataset.register": ("dom", "write"),
    "policy.edit": ("m", "admin"),
    "version.refresh": ("dom", "write"),
    "build.start": ("dom", "write"),
    "job.cancel": ("dom", "write"),
    "validation.start": ("dom", "write"),
    "promotion.request": ("dom", "write"),
    "promotion.cancel": ("dom", "write"),
    "promotion.decide": ("am", "approve"),
    "rollout.start": ("om", "write"),
    "rollout.steer": ("om", "write"),
    "endpoint.test": ("dom", "test"),
    "endpoint.configure": ("om", "write"),
    "baseline.freeze": ("dom", "write"),
    "feedback.send": ("dom", "write"),
    "incident.handle": ("daom", "write"),
    "log.search": ("vdaom", "write"),
    "log.replay": ("dom", "test"),
    "slice.edit": ("dom", "write"),
    "mlflow.read": ("vdaom", "mlflow"),
    "mlflow.write": ("dom", "mlflow"),
}


@pytest.fixture
def model() -> Model:
    return ModelFactory.create(name="flight-delay")


@pytest.fixture
def elsewhere() -> Team:
    return TeamFactory.create(name="Elsewhere", slug="elsewhere")


def test_the_table_knows_these_verbs_and_no_others() -> None:
    assert set(VERBS) == set(EXPECTED)
    assert set(LETTERS.values()) == set(Role)


@pytest.mark.parametrize("role", list(Role))
def test_what_a_role_may(model: Model, role: Role) -> None:
    user = member(model.team, role)

    allowed = {verb for verb in EXPECTED if may(user, verb, model)}

    assert allowed == {
        verb for verb, (letters, _) in EXPECTED.items() if role in {LETTERS[x] for x in letters}
    }
    for verb in EXPECTED:
        if verb in allowed:
            require(user, verb, model)
        else:  # they see it, so that it exists is no secret
            with pytest.raises(PermissionDenied, match=rf"You may not do this \({verb}\)"):
                require(user, verb, model)


@pytest.mark.parametrize("scope", list(Scope))
def test_what_a_token_may_is_narrowed_by_its_scope(model: Model, scope: Scope) -> None:
    user = member(model.team, *Role)
    user.granted_scopes = frozenset({scope})

    allowed = {verb for verb in EXPECTED if may(user, verb, model)}

    assert allowed == {verb for verb, (_, needed) in EXPECTED.items() if needed == scope}


@pytest.mark.parametrize("role", list(Role))
def test_a_scope_gives_nothing_that_the_role_does_not(model: Model, role: Role) -> None:
    user = member(model.team, role)
    without_token = {verb for verb in EXPECTED if may(user, verb, model)}
    user.granted_scopes = frozenset(Scope)

    assert {verb for verb in EXPECTED if may(user, verb, model)} == without_token


@pytest.mark.parametrize("verb", sorted(EXPECTED))
def test_to_another_team_the_thing_does_not_exist(model: Model, elsewhere: Team, verb: str) -> None:
    stranger = member(elsewhere, *Role)

    assert not may(stranger, verb, model)
    assert may(stranger, verb)  # in their own team they may
    with pytest.raises(Http404):
        require(stranger, verb, model)


@pytest.mark.parametrize("verb", sorted(EXPECTED))
def test_somebody_without_any_role(model: Model, verb: str) -> None:
    nobody = UserFactory.create()

    assert not may(nobody, verb)
    with pytest.raises(Http404):
        require(nobody, verb, model)
    with pytest.raises(PermissionDenied):
        require(nobody, verb)


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("anonymous", AnonymousUser()),
        ("inactive", User(username="gone", is_active=False, is_superuser=True)),
    ],
)
def test_who_is_nobody_may_nothing(model: Model, name: str, user: User) -> None:
    assert [verb for verb in EXPECTED if may(user, verb) or may(user, verb, model)] == []
    assert not teams_of(user).exists()


def test_a_superuser_may_everything_that_has_a_row(model: Model) -> None:
    root = UserFactory.create(is_superuser=True)

    assert all(may(root, verb, model) for verb in EXPECTED)
    assert not may(root, "model.delete", model)
    assert [team.slug for team in teams_of(root)] == ["flights"]


def test_a_superusers_token_is_narrowed_too(model: Model) -> None:
    root = UserFactory.create(is_superuser=True)
    root.granted_scopes = frozenset({Scope.READ})

    assert {verb for verb in EXPECTED if may(root, verb, model)} == {"view"}
    assert not teams_of(root, "policy.edit").exists()


def test_a_token_that_may_not_read_is_told_nothing(model: Model) -> None:
    user = member(model.team, *Role)
    user.granted_scopes = frozenset({Scope.APPROVE})

    require(user, "promotion.decide", model)
    with pytest.raises(Http404):
        require(user, "promotion.request", model)


def test_roles_are_counted_per_team(model: Model, elsewhere: Team) -> None:
    user = member(model.team, Role.VIEWER)
    admin_elsewhere = member(elsewhere, Role.ADMIN)
    both = member(model.team, Role.VIEWER, Role.APPROVER)

    assert [team.slug for team in teams_of(user)] == ["flights"]
    assert [team.slug for team in teams_of(both)] == ["flights"]  # two roles, one team
    assert not teams_of(user, "policy.edit").exists()
    assert set(people_who_may("view", model)) == {user, both}
    assert set(people_who_may("promotion.decide", model)) == {both}
    assert admin_elsewhere not in people_who_may("policy.edit", model)


def test_somebody_who_left_is_not_asked(model: Model) -> None:
    member(model.team, Role.APPROVER, is_active=False)

    assert not people_who_may("promotion.decide", model).exists()
