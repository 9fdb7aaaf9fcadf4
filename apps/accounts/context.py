"""What templates may ask about the reader's rights."""

from django.http import HttpRequest

from apps.accounts.selectors import may


def rights(request: HttpRequest) -> dict[str, object]:
    user = getattr(request, "user", None)
    if user is None:
        return {}

    return {"is_admin": may(user, "mail.view")}
