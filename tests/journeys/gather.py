"""Brings the tests' cast into an installation, and prints each person's token as JSON.

Run by the installation's own `manage.py shell`, as its operator would run a script of their own.
"""

import json
from dataclasses import fields

from apps.accounts.models import User
from mlops_portal.stack.bringup import ADMIN
from tests import people


def main() -> None:
    cast = people.cast()
    held = [getattr(cast, field.name) for field in fields(cast)]
    held.append(User.objects.get(username=ADMIN))  # made by the first `up`
    keys = {}
    for user in held:
        if isinstance(user, User):
            header = people.bearer(user)["Authorization"]
            keys[user.get_username()] = header.removeprefix("Bearer ")
    print(json.dumps(keys))  # noqa: T201
