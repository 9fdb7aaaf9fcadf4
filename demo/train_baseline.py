"""Ada's model: a logistic regression on how often a carrier or an airport is late."""

from __future__ import annotations

import experiment
import flights
from encoding import LateShares
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler


def main() -> None:
    """It trains the baseline and registers it."""
    tables = flights.load(flights.directory_argument())
    pipeline = Pipeline(
        [
            ("shares", LateShares(flights.TEXT, flights.NUMBERS)),
            ("scale", StandardScaler()),
            ("regression", LogisticRegression(max_iter=300)),
        ]
    )
    experiment.run(pipeline, tables, author="ada", about="logistic regression")


if __name__ == "__main__":
    main()
