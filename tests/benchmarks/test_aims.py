"""Which figures hold an aim, and that nothing counts as held that was not measured."""

import dataclasses
from typing import Any

from benchmarks.serving.aims import Figures, Start, Switches, Verdict, judge, spread
from benchmarks.serving.figures import Shot

PEERS = ("mlflow", "ray")


def shot(system: str, requests: int, model: str = "linear", **changed: Any) -> Shot:
    made = Shot(system, model, 8, 1.0, requests, 0, 1.0, 1.5, 2.0, 3.0, requests / 10_000)
    return dataclasses.replace(made, **changed)


def good() -> Figures:
    """Everything measured, every aim just held."""
    models = ("linear", "lightgbm", "forest")
    one = shot("ours", 1000, worker_cpu_seconds=(0.1,), server_cpu_seconds=0.1)
    two = shot("ours", 1700, worker_cpu_seconds=(0.0, 0.085, 0.085), server_cpu_seconds=0.17)
    past = shot("ours", 1000, concurrency=1, p50=1.0)
    return Figures(
        cpus=4,
        peers=PEERS,
        shots=[
            *[shot("ours", 1200, model) for model in models],
            *[shot("mlflow", 100, model, p99=9.0) for model in models],
            *[shot("ray", 600, model, p99=2.1) for model in models],
        ],
        library={"lightgbm": [1400.0, 1411.0, 1500.0], "forest": [1000.0]},
        gateway=[(dataclasses.replace(past, p50=1.4), past)],
        capture=[(shot("ours", 950), shot("ours", 1000))],
        workers=[(two, one)],
        switches=[
            Switches(1, [1.0, 9.9], [9.9], [0.0], [5.0], 10_000, 0),
            Switches(200, [49.9], [30.0], [0.0], [50.0], 10_000, 0),
        ],
        starts=[Start("linear", 1.0, 150.0), Start("forest", 4.9, 219.0)],
    )


def verdict(figures: Figures, words: str) -> Verdict:
    (found,) = [one for one in judge(figures) if words in one.aim]
    return found


def test_every_aim_holds_at_its_limit() -> None:
    assert {one.aim: one.holds for one in judge(good())} == {
        "linear, 8 callers: at least 12x mlflow models serve": True,
        "linear, 8 callers: at least 2x the fastest peer": True,
        "linear, 8 callers: p99 lower than every peer's": True,
        "lightgbm, 8 callers: at least 85 % of the library in a loop": True,
        "forest, 8 callers: at least 85 % of the library in a loop": True,
        "two workers: at least 1.7x of one": True,
        "the gateway adds at most 0.4 ms at p50 (1 caller)": True,
        "capture costs at most 5 % of throughput (8 callers)": True,
        "1 endpoint: weights change within 10 ms, back too, 0 failed": True,
        "200 endpoints: weights change within 50 ms, back too, 0 failed": True,
        "a scikit-learn replica takes less than 220 MiB": True,
        "a replica is ready within 5 s": True,
        "every answer is right": True,
    }


def test_nothing_measured_is_nothing_judged() -> None:
    assert {one.holds for one in judge(Figures(cpus=2, peers=PEERS))} == {None}


def test_the_figures_of_ours_and_of_the_peers_are_shown() -> None:
    seen = verdict(good(), "fastest peer")
    assert (seen.seen, seen.peers) == ("2.0x (1200/s)", "mlflow 100/s, ray 600/s")
    seen = verdict(good(), "lightgbm")
    assert (seen.seen, seen.peers) == ("85 % (1200/s of 1411/s)", "mlflow 7 %, ray 43 %")


def test_a_peer_that_is_missing_leaves_the_aims_that_need_it_unjudged() -> None:
    figures = good()
    figures.shots = [one for one in figures.shots if one.system != "ray"]
    assert verdict(figures, "12x").holds is True
    for words in ("fastest peer", "p99 lower", "lightgbm", "forest"):
        assert verdict(figures, words).holds is None
        assert "ray missing" in verdict(figures, words).peers


def test_each_aim_fails_on_its_own_figure() -> None:
    slower = good()
    slower.shots[0] = dataclasses.replace(slower.shots[0], requests=1199, p99=2.1)
    for words in ("12x", "fastest peer", "p99 lower"):
        assert verdict(slower, words).holds is False
    costly = good()
    costly.capture = [(shot("ours", 949), shot("ours", 1000))]
    assert verdict(costly, "capture").holds is False
    far = good()
    far.gateway = [(dataclasses.replace(far.gateway[0][0], p50=1.41), far.gateway[0][1])]
    assert verdict(far, "gateway").holds is False
    big = good()
    big.starts.append(Start("linear", 5.0, 220.0))
    assert (verdict(big, "MiB").holds, verdict(big, "ready").holds) == (False, False)


def test_memory_is_judged_of_scikit_learn_and_readiness_of_all() -> None:
    figures = good()
    figures.starts.append(Start("lightgbm", 6.0, 900.0))
    assert (verdict(figures, "MiB").holds, verdict(figures, "ready").holds) == (True, False)


def test_a_switch_fails_when_either_way_is_slow_or_a_request_is_lost() -> None:
    for changed in ({"forward": [10.0]}, {"back": [1.0, 10.0]}, {"failed": 1}):
        figures = good()
        figures.switches[0] = dataclasses.replace(figures.switches[0], **changed)
        assert verdict(figures, "1 endpoint").holds is False


def test_two_workers_are_judged_by_processor_time_where_processors_are_few() -> None:
    figures = good()
    figures.cpus = 2
    two, one = figures.workers[0]
    slow = dataclasses.replace(two, requests=1000, server_cpu_seconds=0.11)
    figures.workers = [(slow, one)]
    # 0.1 ms against 0.11 ms a request, shared evenly by two.
    assert verdict(figures, "two workers").seen == (
        "1.00x directly, 1.82x per CPU second and worker (judged, 2 CPUs)"
    )
    assert verdict(figures, "two workers").holds is True
    figures.cpus = 4
    assert verdict(figures, "two workers").holds is False


def test_work_that_one_worker_does_alone_is_no_work_of_two() -> None:
    assert spread(shot("ours", 1, worker_cpu_seconds=(0.0, 1.0, 1.0))) == 2.0
    assert spread(shot("ours", 1, worker_cpu_seconds=(0.0, 1.0, 0.25))) == 1.25
    assert spread(shot("ours", 1)) == 0.0


def test_a_wrong_answer_of_ours_is_a_failure_of_the_run() -> None:
    figures = good()
    figures.shots[0] = dataclasses.replace(figures.shots[0], failed=1)
    assert verdict(figures, "every answer").holds is False
    assert verdict(figures, "every answer").seen == "1 of 3601 failed"
