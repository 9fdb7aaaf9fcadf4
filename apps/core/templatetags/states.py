"""The words of every state, each with its tone and icon: state is never colour alone."""

from dataclasses import dataclass

TONES = ("good", "bad", "warn", "busy", "wait", "idle")


@dataclass(frozen=True)
class State:
    """It is how a state looks: the word people read, the tone (a CSS class), the icon's name."""

    word: str
    tone: str
    icon: str


STATES: dict[str, State] = {
    # what was checked
    "pass": State("pass", "good", "circle-check"),
    "passed": State("passed", "good", "circle-check"),
    "fail": State("fail", "bad", "circle-x"),
    "unclear": State("unclear", "warn", "circle-question-mark"),
    "skipped": State("skipped", "idle", "circle-slash"),
    # work
    "queued": State("queued", "wait", "hourglass"),
    "waiting": State("waiting", "wait", "hourglass"),
    "running": State("running", "busy", "circle-play"),
    "retrying": State("retrying", "warn", "rotate-ccw"),
    "succeeded": State("succeeded", "good", "circle-check-big"),
    "failed": State("failed", "bad", "circle-x"),
    "cancelled": State("cancelled", "idle", "ban"),
    "cancelling": State("cancelling", "warn", "ban"),
    "checking": State("checking", "busy", "circle-play"),
    # people
    "approved": State("approved", "good", "thumbs-up"),
    "rejected": State("rejected", "bad", "thumbs-down"),
    "refused": State("refused", "bad", "shield-x"),
    "withdrawn": State("withdrawn", "idle", "circle-minus"),
    "applied": State("applied", "good", "circle-check-big"),
    "superseded": State("superseded", "idle", "circle-minus"),
    # rollouts
    "progressing": State("progressing", "busy", "circle-arrow-right"),
    "paused": State("paused", "warn", "circle-pause"),
    "aborting": State("aborting", "warn", "octagon-x"),
    "aborted": State("aborted", "bad", "octagon-x"),
    "reverting": State("reverting", "warn", "undo-2"),
    "reverted": State("reverted", "bad", "undo-2"),
    "rolled_back": State("rolled back", "bad", "undo-2"),
    "preparing": State("preparing", "busy", "circle-dot"),
    # what serves
    "starting": State("starting", "busy", "circle-dot"),
    "ready": State("ready", "good", "circle-check"),
    "serving": State("serving", "good", "activity"),
    "degraded": State("degraded", "warn", "triangle-alert"),
    "failing": State("failing", "bad", "triangle-alert"),
    "unknown": State("unknown", "warn", "circle-question-mark"),
    "asleep": State("asleep", "idle", "moon"),
    "shadow": State("copied", "busy", "copy"),
    "stopping": State("stopping", "wait", "circle-stop"),
    "stopped": State("stopped", "idle", "power-off"),
    "unreachable": State("unreachable", "bad", "wifi-off"),
    # incidents and alerts
    "open": State("open", "bad", "triangle-alert"),
    "firing": State("firing", "bad", "triangle-alert"),
    "acknowledged": State("acknowledged", "warn", "circle-ellipsis"),
    "resolved": State("resolved", "good", "circle-check"),
    # what monitoring says of a column
    "quiet": State("quiet", "good", "circle-check"),
    "drifted": State("drifted", "warn", "triangle-alert"),
    "critical": State("critical", "bad", "octagon-alert"),
    "not_enough_data": State("too few rows", "idle", "circle-dashed"),
    "redacted": State("redacted", "idle", "eye-off"),
    "incomparable": State("cannot tell", "idle", "circle-question-mark"),
    "late": State("late", "warn", "hourglass"),
    "no_baseline": State("no baseline", "warn", "circle-question-mark"),
    # mails
    "sent": State("sent", "good", "circle-check"),
    "kept": State("kept", "idle", "mail"),
    # places in a plan
    "done": State("done", "good", "circle-check"),
    "current": State("now", "busy", "circle-dot"),
    "ahead": State("ahead", "idle", "circle-dashed"),
    # what is known of a version
    "registered": State("registered", "idle", "circle-dot"),
    "built": State("built", "good", "circle-check"),
    "archived": State("archived", "idle", "circle-minus"),
    "expired": State("expired", "idle", "circle-minus"),
    "revoked": State("revoked", "bad", "ban"),
    "active": State("active", "good", "circle-check"),
}

TONE_ICONS = {
    "good": "circle-check",
    "bad": "circle-x",
    "warn": "triangle-alert",
    "busy": "circle-play",
    "wait": "hourglass",
    "idle": "circle",
}


def state_of(value: object) -> State:
    """It looks a value up, whatever its case; an unknown word is shown as it is, in grey."""
    key = str(getattr(value, "value", value)).strip().lower().replace(" ", "_").replace("-", "_")
    return STATES.get(key) or State(key.replace("_", " ") or "unknown", "idle", "circle")
