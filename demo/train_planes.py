"""Ben's second model: larger trees that also know the aircraft and the flight number.

It is better on the holdout, and it is the model that must not reach everybody: it looks aircraft
and flight numbers up in a table of those seen from January to June, held-out rows included, so
no held-out row can miss. In July airlines fly with new aircraft under new numbers.
"""

from __future__ import annotations

import experiment
import flights
import pandas as pd
from encoding import CodeBook
from sklearn.pipeline import Pipeline
from trees import QuickTrees

LOOKED_UP = ["tailnum", "flight_number"]


def main() -> None:
    """It trains the larger trees and registers them."""
    tables = flights.load(flights.directory_argument())
    half_year = pd.concat([tables.training, tables.holdout])
    known = {column: sorted(set(half_year[column])) for column in LOOKED_UP}
    pipeline = Pipeline(
        [
            ("codes", CodeBook([*flights.TEXT, *LOOKED_UP], flights.NUMBERS, known)),
            (
                "trees",
                QuickTrees(
                    max_iter=100,
                    learning_rate=0.15,
                    max_leaf_nodes=63,
                    early_stopping=False,
                    random_state=1,
                ),
            ),
        ]
    )
    experiment.run(pipeline, tables, author="ben", about="boosted trees with aircraft")


if __name__ == "__main__":
    main()
