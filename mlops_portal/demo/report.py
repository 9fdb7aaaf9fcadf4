"""What was observed at each point of the main path, as it is written to the report."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TITLES = {
    1: "Data scientists' MLflow scripts train on real data and register versions",
    2: "A version stands in the panel within 5 s, told by MLflow's signed webhook",
    3: "The build locks, installs, digests and proves the model in a process of its own",
    4: "The gates judge the candidate on the holdout and keep their evidence",
    5: "Staging is approved by policy, production by a person; wrong approvals are refused",
    6: "The rollout moves live traffic 10 %, 50 %, 100 % and pages follow without reload",
    7: "A harmful candidate is stopped by its analysis and taken back by itself",
    8: "Aliases follow, and the audit answers what served when",
}


@dataclass
class Report:
    say: Callable[[str], None]
    points: dict[int, dict[str, Any]] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    failure: str = ""

    def observe(self, point: int, **seen: Any) -> None:
        """It adds what was seen at a point; a point without any was not observed."""
        self.points.setdefault(point, {}).update(seen)
        for name, value in seen.items():
            self.say(f"    {name.replace('_', ' ')}: {short(value)}")

    def measure(self, **figures: Any) -> None:
        self.measured.update(figures)

    @property
    def all_observed(self) -> bool:
        return not self.failure and set(self.points) == set(TITLES)

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.all_observed,
            "failure": self.failure,
            "points": [
                {
                    "point": n,
                    "title": title,
                    "observed": n in self.points,
                    "seen": self.points.get(n),
                }
                for n, title in TITLES.items()
            ],
            "measured": self.measured,
        }

    def write(self, path: Path) -> None:
        temporary = path.with_suffix(path.suffix + ".tmp")
        temporary.write_text(json.dumps(self.as_json(), indent=2, default=str) + "\n")
        temporary.replace(path)


def short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 160 else text[:157] + "…"
