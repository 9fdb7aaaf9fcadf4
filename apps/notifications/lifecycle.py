"""What becomes of a mail."""

from enum import StrEnum


class DeliveryStatus(StrEnum):
    QUEUED = "queued"
    SENT = "sent"  # the mail server took it
    KEPT = "kept"  # no mail server is configured, or no address known: it is read in the panel
    FAILED = "failed"  # given up after several attempts
