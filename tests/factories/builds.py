from factory.django import DjangoModelFactory

from apps.builds.models import Build
from tests.factories.declared import LazyFunction, Sequence, SubFactory
from tests.factories.registry import NOON, VersionFactory

SIGNATURE = {
    "inputs": [
        {"name": "carrier", "type": "string", "required": True},
        {"name": "distance", "type": "double", "required": True},
    ],
    "outputs": [{"type": "double"}],
}


class BuildFactory(DjangoModelFactory[Build]):
    """A build that succeeded."""

    class Meta:
        model = Build

    version = SubFactory(VersionFactory)
    number = 1
    status = "succeeded"
    python_version = "3.11.7"
    requirements = "scikit-learn==1.9.1\n"
    lock = "scikit-learn==1.9.1 --hash=sha256:00\n"
    packages = LazyFunction(
        lambda: [
            {"name": "scikit-learn", "version": "1.9.1"},
            {"name": "numpy", "version": "2.4.6"},
        ]
    )
    files = LazyFunction(
        lambda: {"MLmodel": {"sha256": "0" * 64, "bytes": 812},
                 "model.pkl": {"sha256": "1" * 64, "bytes": 48_210}}
    )  # fmt: skip
    model_digest = Sequence(lambda n: f"sha256:{n + 1000:064x}")
    digest = Sequence(lambda n: f"sha256:{n + 9000:064x}")
    signature = LazyFunction(lambda: dict(SIGNATURE))
    flavors = LazyFunction(lambda: ["python_function", "sklearn"])
    probe = LazyFunction(
        lambda: {"ok": True, "load_seconds": 1.24, "loader": "sklearn-direct", "error": None,
                 "example": {"found": True, "rows": 5, "seconds": 0.004,
                             "predictions": [0.12, 0.31]}}
    )  # fmt: skip
    durations = LazyFunction(lambda: {"fetch": 0.8, "lock": 2.1, "install": 3.4, "probe": 2.9})
    created_at = NOON
    finished_at = NOON
