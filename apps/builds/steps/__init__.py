"""What a build does, one module a step; `builds.runner` calls them in order."""

from apps.jobs.services import Failed


class BuildFailed(Failed):
    """It says why the version cannot be built as it is, for people and for programs.

    `kind` is what `Build.failure` keeps: "artifact", "requirements", "environment", "load",
    "example".
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
