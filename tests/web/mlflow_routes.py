"""Prints as JSON what the installed MLflow answers to, and how its ids look.

In a process of its own: MLflow costs 200 MB, and its imports warn.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

os.environ["_MLFLOW_STATIC_PREFIX"] = "/mlflow"

from mlflow.server import app as pages
from mlflow.server.fastapi_app import app
from mlflow.server.graphql.graphql_schema_extensions import schema
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from starlette.routing import Mount


def routes(held: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in held:
        router = getattr(route, "original_router", None)
        if router is not None:
            yield from routes(router.routes, prefix + route.include_context.prefix)
        elif not isinstance(route, Mount):  # that is Flask's, which is asked itself
            yield from ((method, prefix + route.path) for method in route.methods)


def ids() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        store = SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", "mlflow-artifacts:/")
        run, model = store.create_run("0", "ada", 0, [], "r"), store.create_logged_model("0", "m")
        return {
            "run": run.info.run_id,
            "run_at": run.info.artifact_uri,
            "model": model.model_id,
            "model_at": model.artifact_location,
        }


if __name__ == "__main__":
    found = set(routes(app.routes))
    for rule in pages.url_map.iter_rules():
        found |= {(method, rule.rule) for method in rule.methods or ()}
    mounts = [route.path for route in app.routes if isinstance(route, Mount)]
    mutations = sorted(schema.graphql_schema.mutation_type.fields)
    said = {"routes": sorted(found), "mounts": mounts, "mutations": mutations, "ids": ids()}
    sys.stdout.write(json.dumps(said))
