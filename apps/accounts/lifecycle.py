"""Roles, scopes, and who may do what: the whole of it on one screen."""

from enum import StrEnum


class Role(StrEnum):
    VIEWER = "viewer"
    DATA_SCIENTIST = "data_scientist"
    APPROVER = "approver"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def label(self) -> str:
        return self.value.replace("_", " ").capitalize()


class Scope(StrEnum):
    """What a token may be used for, within what its user may do."""

    READ = "read"
    WRITE = "write"
    APPROVE = "approve"
    TEST = "test"  # call a chosen revision past the split
    MLFLOW = "mlflow"
    ADMIN = "admin"


_EVERY = frozenset(Role)
_V, _D, _A, _O = Role.VIEWER, Role.DATA_SCIENTIST, Role.APPROVER, Role.OPERATOR
_ADMIN = Role.ADMIN

# verb -> (roles that may, scope that a token needs). A verb that stands in no row is refused.
VERBS: dict[str, tuple[frozenset[Role], Scope]] = {
    "view": (_EVERY, Scope.READ),
    "team.manage": (frozenset({_ADMIN}), Scope.ADMIN),
    "mail.view": (frozenset({_ADMIN}), Scope.ADMIN),
    "token.manage_own": (_EVERY, Scope.ADMIN),
    "dataset.register": (frozenset({_D, _O, _ADMIN}), Scope.WRITE),
    "policy.edit": (frozenset({_ADMIN}), Scope.ADMIN),
    "version.refresh": (frozenset({_D, _O, _ADMIN}), Scope.WRITE),
    "build.start": (frozenset({_D, _O, _ADMIN}), Scope.WRITE),
    "baseline.freeze": (frozenset({_D, _O, _ADMIN}), Scope.WRITE),
    "job.cancel": (frozenset({_D, _O, _ADMIN}), Scope.WRITE),
    "validation.start": (frozenset({_D, _O, _ADMIN}), Scope.WRITE),
    "promotion.request": (frozenset({_D, _O, _ADMIN}), Scope.WRITE),
    "promotion.cancel": (frozenset({_D, _O, _ADMIN}), Scope.WRITE),
    "promotion.decide": (frozenset({_A, _ADMIN}), Scope.APPROVE),
    "rollout.start": (frozenset({_O, _ADMIN}), Scope.WRITE),
    "rollout.steer": (frozenset({_O, _ADMIN}), Scope.WRITE),  # pause, resume, abort
    "endpoint.test": (frozenset({_D, _O, _ADMIN}), Scope.TEST),
    "endpoint.configure": (frozenset({_O, _ADMIN}), Scope.WRITE),
    "feedback.send": (frozenset({_D, _O, _ADMIN}), Scope.WRITE),
    "incident.handle": (frozenset({_D, _A, _O, _ADMIN}), Scope.WRITE),
    "log.search": (_EVERY, Scope.WRITE),  # it costs work, but tells only what they may view
    "log.replay": (frozenset({_D, _O, _ADMIN}), Scope.TEST),
    "slice.edit": (frozenset({_D, _O, _ADMIN}), Scope.WRITE),
    "mlflow.read": (_EVERY, Scope.MLFLOW),
    "mlflow.write": (frozenset({_D, _O, _ADMIN}), Scope.MLFLOW),
}
