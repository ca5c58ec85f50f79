"""Facts about data before step 0: shared rows, telling columns, order, shares; nothing is drawn, nothing is indexed."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from assay.track.data import batch_label_entropy, facts

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(600, 6))
Y = (X[:, 0] + X[:, 1] + 0.5 * RANDOM.normal(size=600) > 0).astype(int)


def test_shared_rows_are_counted() -> None:
    """Thirty validation rows copied from training are thirty of a hundred."""
    held = np.concatenate([X[:30], RANDOM.normal(size=(70, 6))])
    assert facts((X, Y), (held, Y[:100]))["overlap_frac"] == pytest.approx(0.3)
    assert facts((X, Y), (RANDOM.normal(size=(100, 6)), Y[:100]))["overlap_frac"] == 0.0


def test_the_label_as_a_column_stands_out_and_its_copy_too() -> None:
    """A column that holds the label scores 1 and the runner-up is no copy of it."""
    told = facts((np.column_stack([X, Y, Y * 2.0]), Y))
    assert (told["feature_score"], told["feature"] in (6, 7)) == (1.0, True)
    assert told["feature_score_second"] < 0.9
    assert facts((X, Y))["feature_score"] < 0.9


def test_the_input_as_its_own_target_is_no_leak() -> None:
    """An autoencoder is told to give back its input: no column stands out."""
    assert "feature_score" not in facts((X, X))


def test_regression_targets_in_a_column_are_found() -> None:
    """One column equal to the target explains it."""
    y = X @ np.arange(6.0) + RANDOM.normal(size=600)
    told = facts((np.column_stack([X, y]), y))
    assert told["task"] == "regression"
    assert told["feature"] == 6
    assert told["feature_score"] > 0.9


def test_a_sorted_set_has_batches_of_one_label() -> None:
    """Entropy of the first batches against what random batches of that size have."""
    order = np.argsort(Y, kind="stable")
    told = facts((X[order], Y[order]), batch_size=32, shuffle=False)
    assert told["batch_label_entropy"] == [0.0] * 5
    assert 0.6 < told["expected_batch_label_entropy"] < 0.693
    assert "batch_label_entropy" not in facts((X, Y), batch_size=32, shuffle=True)


def test_the_expected_entropy_is_that_of_random_batches() -> None:
    """The exact mean agrees with drawn batches, for small ones too."""
    labels = RANDOM.integers(0, 10, 2000)
    for size in (4, 32):
        told = facts((RANDOM.normal(size=(2000, 2)), labels), batch_size=size)["expected_batch_label_entropy"]
        drawn = [batch_label_entropy((None, RANDOM.choice(labels, size))) for _ in range(3000)]
        assert told == pytest.approx(np.mean(drawn), abs=0.02)


def test_differing_label_shares_are_told_with_their_noise() -> None:
    """A validation set of one label is far away; a small fair one is within noise."""
    told = facts((X, Y), (X[:50] + 9, np.zeros(50, dtype=int)))
    assert told["label_distance"] > 0.2 + 3 * told["label_distance_noise"]
    told = facts((X, Y), (X[:20] + 9, Y[:20]))
    assert told["label_distance"] < 0.2 + 3 * told["label_distance_noise"]


def test_loaders_are_read_without_being_started() -> None:
    """Order and batch size come from the loader, rows from its stored tensors; no random number is drawn."""
    stored = TensorDataset(torch.tensor(X), torch.tensor(Y))
    state, python = torch.get_rng_state(), random.getstate()
    told = facts(DataLoader(stored, batch_size=16, shuffle=True), DataLoader(stored, batch_size=64))
    assert (told["batch_size"], told["shuffled"], told["overlap_frac"]) == (16, True, 1.0)
    assert facts(DataLoader(stored, batch_size=16))["shuffled"] is False
    assert torch.equal(state, torch.get_rng_state())
    assert python == random.getstate()


def test_a_dataset_is_never_indexed() -> None:
    """Its items may be augmented at random or cost a download."""

    class Costly(Dataset[Any]):
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> Any:
            raise AssertionError("was indexed")

    told = facts(DataLoader(Costly(), batch_size=2))
    assert told["batch_size"] == 2
    assert "problem" not in told


@pytest.mark.parametrize(
    "odd", [None, 3, "text", [], [None], object(), (1, 2), {}, np.zeros((0, 3)), [[1, 2], [3]]]
)
def test_odd_containers_raise_nothing(odd: Any) -> None:
    """What cannot be read is absent, or a problem is named."""
    assert isinstance(facts(odd, odd, labels=odd), dict)


def test_nonfinite_cells_and_constant_columns_are_counted() -> None:
    """Cells that are not finite do not stop the rest."""
    x = np.column_stack([X, np.ones(600)])
    x[3, 2] = np.nan
    told = facts((x, Y))
    assert (told["nonfinite_cells"], told["constant_features"]) == (1, 1)


def test_time_is_bounded() -> None:
    """With no time left the costly parts are left out and it says so."""
    told = facts((RANDOM.normal(size=(5000, 500)), RANDOM.integers(0, 3, 5000)), max_s=0.0)
    assert "stopped" in told["problem"]


def test_without_numpy_it_says_so() -> None:
    """A script that did not load numpy is not made to."""
    code = "import sys; from assay.track.data import facts; print(facts([1, 2]), 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "numpy is not loaded" in done.stdout
    assert done.stdout.strip().endswith("False")
