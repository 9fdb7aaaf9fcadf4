"""What the frame of every page shows of apps above accounts."""

from functools import cache

from django.http import HttpRequest

from apps.accounts.models import User
from apps.incidents.selectors import incidents


def navigation(request: HttpRequest) -> dict[str, object]:
    """It counts only where the frame is drawn: a part of a page asks nothing."""
    user = getattr(request, "user", None)
    if not isinstance(user, User):
        return {}
    # A template calls what can be called, once for each time it is named.
    return {"open_incidents": cache(lambda: incidents.open_count(user))}
