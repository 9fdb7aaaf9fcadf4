from django.db.models import QuerySet

from apps.accounts.selectors import Caller, teams_of
from apps.jobs.models import Job


def visible_to(user: Caller) -> QuerySet[Job]:
    return Job.objects.filter(owning_team_id__in=teams_of(user).values("pk"))
