"""Every process is seen, and comes back when the kernel kills it."""

from functools import partial

import httpx

from mlops_portal.stack.programs import PROGRAMS
from tests.journeys.client import until
from tests.journeys.product import Product
from tests.journeys.test_lost_workers import children

KILLED = ("web", "worker", "analyst", "ticker", "beat", "scaler", "collector", "gateway", "mlflow")


def gone(product: Product, family: list[int]) -> bool | None:
    return not set(family) & set(product.processes_left()) or None


def test_status_shows_every_process(product: Product) -> None:
    for program in PROGRAMS:
        product.pid_of(program.name)
    done = until(
        "every process runs",
        lambda: s if (s := product.command("manage.py", "status")).returncode == 0 else None,
        60,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    shown = {line[0]: line for line in lines if len(line) > 2}
    for program in PROGRAMS:
        assert shown[program.name][1:3] == ["running", str(product.pid_of(program.name))]


def test_each_killed_process_comes_back(product: Product, model: str) -> None:
    for name in KILLED:
        pid = product.pid_of(name)
        family = [pid, *children(pid)]
        assert product.kill9(name) == pid
        product.comes_back(name, pid)
        until(
            f"the end of what {name} had started",
            partial(gone, product, family),
            20,
        )
    until("pages are back", partial(healthy, product), 60)
    until("the registry is back", lambda: registry_answers(product), 120)
    # Beat, ticker and worker did their part again when this stands built in the panel.
    number = product.log(model)
    product.version(model, number, seconds=30)
    product.build(model, "succeeded")


def healthy(product: Product) -> bool | None:
    try:
        return httpx.get(f"{product.stack.web_url}/health").status_code == 200 or None
    except httpx.TransportError:
        return None


def registry_answers(product: Product) -> bool | None:
    try:
        url = f"{product.stack.mlflow_url}/mlflow/health"
        return httpx.get(url, timeout=5).status_code < 500 or None
    except httpx.TransportError:
        return None
