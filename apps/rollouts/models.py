from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.urls import reverse

from apps.promotions.models import Promotion
from apps.rollouts.lifecycle import Decision, Phase, Plan, State, Step, Wish
from apps.serving.models import Endpoint, Revision

LONG_AGO = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
KEEP_WARM_SECONDS = 600
FINAL = [phase.value for phase in Phase if phase.is_final]


class RolloutQuerySet(models.QuerySet["Rollout"]):
    def moving(self) -> "RolloutQuerySet":
        return self.exclude(phase__in=FINAL)

    def due(self, now: datetime) -> "RolloutQuerySet":
        awake = Q(wake_at=None) | Q(wake_at__lte=now)
        return self.moving().filter(awake, lease_until__lte=now)


class Rollout(models.Model):
    """A candidate on its way to an endpoint's traffic. Steps are fixed at the start."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="rollouts")
    promotion = models.OneToOneField(Promotion, on_delete=models.PROTECT, related_name="rollout")
    candidate = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="+")
    stable = models.ForeignKey(Revision, null=True, on_delete=models.PROTECT, related_name="+")
    plan = models.JSONField()  # the policy's rollout part: steps, tolerances
    replicas = models.PositiveSmallIntegerField(default=1)  # of the candidate, when it began
    created_at = models.DateTimeField()

    # What people asked for: written by services.
    pause_wanted = models.BooleanField(default=False)
    abort_wanted = models.BooleanField(default=False)
    abort_reason = models.TextField(blank=True)

    # What we decided: written by record().
    phase = models.CharField(
        max_length=12, choices=[(p.value, p.value) for p in Phase], default=Phase.PREPARING
    )
    step = models.PositiveSmallIntegerField(default=0)
    reached_at = models.DateTimeField(null=True)
    weight = models.PositiveSmallIntegerField(default=0)  # thousandths
    shadow = models.PositiveSmallIntegerField(default=0)  # thousandths of requests copied to it
    reason = models.TextField(blank=True)
    cause = models.TextField(blank=True)  # why it goes back
    wake_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    evidence = models.JSONField(default=dict)  # what the last analysis saw

    revision = models.PositiveIntegerField(default=0)  # a stale write finds no row
    lease_until = models.DateTimeField(default=LONG_AGO)

    objects = RolloutQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["endpoint"],
                condition=~Q(phase__in=["succeeded", "reverted"]),
                name="rollout_one_moving",
            )
        ]

    def __str__(self) -> str:
        return f"rollout of {self.candidate.version} to {self.endpoint.environment}"

    def get_absolute_url(self) -> str:
        return reverse("rollout", args=[self.pk])

    @property
    def owning_team_id(self) -> int:
        return self.endpoint.owning_team_id

    @property
    def steps(self) -> list[Step]:
        return [
            Step(
                weight=step["weight_permille"],
                hold=timedelta(seconds=step["hold_seconds"]),
                analysis=step["analysis"],
                shadow=step.get("shadow_permille", 0),
            )
            for step in self.plan["steps"]
        ]

    @property
    def frozen(self) -> Plan:
        seconds = self.plan.get("prepare_timeout_seconds", 300)
        until = self.created_at + timedelta(seconds=seconds)
        return Plan(tuple(self.steps), until, f"v{self.candidate.version.number}")

    @property
    def keep_warm(self) -> timedelta:
        """How long the revision it replaced keeps running, so that going back is quick."""
        return timedelta(seconds=self.plan.get("keep_warm_seconds", KEEP_WARM_SECONDS))

    @property
    def state(self) -> State:
        return State(Phase(self.phase), self.step, self.reached_at, self.cause)

    @property
    def wish(self) -> Wish:
        return Wish(self.pause_wanted, self.abort_wanted, self.abort_reason)

    def claim(self, now: datetime, *, seconds: int = 30) -> bool:
        """One worker at a time. The lease outlives every timeout of a backend call."""
        until = now + timedelta(seconds=seconds)
        rows = type(self).objects.filter(pk=self.pk, lease_until__lte=now)
        won = rows.update(lease_until=until) == 1
        if won:
            self.lease_until = until
        return won

    def release(self, now: datetime) -> None:
        """Give the lease back, unless it ran out and is another worker's by now."""
        mine = type(self).objects.filter(pk=self.pk, lease_until=self.lease_until)
        mine.update(lease_until=now)

    def record(self, decision: Decision, *, evidence: dict[str, object], now: datetime) -> bool:
        """Write the decision, unless a person wrote since this row was read or the lease is gone.

        Only a change of where it stands counts as a new revision: callers who wait for one are
        not woken by every new figure.
        """
        state = decision.state
        changes: dict[str, object] = {
            "phase": state.phase,
            "step": state.step,
            "reached_at": state.reached_at,
            "weight": decision.weight,
            "shadow": decision.shadow,
            "reason": decision.reason,
            "cause": state.cause,
            "wake_at": decision.wake_at,
            "evidence": evidence,
        }
        if (state, decision.weight, decision.shadow) != (self.state, self.weight, self.shadow):
            changes["revision"] = self.revision + 1
        if state.phase.is_final:
            changes["finished_at"] = now
        # The revision tells of a person, but not of another worker that changed only figures.
        won = self.held(now).filter(revision=self.revision).update(**changes) == 1
        if won:
            for field, value in changes.items():
                setattr(self, field, value)
        return won

    def wish_for(self, **changes: object) -> bool:
        """Write what a person asked for; whoever decides at this moment has to look again."""
        changes |= {"wake_at": None, "revision": self.revision + 1}
        won = self.alone().update(**changes) == 1
        if won:
            for field, value in changes.items():
                setattr(self, field, value)
        return won

    def alone(self) -> RolloutQuerySet:
        """This row, as long as nobody wrote since it was read."""
        return type(self).objects.filter(pk=self.pk, revision=self.revision)

    def held(self, now: datetime) -> RolloutQuerySet:
        """This row, as long as the lease that was claimed with it runs."""
        # Each claim ends later than the one before it, so that the end tells them apart.
        mine = type(self).objects.filter(pk=self.pk, lease_until=self.lease_until)
        return mine.filter(lease_until__gt=now)


class Observation(models.Model):
    """One line of a rollout's story: a step reached, a verdict changed, traffic moved."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="observations")
    at = models.DateTimeField()
    phase = models.CharField(max_length=12)
    step = models.PositiveSmallIntegerField()
    weight = models.PositiveSmallIntegerField()
    shadow = models.PositiveSmallIntegerField(default=0)
    verdict = models.CharField(max_length=10)
    reason = models.TextField()
    evidence = models.JSONField(default=dict)

    class Meta:
        ordering: ClassVar = ["pk"]

    def __str__(self) -> str:
        return self.reason


class Rollback(models.Model):
    """A person took all traffic back to a revision that still ran, when no rollout moved."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="rollbacks")
    left = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="+")
    to = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="+")
    # The newest rollout at that time: the order of events, whatever the clocks of machines say.
    after = models.ForeignKey(Rollout, null=True, on_delete=models.SET_NULL, related_name="+")
    reason = models.TextField()
    at = models.DateTimeField()
    keep_warm_seconds = models.FloatField(default=KEEP_WARM_SECONDS)  # the one that was left

    class Meta:
        ordering: ClassVar = ["-pk"]

    def __str__(self) -> str:
        return f"{self.endpoint} back from {self.left.version} to {self.to.version}"

    @property
    def owning_team_id(self) -> int:
        return self.endpoint.owning_team_id

    @property
    def warm_until(self) -> datetime:
        return self.at + timedelta(seconds=self.keep_warm_seconds)
