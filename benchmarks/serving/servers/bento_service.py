"""BentoML's service: an array in, an array out. Run in BentoML's own environment."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1, traffic={"timeout": 30})
class Rows:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @bentoml.api
    async def predict(self, rows: np.ndarray) -> np.ndarray:
        """It predicts in the event loop."""
        return self.model.predict(rows)

    @bentoml.api
    def predict_in_thread(self, rows: np.ndarray) -> np.ndarray:
        """It predicts in one of BentoML's threads, as most examples do."""
        return self.model.predict(rows)
