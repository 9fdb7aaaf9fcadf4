"""The MLflow server behind a secret that only the panel holds.

On loopback anybody on the machine could speak to it, the models' own processes first of all; so
what does not carry the panel's token is refused before MLflow sees it.
"""

import hmac
import os

from mlflow.server import handlers
from mlflow.server.fastapi_app import app as mlflow
from starlette.types import Receive, Scope, Send

# MLflow makes its tables at the first request that needs them. Two first requests at once (a
# client and the panel's sweep) made them twice and waited for each other for ever.
handlers._get_tracking_store()
handlers._get_model_registry_store()

_EXPECTED = f"Bearer {os.environ['PORTAL_MLFLOW_SECRET']}".encode()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """It passes on what the panel sends and answers 401 to everything else."""
    if scope["type"] == "http" and scope["path"] not in ("/health", "/mlflow/health"):
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, _EXPECTED):
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"Use the panel's /mlflow"})
            return
    await mlflow(scope, receive, send)
