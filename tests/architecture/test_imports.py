"""What import-linter cannot say: another app may only touch an app's public modules."""

import grimp
import pytest

PUBLIC = {
    "models", "services", "selectors", "lifecycle", "policy", "serving_policy", "monitors_policy",
    "predictions",  # builds: what a build's model answers
    "sampling",  # registry: evenly spread rows of a data set
    # baselines: pure, what its tables' JSON and bytes mean, how counts are packed, names kept short
    "layout", "distances", "meaning", "packing", "texts",
    # monitoring: the columns of the files that it writes and where they lie, pure forms of its own
    "rows", "places", "conditions", "pictures", "histogram", "windows",
    "charts",  # monitoring, quality: pure, figures of what was measured
    "renderers",  # monitoring: how views of charts answer
}  # fmt: skip


@pytest.fixture(scope="session")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("apps", cache_dir=None)


def test_apps_speak_to_each_other_only_through_public_modules(graph: grimp.ImportGraph) -> None:
    trespasses = [
        f"{importer} -> {imported}"
        for importer in sorted(graph.modules)
        for imported in graph.find_modules_directly_imported_by(importer)
        if crosses_apps(importer, imported) and role(imported) not in PUBLIC
    ]

    assert not trespasses, "\n".join(trespasses)


def crosses_apps(importer: str, imported: str) -> bool:
    return app(importer) != app(imported) and app(imported) != "core"


def app(module: str) -> str:
    return [*module.split("."), ""][1]


def role(module: str) -> str:
    return [*module.split("."), "", ""][2]
