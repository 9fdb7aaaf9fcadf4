"""The real gateway of the serving tests, for the rollouts that are tried on it."""

from tests.serving.conftest import backend, bundle, gateway, production

__all__ = ["backend", "bundle", "gateway", "production"]
