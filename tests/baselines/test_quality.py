"""How good a version was on its reference rows, beside scikit-learn."""

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics as sk

from apps.baselines import quality
from apps.baselines.meaning import Form, Meaning, Read, Task

Labels = npt.NDArray[np.int64]


def read_of(classes: int, rows: int = 4000) -> tuple[Meaning, Read, Labels]:
    """Rows of a model that knows something of its classes, and their labels."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(0, 1, (rows, classes))
    logits[np.arange(rows), labels] += 1.5
    each = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = tuple(f"class-{place}" for place in range(classes))
    meaning = Meaning(Task.MULTICLASS, Form.PROBABILITIES, names, -1)
    return meaning, Read(None, each.argmax(axis=1), each), labels


def test_classes_with_probabilities_have_auc_and_log_loss() -> None:
    meaning, read, labels = read_of(4)

    found = quality.measure(meaning, read, labels)

    assert read.each is not None
    assert found["roc_auc"] == pytest.approx(
        sk.roc_auc_score(labels, read.each, multi_class="ovr", average="macro")
    )
    assert found["log_loss"] == pytest.approx(sk.log_loss(labels, read.each))
    assert found["accuracy"] == sk.accuracy_score(labels, read.predicted)


def test_classes_after_the_twentieth_are_one_as_for_live_rows() -> None:
    meaning, read, labels = read_of(25)

    found = quality.measure(meaning, read, labels)

    assert read.each is not None
    joined = np.column_stack([read.each[:, :20], read.each[:, 20:].sum(axis=1)])
    true = np.minimum(labels, 20)
    assert found["roc_auc"] == pytest.approx(
        sk.roc_auc_score(true, joined, multi_class="ovr", average="macro")
    )
    assert found["log_loss"] == pytest.approx(sk.log_loss(true, joined))


def test_labels_of_one_class_tell_nothing_of_the_order() -> None:
    meaning, read, labels = read_of(3)

    found = quality.measure(meaning, read, np.zeros_like(labels))

    assert {"roc_auc", "log_loss"} & set(found) == set()
