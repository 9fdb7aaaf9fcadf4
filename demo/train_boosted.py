"""Ben's model: boosted trees, which see that a bad hour is worse in bad weather."""

from __future__ import annotations

import experiment
import flights
from encoding import CodeBook
from sklearn.pipeline import Pipeline
from trees import QuickTrees


def main() -> None:
    """It trains the boosted trees and registers them."""
    tables = flights.load(flights.directory_argument())
    pipeline = Pipeline(
        [
            ("codes", CodeBook(flights.TEXT, flights.NUMBERS)),
            (
                "trees",
                QuickTrees(max_iter=100, learning_rate=0.15, early_stopping=False, random_state=1),
            ),
        ]
    )
    experiment.run(pipeline, tables, author="ben", about="boosted trees")


if __name__ == "__main__":
    main()
