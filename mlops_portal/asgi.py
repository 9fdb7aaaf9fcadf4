"""What the web server runs: pages and API, websockets, and the registry behind our own people."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_portal.settings")

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application

django = get_asgi_application()

from django.urls import path

from mlops_portal.limits import BodyLimit
from mlops_portal.live import LiveConsumer
from mlops_portal.mlflow_proxy import MlflowProxy

application = ProtocolTypeRouter(
    {
        # /mlflow stands before the limit: artifacts of any size are passed on in pieces.
        "http": MlflowProxy(BodyLimit(django)),  # type: ignore[arg-type]  # Django takes any mapping
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter([path("ws/live/", LiveConsumer.as_asgi())]))
        ),
    }
)
