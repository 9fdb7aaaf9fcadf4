"""It walks scikit-learn's trees without what the library does anew for every row and tree.

Source: sklearn.ensemble._forest, _gb and _hist_gradient_boosting, 1.9.1.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from model_server.loading.direct import Array, Call

FORESTS = {
    "DecisionTreeClassifier",
    "DecisionTreeRegressor",
    "ExtraTreeClassifier",
    "ExtraTreeRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
    "RandomForestClassifier",
    "RandomForestRegressor",
}
BOOSTED = {"GradientBoostingClassifier", "GradientBoostingRegressor"}
BINNED = {"HistGradientBoostingClassifier", "HistGradientBoostingRegressor"}
# All trees walk side by side, each level in a few calls; beyond these it costs more than it spares.
MAX_NODES = 1_000_000
MAX_DEPTH = 48


def ways(model: Any, method: str) -> Iterator[Call]:
    """It gives the computations that the method may be; a trial shows which of them it is."""
    kind = type(model).__name__
    if kind in FORESTS and model.n_outputs_ == 1:
        yield from _forest(model, method)
    elif kind in BOOSTED:
        yield from _boosted(model, method)
    elif kind in BINNED:
        yield from _binned(model, method)


def split_rows(model: Any, columns: int, count: int = 32) -> Array:
    """It makes rows of values at which the trees split: there a mistake would show."""
    features, values = _splits(model)
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(values), 20_000) if len(values) else np.empty(0, dtype=int)
    features, values = features[chosen], values[chosen]
    rows = np.zeros((count, columns))
    for feature in range(columns):
        own = values[(features == feature) & np.isfinite(values)]
        if own.size:
            rows[:, feature] = rng.choice(own, count)
    return rows


class Walk:
    """It finds the leaves that rows fall into, in all trees at once.

    Each tree is its features, thresholds, left and right children; a leaf has itself as both.
    """

    def __init__(self, trees: list[tuple[Array, Array, Array, Array]], depth: int) -> None:
        sizes = [len(tree[0]) for tree in trees]
        self._starts = np.cumsum([0, *sizes[:-1]])
        self._depth = depth
        self._features = np.concatenate([tree[0] for tree in trees]).astype(np.intp)
        self._thresholds = np.concatenate([tree[1] for tree in trees])
        # The right child stands before the left one, so that "goes left" is the index.
        pairs = [
            np.stack([right, left], axis=1) + start
            for (_, _, left, right), start in zip(trees, self._starts, strict=True)
        ]
        self._children = np.concatenate(pairs).astype(np.intp).ravel()

    def leaves(self, row: Array) -> Array:
        """It returns one node a tree."""
        at = self._starts
        for _ in range(self._depth):
            is_left = row.take(self._features.take(at)) <= self._thresholds.take(at)
            at = self._children.take(2 * at + is_left)
        return at


def _splits(model: Any) -> tuple[Array, Array]:
    if type(model).__name__ in BINNED:
        nodes = np.concatenate([tree.nodes for row in model._predictors for tree in row])
        inner = nodes[nodes["is_leaf"] == 0]
        return inner["feature_idx"], inner["num_threshold"]
    members = np.ravel(np.array(getattr(model, "estimators_", [model]), dtype=object))
    trees = [member.tree_ for member in members]
    # A leaf's feature is negative, and no column has that number.
    return (
        np.concatenate([tree.feature for tree in trees]),
        np.concatenate([tree.threshold for tree in trees]),
    )


def _forest(model: Any, method: str) -> Iterator[Call]:
    trees = [member.tree_ for member in getattr(model, "estimators_", [model])]
    is_classifier = hasattr(model, "classes_")
    values = [tree.value[:, 0, :] for tree in trees]
    for table in (values, [_shares(value) for value in values]) if is_classifier else (values,):
        mean = _mean(trees, table)
        if is_classifier and method == "predict_proba":
            yield mean
        elif is_classifier and method == "predict":
            yield _largest(mean, np.asarray(model.classes_))
        elif method == "predict":
            yield _first(mean)


def _shares(value: Array) -> Array:
    # Before release 1.3 nodes held counts.
    total = value.sum(axis=1)[:, np.newaxis]
    total[total == 0.0] = 1.0
    found: Array = value / total
    return found


def _mean(trees: list[Any], values: list[Array]) -> Call:
    """It adds the trees up one after the other: in another order the last digit may differ."""
    walk = _walk(trees)
    joined = np.concatenate(values) if walk else np.empty(0)
    applies = [tree.apply for tree in trees]
    count = len(trees)

    def mean(data: Array) -> Array:
        rows = np.ascontiguousarray(data, dtype=np.float32)
        if walk is not None and len(rows) == 1:
            found = joined.take(walk.leaves(rows[0]), axis=0)
            # Zero is added last as the library does it first: no sum is -0.0.
            total: Array = np.add.accumulate(found, axis=0)[-1:] + 0.0
        else:
            total = np.zeros((len(rows), values[0].shape[1]))
            for apply, value in zip(applies, values, strict=True):
                total += value.take(apply(rows), axis=0)
        total /= count
        return total

    return mean


def _walk(trees: list[Any]) -> Walk | None:
    depth = max(tree.max_depth for tree in trees)
    # A lone tree is walked faster by its own method.
    is_worth_it = len(trees) > 8 and depth <= MAX_DEPTH
    if not is_worth_it or sum(tree.node_count for tree in trees) > MAX_NODES:
        return None
    return Walk([_parts(tree) for tree in trees], depth)


def _parts(tree: Any) -> tuple[Array, Array, Array, Array]:
    itself = np.arange(tree.node_count)
    is_leaf = tree.children_left < 0
    return (
        np.where(is_leaf, 0, tree.feature),
        tree.threshold,
        np.where(is_leaf, itself, tree.children_left),
        np.where(is_leaf, itself, tree.children_right),
    )


def _boosted(model: Any, method: str) -> Iterator[Call]:
    if model.init_ != "zero" and not type(model.init_).__name__.startswith("Dummy"):
        return
    stages: Any = importlib.import_module("sklearn.ensemble._gradient_boosting").predict_stages
    # A dummy answers every row alike.
    begin: Array = model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))

    def raw(data: Array) -> Array:
        rows = np.ascontiguousarray(data, dtype=np.float32)
        found = np.repeat(begin, len(rows), axis=0)
        stages(model.estimators_, rows, model.learning_rate, found)
        return found

    yield from _answers(model, method, raw, zero=1)


def _binned(model: Any, method: str) -> Iterator[Call]:
    trees = [tree.nodes for row in model._predictors for tree in row]
    per_round = len(model._predictors[0])
    categories = getattr(model, "_preprocessor", None)
    if categories is not None or any(nodes["is_categorical"].any() for nodes in trees):
        return
    depth = max(int(nodes["depth"].max()) for nodes in trees)
    if depth > MAX_DEPTH or sum(map(len, trees)) > MAX_NODES:
        return
    walk = Walk([_binned_parts(nodes) for nodes in trees], depth)
    values = np.concatenate([nodes["value"] for nodes in trees])
    begin: Array = np.reshape(model._baseline_prediction, (1, -1))

    def raw(data: Array) -> Array:
        rows = np.asarray(data, dtype=np.float64)
        found = np.empty((len(rows), per_round))
        for number, row in enumerate(rows):
            rounds = values.take(walk.leaves(row)).reshape(-1, per_round)
            found[number] = np.add.accumulate(np.concatenate([begin, rounds]), axis=0)[-1]
        return found

    yield from _answers(model, method, raw, zero=0)


def _binned_parts(nodes: Array) -> tuple[Array, Array, Array, Array]:
    itself = np.arange(len(nodes))
    is_leaf = nodes["is_leaf"] != 0
    return (
        np.where(is_leaf, 0, nodes["feature_idx"]),
        nodes["num_threshold"],
        np.where(is_leaf, itself, nodes["left"]),
        np.where(is_leaf, itself, nodes["right"]),
    )


def _answers(model: Any, method: str, raw: Call, *, zero: int) -> Iterator[Call]:
    """It turns sums into answers; zero is the class of a sum of nought."""
    if not hasattr(model, "classes_"):
        if method == "predict":
            loss = getattr(model, "_loss", None)
            yield _first(raw)
            # Those with a link other than identity answer through it.
            if hasattr(loss, "link"):
                yield lambda data: loss.link.inverse(raw(data).ravel())  # type: ignore[union-attr]
        return
    if method == "predict":
        yield _sides(raw, np.asarray(model.classes_), zero)
    elif method == "predict_proba":
        loss = model._loss

        def chances(data: Array) -> Array:
            found = raw(data)
            flat: Array = loss.predict_proba(found.ravel() if found.shape[1] == 1 else found)
            return flat

        yield chances


def _sides(raw: Call, classes: Array, zero: int) -> Call:
    def labels(data: Array) -> Array:
        found = raw(data)
        if found.shape[1] > 1:
            chosen: Array = found.argmax(axis=1)
        else:
            flat = found.ravel()
            chosen = (flat >= 0 if zero else flat > 0).astype(int)
        picked: Array = classes[chosen]
        return picked

    return labels


def _largest(chances: Call, classes: Array) -> Call:
    def labels(data: Array) -> Array:
        picked: Array = classes.take(chances(data).argmax(axis=1), axis=0)
        return picked

    return labels


def _first(found: Call) -> Call:
    def first(data: Array) -> Array:
        return np.ascontiguousarray(found(data)[:, 0])

    return first
