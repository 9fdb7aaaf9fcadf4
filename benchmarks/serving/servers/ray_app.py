"""Ray Serve's application with a Ray of its own, both ended with this process.

`ray_app.py PORT FOLDER`. Run in Ray's own environment.
"""

import asyncio
import os
import sys
from typing import Any

import joblib
import numpy as np
import ray
from ray import serve
from starlette.requests import Request


class Rows:
    def __init__(self, path: str) -> None:
        self.model = joblib.load(path)

    async def __call__(self, request: Request) -> dict[str, Any]:
        rows = np.asarray((await request.json())["rows"])
        return {"predictions": self.model.predict(rows).tolist()}


def main(port: int, folder: str) -> None:
    """It serves until it is told to stop."""
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=folder,
        object_store_memory=100 << 20,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    deployment = serve.deployment(
        num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0}
    )
    serve.run(deployment(Rows).bind(os.environ["BENCH_MODEL"]), name="rows", route_prefix="/")
    print("serving", flush=True)
    asyncio.run(asyncio.Event().wait())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
