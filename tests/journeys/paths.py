"""How journeys come to where their own story begins."""

import io

import pandas as pd

from tests.journeys.client import Json
from tests.journeys.product import Product

# Straight into production, so that a journey about something else is short.
STRAIGHT = """\
version: 1
environments:
  production:
    enter: on_request
    approvals: {required: 1}
    rollout:
      steps: [{weight: 100, hold_seconds: 0, analysis: false}]
"""


def registered(
    product: Product,
    model: str,
    *,
    policy: str = STRAIGHT,
    kind: str = "quick",
    requirements: tuple[str, ...] = (),
) -> int:
    """It registers a version under a policy; its build is not waited for."""
    number = product.log(model, kind=kind, requirements=requirements)
    product.version(model, number)
    product.policy(model, policy)
    return number


def waiting(product: Product, model: str, number: int) -> Json:
    """Ben has asked for production; Grace could approve."""
    product.build(model, "succeeded")
    product.people["ben"].post("promotions", model=model, version=number, environment="production")
    return product.promotion(model, "production", "waiting")


def approve(product: Product, promotion: Json) -> Json:
    approved: Json = product.people["grace"].post(
        f"promotions/{promotion['id']}/approve", words="Looks right", digest=promotion["digest"]
    )
    return approved


def serving(product: Product, model: str) -> int:
    """A first version answers callers in production."""
    number = registered(product, model)
    approved = approve(product, waiting(product, model, number))
    product.rollout(approved, "succeeded")
    return number


def rows(count: int = 200, *, label: str = "late") -> bytes:
    """A labelled table as Parquet; every second flight is long, and late."""
    table = pd.DataFrame(
        {
            "distance": [100.0 if i % 2 else 2400.0 for i in range(count)],
            "hour": [6.0 + i % 3 if i % 2 else 18.0 + i % 3 for i in range(count)],
            label: [0 if i % 2 else 1 for i in range(count)],
        }
    )
    file = io.BytesIO()
    table.to_parquet(file)
    return file.getvalue()
