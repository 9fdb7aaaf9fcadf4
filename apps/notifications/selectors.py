"""Who may read which mail."""

from django.db.models import Q, QuerySet

from apps.accounts.models import User
from apps.accounts.selectors import may, teams_of
from apps.notifications.models import Delivery


def visible_to(user: User) -> QuerySet[Delivery]:
    """One's own mails, and those that speak of models of teams where one is an admin."""
    found = Delivery.objects.select_related("user")
    if user.is_superuser and may(user, "mail.view"):
        return found
    return found.filter(Q(user=user) | Q(team__in=teams_of(user, "mail.view")))
