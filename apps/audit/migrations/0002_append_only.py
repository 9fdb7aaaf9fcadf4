from typing import ClassVar

from django.db import migrations

FORBID = """
create function audit_event_is_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'An audit event cannot be changed or removed' using errcode = '23514';
end $$;
create trigger audit_event_append_only before update or delete on audit_event
    for each statement execute function audit_event_is_append_only();
create trigger audit_event_never_emptied before truncate on audit_event
    for each statement execute function audit_event_is_append_only();
"""
ALLOW = """
drop trigger audit_event_never_emptied on audit_event;
drop trigger audit_event_append_only on audit_event;
drop function audit_event_is_append_only;
"""


class Migration(migrations.Migration):
    """The database itself refuses to rewrite history, whoever asks."""

    dependencies: ClassVar = [("audit", "0001_initial")]
    operations: ClassVar = [migrations.RunSQL(FORBID, ALLOW)]
