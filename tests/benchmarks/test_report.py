"""What people read at the end of a run."""

from typing import Any

from benchmarks.serving import report
from benchmarks.serving.aims import Figures, Verdict
from benchmarks.serving.figures import Shot


def facts(load: float) -> dict[str, Any]:
    return {"usable_cpus": 2, "cpu": "a processor", "load_before": (load, 1.0, 1.0)}


def test_each_aim_is_shown_with_whether_it_holds() -> None:
    shown = report.table(
        [
            Verdict("fast", "12.5x", "ray 214/s", True),
            Verdict("small", "221 MiB", "", False),
            Verdict("whole", "", "ray missing", None),
        ]
    ).splitlines()
    assert [line.split() for line in shown[2:]] == [
        ["fast", "12.5x", "ray", "214/s", "yes"],
        ["small", "221", "MiB", "NO"],
        ["whole", "ray", "missing", "not", "judged"],
    ]


def test_a_peer_keeps_its_figure_on_its_line() -> None:
    peers = "mlflow 128.0 ms, mlserver-sklearn 280.0 ms, mlserver-mlflow 640.0 ms"
    first, second = report.table([Verdict("tail", "1 ms", peers, True)]).splitlines()[2:]
    assert first.split()[3:] == [
        "mlflow",
        "128.0",
        "ms,",
        "mlserver-sklearn",
        "280.0",
        "ms,",
        "yes",
    ]
    assert second.split() == ["mlserver-mlflow", "640.0", "ms"]


def test_the_median_round_is_shown_with_all_failures() -> None:
    rounds = [
        Shot("ours", "linear", 8, 1.0, requests, 1, 1.0, 2.0, 3.0, 4.0, 0.5, protocol="V1")
        for requests in (1000, 500, 2000)
    ]
    (line,) = report.shots(Figures(cpus=2, peers=[], shots=rounds)).splitlines()[1:]
    assert line.split() == [
        "linear", "8", "ours", "1000", "1.00", "2.00", "3.00", "4.00", "3", "0.500", "V1",
    ]  # fmt: skip


def test_the_end_says_what_is_missing_and_whether_the_machine_was_busy() -> None:
    figures = Figures(cpus=2, peers=["ray"], missing={"ray": "cannot be installed"})
    assert report.ending(figures, facts(0.5), 61.2).splitlines() == [
        "ray: cannot be installed",
        "2 CPUs, a processor; took 61 s",
    ]
    assert report.ending(figures, facts(0.6), 61.2).splitlines()[2:] == [
        "The machine was busy before (load 0.6): these figures say little"
    ]
