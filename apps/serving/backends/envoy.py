"""Writes what Envoy reads: clusters and the listener here, the routes in `routing`. Pure.

Facts that shaped it were measured on the real Envoy: endpoints stand inline in the clusters, since
each file of endpoints would take an inotify instance and Envoy aborts when they run out; a file
takes effect only when it is renamed into place.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

ROUTES = "serving"  # name of the route configuration, part of a statistic's name
STATISTICS = "ingress"
TYPE = "type.googleapis.com/"
HTTP = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
IDLE_SECONDS = 60.0


def cluster_name(environment: str, endpoint: str, revision: int) -> str:
    return f"{environment}.{endpoint}.r{revision}"


def doorkept(name: str, doorkeeper: Path) -> Json:
    """It describes a revision that sleeps. Nobody checks the doorkeeper's health: while it starts
    anew, requests are tried again instead of being refused."""
    return _cluster(name, [doorkeeper])


def cluster(name: str, sockets: Sequence[Path]) -> Json:
    """It describes one revision's replicas."""
    return _cluster(name, sockets) | {
        "ignore_health_on_host_removal": True,
        "health_checks": [HEALTH],
        # A single replica is never put aside: one slow request would stop all others for seconds.
        **({"outlier_detection": OUTLIERS} if len(sockets) > 1 else {}),
    }


def _cluster(name: str, sockets: Sequence[Path]) -> Json:
    hosts = [{"endpoint": {"address": {"pipe": {"path": str(path)}}}} for path in sockets]
    return {
        "@type": TYPE + "envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
        # Retries are for the moment a replica dies; the default of 3 at once loses requests.
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 1024,
                    "max_requests": 1024,
                    "max_pending_requests": 1024,
                    "max_retries": 1000,
                }
            ]
        },
        # No panic: sending requests to replicas that are known to be dead helps nobody.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
    }


def clusters(version: str, resources: Sequence[Json]) -> Json:
    return {"version_info": version, "resources": list(resources)}


def listeners(version: str, *, port: int, home: Path) -> Json:
    """It describes the one port that callers use."""
    log = {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(home / "access.log"),
            "log_format": {"json_format": ACCESS},
        },
    }
    manager = {
        "@type": TYPE + HTTP,
        "stat_prefix": STATISTICS,
        "rds": {
            "route_config_name": ROUTES,
            "config_source": {
                "resource_api_version": "V3",
                "path_config_source": {"path": str(home / "rds.json")},
            },
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": TYPE + "envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
        "use_remote_address": True,
        # No caller is "internal": those could set timeouts and retries by headers.
        "internal_address_config": {},
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "normalize_path": True,
        "merge_slashes": True,
        "stream_idle_timeout": f"{IDLE_SECONDS:g}s",
        "request_timeout": "60s",
        "common_http_protocol_options": {"idle_timeout": "300s"},
        "local_reply_config": {
            "body_format": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}},
        },
        "access_log": [log],
    }
    resource = {
        "@type": TYPE + "envoy.config.listener.v3.Listener",
        "name": "ingress",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }
    return {"version_info": version, "resources": [resource]}


def bare(document: Json) -> Json:
    """What a document says apart from its version: only that is worth a write."""
    return {"resources": document.get("resources", [])}


def read(path: Path) -> Json:
    """It reads a file that was written before; one that is not there or torn is empty."""
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


ACCESS = {
    "id": "%REQ(X-REQUEST-ID)%",
    "ts": "%START_TIME(%s%6f)%",  # epoch microseconds, as text
    "method": "%REQ(:METHOD)%",
    "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "upstream_us": "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "caller": "%REQ(X-CALLER)%",
}

HEALTH: Json = {
    # Patient, since a replica predicts and answers this in one loop: a busy one must not be taken
    # for a dead one. The dead are found by outlier detection at once.
    "timeout": "3s",
    "interval": "1s",
    "no_traffic_interval": "1s",
    "no_traffic_healthy_interval": "1s",
    "unhealthy_threshold": 3,
    "healthy_threshold": 1,
    "initial_jitter": "0.05s",
    "http_health_check": {"path": "/ready"},
}

# Bridges the seconds until health checks know that a replica is dead.
OUTLIERS: Json = {
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 1,
    "enforcing_consecutive_local_origin_failure": 100,
    "consecutive_gateway_failure": 3,
    "enforcing_consecutive_gateway_failure": 100,
    "consecutive_5xx": 1_000_000,  # a model that raises is not a dead replica
    "enforcing_success_rate": 0,
    "interval": "1s",
    "base_ejection_time": "5s",
    "max_ejection_percent": 50,  # the last one that lives is not put aside too
}
