"""Writes what Envoy reads of routes: a table of endpoints in, one xDS resource out. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.serving.backends.envoy import IDLE_SECONDS, ROUTES, TYPE, Json
from apps.serving.lifecycle import TRYING

ROUTE_KEY = "x-route-key"
FORCE_KEY = "x-force-revision"
SHADOW = "x-shadow"
# The model has no business with the key, and a caller would mark its rows as shadows.
REMOVED_FROM_REQUESTS = [FORCE_KEY, SHADOW]
WAKE = "x-wake-revision"  # tells the doorkeeper which one is asked for, and what can be held
COOKIE_SECONDS = 30 * 86_400
START_SECONDS = 120.0  # how long a request waits for a revision that has to start first
# A request is sent again to another replica only while the gateway holds all of its body; larger
# ones are not, or a few of them at once would take its memory.
MOST_HELD_BYTES = 64 << 20


@dataclass(frozen=True)
class Timeouts:
    request_seconds: float = 30.0
    try_seconds: float = 10.0  # a replica that hangs is given up for another one


@dataclass(frozen=True)
class Target:
    """A revision that takes a part of an endpoint's traffic."""

    cluster: str
    revision: int
    version: int
    weight: int
    asleep: bool = False  # no replica: the doorkeeper holds the request until one has started


@dataclass(frozen=True)
class Forced:
    """A revision that a key opens past the split."""

    cluster: str
    key: str
    revision: int = 0
    asleep: bool = False


@dataclass(frozen=True)
class Copy:
    """A revision that gets copies of requests, whose answers nobody waits for."""

    cluster: str
    revision: int
    share: int  # thousandths of all requests


@dataclass(frozen=True)
class Route:
    """An endpoint's addresses and its targets in the order of their revisions."""

    environment: str
    endpoint: str
    targets: Sequence[Target]
    forced: Sequence[Forced] = ()
    copies: Sequence[Copy] = ()
    timeouts: Timeouts = Timeouts()
    cookie: bool = False  # browsers stay on one revision without a route key
    body_bytes: int = 16 << 20  # more is refused by the model server

    @property
    def name(self) -> str:
        return f"{self.environment}/{self.endpoint}"


def routes(version: str, wanted: Sequence[Route]) -> Json:
    """It describes every address of every endpoint."""
    listed = [entry for route in wanted for entry in _addresses(route)]
    # One refusal for all: a change of weights is read whole, and each line of it costs time.
    wrong = {"prefix": "/", "headers": [_header(FORCE_KEY, None)]}
    listed.append(_says(f"none{TRYING}", wrong, 403, "This key opens no revision that is ready"))
    listed.append(_says("none", {"prefix": "/"}, 404, "There is no such endpoint"))
    resource = {
        "@type": TYPE + "envoy.config.route.v3.RouteConfiguration",
        "name": ROUTES,
        # Without it a route to a cluster that does not exist is taken and answers 503.
        "validate_clusters": True,
        "request_headers_to_remove": REMOVED_FROM_REQUESTS,
        "virtual_hosts": [
            {
                "name": "all",
                "domains": ["*"],
                "routes": listed,
                # What most endpoints want stands once, for the same reason.
                "retry_policy": RETRY | {"per_try_timeout": f"{Timeouts.try_seconds:g}s"},
                "request_body_buffer_limit": Route.body_bytes,
                "include_request_attempt_count": True,  # the doorkeeper sees who comes again
            }
        ],
    }
    return {"version_info": version, "resources": [resource]}


RETRY: Json = {
    "retry_on": "connect-failure,refused-stream,reset-before-request,reset,"
    "retriable-status-codes,gateway-error",
    "retriable_status_codes": [503],
    "num_retries": 3,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": TYPE
                + "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    # A dead replica refuses at once, so it always has the fewest requests and is drawn again and
    # again; with few attempts a retry lands on it too (seen: lost requests at 5).
    "host_selection_retry_max_attempts": 50,
    "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
}

# For requests that wait for a start. 503 is the doorkeeper's "now", 502 and 504 are its last words.
PATIENT: Json = {
    "retry_on": "connect-failure,refused-stream,reset-before-request,reset,retriable-status-codes",
    "num_retries": 40,  # together half a minute, while the doorkeeper itself starts anew
    "retry_back_off": {"base_interval": "0.1s", "max_interval": "2s"},
}


def _addresses(route: Route) -> list[Json]:
    environment, endpoint = route.environment, route.endpoint
    served = {
        f"/{environment}/v1/models/{endpoint}:predict": f"/v1/models/{endpoint}:predict",
        f"/{environment}/endpoints/{endpoint}/invocations": "/invocations",
    }
    matches: list[tuple[Json, str]] = [({"path": path}, to) for path, to in served.items()]
    v2 = f"/v2/models/{endpoint}"
    matches.append(({"path_separated_prefix": f"/{environment}{v2}"}, v2))
    return [*_forced(route, matches), *_split(route, matches)]


def _forced(route: Route, matches: Sequence[tuple[Json, str]]) -> list[Json]:
    """Those who show a key get its revision."""
    return [
        {
            "name": route.name + TRYING,
            "match": match | {"headers": [_header(FORCE_KEY, {"exact": forced.key})]},
            "route": _to(path, route, asleep=forced.asleep) | {"cluster": forced.cluster},
            **_waking(route, forced.revision if forced.asleep else 0),
            **_held(route),
        }
        for forced in route.forced
        for match, path in matches
    ]


def _header(name: str, matches: Json | None) -> Json:
    """None: whatever it says, as long as it is there."""
    how: Json = {"present_match": True} if matches is None else {"string_match": matches}
    return {"name": name} | how


def _split(route: Route, matches: Sequence[tuple[Json, str]]) -> list[Json]:
    targets = [target for target in route.targets if target.weight > 0]
    if not targets:
        words = f"{route.endpoint} in {route.environment} has no traffic: nothing serves there yet"
        return [_says(route.name, _keyless(match), 503, words) for match, _ in matches]
    listed = []
    for address, path in matches:
        match = _keyless(address)
        if route.cookie:
            listed.append(_first_visit(route, targets, match, path))
        by_cookie = [{"cookie": {"name": _cookie(route)}}] if route.cookie else []
        listed.append(_weighted(route, targets, match, path, [_salted(route.name), *by_cookie]))
    return listed


def _weighted(
    route: Route,
    targets: Sequence[Target],
    match: Json,
    path: str,
    hashes: list[Json],
) -> Json:
    # Version and revision are told by the model server itself: an answer that the gateway had to
    # make (nothing healthy, a time limit) carries neither, and nobody takes it for the model's.
    action = _to(path, route, asleep=any(target.asleep for target in targets))
    if route.copies:
        action["request_mirror_policies"] = [_mirror(copy) for copy in route.copies]
    entry = {"name": route.name, "match": match, "route": action, **_held(route)}
    if len(targets) == 1:
        # Nothing to choose: the salt of a key is a regular expression, and compiling those of 200
        # endpoints took half of the time that a change of weights needs to be in force.
        action["cluster"] = targets[0].cluster
        return entry | _waking(route, targets[0].revision if targets[0].asleep else 0)
    shares = [
        {"name": target.cluster, "weight": target.weight}
        | _waking(route, target.revision if target.asleep else 0)
        for target in targets
    ]
    action["weighted_clusters"] = {"clusters": shares, "use_hash_policy": True}
    action["hash_policy"] = hashes
    return entry


def _keyless(match: Json) -> Json:
    """A key that opens nothing is told so and does not fall to the split."""
    return match | {"headers": [_header(FORCE_KEY, None) | {"invert_match": True}]}


def _held(route: Route) -> Json:
    if route.body_bytes == Route.body_bytes:
        return {}
    return {"request_body_buffer_limit": min(route.body_bytes, MOST_HELD_BYTES)}


def _first_visit(route: Route, targets: Sequence[Target], match: Json, path: str) -> Json:
    """Who has neither key nor cookie is placed by the request's id, which becomes the cookie.

    A `ttl` in the hash policy would set no cookie here: for weighted clusters Envoy makes none.
    """
    without = {"invert_match": True}
    fresh = [
        _header(ROUTE_KEY, None) | without,
        _header("cookie", {"contains": f"{_cookie(route)}="})
        | without
        | {"treat_missing_header_as_empty": True},
    ]
    entry = _weighted(
        route,
        targets,
        match | {"headers": [*match["headers"], *fresh]},
        path,
        [{"header": {"header_name": "x-request-id"}, "terminal": True}],
    )
    cookie = (
        f"{_cookie(route)}=%REQ(X-REQUEST-ID)%; Path=/{route.environment}/; "
        f"Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax"
    )
    added = _put("set-cookie", cookie, "APPEND_IF_EXISTS_OR_ADD")
    return entry | {"response_headers_to_add": [added]}


def _cookie(route: Route) -> str:
    return f"split-{route.endpoint}"


def _mirror(copy: Copy) -> Json:
    return {
        "cluster": copy.cluster,
        "runtime_fraction": {
            "default_value": {"numerator": copy.share * 1000, "denominator": "MILLION"}
        },
        "disable_shadow_host_suffix_append": True,
        "request_headers_mutations": [{"append": _put(SHADOW, "1")}],
    }


def _waking(route: Route, revision: int) -> Json:
    """The doorkeeper is one for all revisions that sleep, and must know how much of a body the
    gateway keeps for the replica; 0: this one does not sleep."""
    held = min(route.body_bytes, MOST_HELD_BYTES)
    return {"request_headers_to_add": [_put(WAKE, f"{revision}/{held}")]} if revision else {}


def _put(name: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> Json:
    return {"header": {"key": name, "value": value}, "append_action": action}


def _to(path: str, route: Route, *, asleep: bool) -> Json:
    start = START_SECONDS if asleep else 0.0
    request, one_try = route.timeouts.request_seconds, route.timeouts.try_seconds
    action: Json = {"prefix_rewrite": path, "timeout": f"{request + start:g}s"}
    if request + start > IDLE_SECONDS:
        action["idle_timeout"] = f"{request + start + 5:g}s"
    if asleep or one_try != Timeouts.try_seconds:
        # The doorkeeper gives a request back when a replica is ready, and the gateway sends it on.
        retry = RETRY | (PATIENT if asleep else {})
        action["retry_policy"] = retry | {"per_try_timeout": f"{max(one_try, start):g}s"}
    return action


def _salted(salt: str) -> Json:
    """Unsalted, the same callers would be on the candidate of every endpoint."""
    rewrite = {"pattern": {"regex": "^(.*)$"}, "substitution": f"{salt}:\\1"}
    return {"header": {"header_name": ROUTE_KEY, "regex_rewrite": rewrite}, "terminal": True}


def _says(name: str, match: Mapping[str, Any], status: int, words: str) -> Json:
    return {
        "name": name,
        "match": dict(match),
        "direct_response": {"status": status, "body": {"inline_string": words}},
    }
