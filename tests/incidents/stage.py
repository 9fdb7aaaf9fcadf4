"""An endpoint that answers callers, minute by minute, and the rounds that watch it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import yaml

from apps.incidents import runner
from apps.incidents.models import Incident
from apps.monitoring.models import Rollup
from apps.registry import policy
from apps.registry.models import Policy
from apps.serving.models import Endpoint, Revision
from tests.factories.builds import BuildFactory
from tests.factories.monitoring import RollupFactory
from tests.factories.registry import ModelFactory, VersionFactory
from tests.factories.serving import EndpointFactory, EnvironmentFactory, RevisionFactory, serve
from tests.people import Cast

NAME = "flight-delay"
ERRORS = {"name": "errors", "metric": "errors", "window": 60, "at_least": 0.01,
          "for": {"times": 2, "of": 3}}  # fmt: skip


@dataclass
class Stage:
    endpoint: Endpoint
    stable: Revision
    now: datetime

    def answer(
        self, at: datetime, *, requests: int = 200, errors: int = 0, revision: Any = None,
        **more: Any,
    ) -> Rollup:  # fmt: skip
        """Callers of ten seconds."""
        return RollupFactory.create(
            revision=revision or self.stable,
            at=at,
            requests=requests,
            server_errors=errors,
            latency_count=requests - errors,
            **more,
        )

    def minute(self, *, errors: int = 0, requests: int = 200, **more: Any) -> list[Incident]:
        """A minute passes, in which callers asked, and its round is made."""
        if requests:
            self.answer(self.now, requests=requests, errors=errors, **more)
        self.now += timedelta(minutes=1)
        self.round()
        return list(Incident.objects.order_by("pk"))

    def round(self) -> int:
        """What was counted late is in by then."""
        return runner.sweep(clock=lambda: self.now + timedelta(seconds=30))

    def watch(self, *rules: dict[str, Any], **more: Any) -> None:
        """The policy in force has these monitors only, and `more` of the environment."""
        monitors = {"defaults": False, "rules": list(rules)}
        text = yaml.safe_dump({"environments": {"production": {"monitors": monitors} | more}})
        last = Policy.objects.filter(model=self.endpoint.model).count()
        Policy.objects.create(
            model=self.endpoint.model,
            number=last + 1,
            text=text,
            document=policy.parse(text).model_dump(mode="json"),
            created_at=self.now,
        )


def stage(cast: Cast, now: datetime, *rules: dict[str, Any]) -> Stage:
    model = ModelFactory.create(name=NAME, team=cast.team)
    version = VersionFactory.create(model=model, number=3, registered_by=cast.owner)
    endpoint = EndpointFactory.create(
        model=model, environment=EnvironmentFactory.create(name="production")
    )
    stable = RevisionFactory.create(
        endpoint=endpoint, number=1, build=BuildFactory.create(version=version)
    )
    serve(endpoint, stable)
    built = Stage(endpoint, stable, now)
    built.watch(*(rules or (ERRORS,)))
    return built
