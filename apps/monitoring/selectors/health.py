"""What an endpoint did in a window as a whole: the figures at the top of its monitoring page."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Min

from apps.monitoring.models import Rollup, Slice
from apps.monitoring.selectors import requests, sliced
from apps.monitoring.sums import Sums
from apps.serving.models import Endpoint

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Health:
    """Figures of a window; None: nothing to measure."""

    callers: Sums  # as the gateway saw them
    models: Sums  # the same requests as the model servers saw them
    seconds: float
    dropped: int  # records of the last day that could not be kept
    set_aside: int  # files of records of the last day that could not be read
    left_out: int  # rows of the last day that are in the log only
    last_at: datetime | None
    usual_gap_seconds: float | None  # between two requests in the day before the last one

    @property
    def rejected_share(self) -> float | None:
        return self.callers.client_errors / self.callers.requests if self.callers.requests else None

    @property
    def gateway_ms(self) -> float | None:
        """What the way to the model and back adds to half of the requests."""
        outer, inner = self.callers.p50_ms, self.models.p50_ms
        return None if outer is None or inner is None else max(0.0, outer - inner)

    @property
    def gateway_share(self) -> float | None:
        outer, between = self.callers.p50_ms, self.gateway_ms
        return None if not outer or between is None else between / outer


def of(
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
    now: datetime,
    *,
    among: Iterable[int] = (),
    part: Slice | None = None,
    copies: bool = False,
) -> Health:
    """It sums a window over the revisions with these ids, or over all of them; or over a slice.

    Of callers' requests, or of copies. Of a slice and of copies only the model servers know, so
    that there is no gateway's share.
    """
    wanted = set(among)
    last_at = requests.last_at(endpoint)
    if part is not None:
        callers, models = sliced.total(endpoint, part, since, until, wanted, shadow=copies), Sums()
    elif copies:
        callers, models = _sum(endpoint, since, until, Rollup.From.SHADOW, wanted), Sums()
    else:
        callers = _sum(endpoint, since, until, Rollup.From.GATEWAY, wanted)
        models = _sum(endpoint, since, until, Rollup.From.SERVER, wanted)
    return Health(
        callers=callers,
        models=models,
        seconds=(until - since).total_seconds(),
        dropped=requests.dropped(endpoint, now - DAY),
        set_aside=requests.set_aside(endpoint, now - DAY),
        left_out=requests.left_out(endpoint, now - DAY),
        last_at=last_at,
        usual_gap_seconds=None if last_at is None else _gap(endpoint, last_at),
    )


def _sum(
    endpoint: Endpoint, since: datetime, until: datetime, origin: Rollup.From, wanted: set[int]
) -> Sums:
    total = Sums()
    for revision, sums in requests.totals(endpoint, since, until, origin).items():
        if not wanted or revision in wanted:
            total.add(sums)
    return total


def _gap(endpoint: Endpoint, last_at: datetime) -> float | None:
    # What is younger than a day had no requests before its first revision came.
    since = max(last_at - DAY, _began_at(endpoint) or last_at - DAY)
    day = _sum(endpoint, since, last_at, Rollup.From.GATEWAY, set())
    return (last_at - since).total_seconds() / day.requests if day.requests else None


def _began_at(endpoint: Endpoint) -> datetime | None:
    found: datetime | None = endpoint.revisions.aggregate(at=Min("created_at"))["at"]
    return found
