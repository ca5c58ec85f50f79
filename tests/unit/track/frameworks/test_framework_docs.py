"""Every snippet of docs/training-frameworks.md runs and records a training that ended."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import assay

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
]
PAGE = Path(__file__).parents[4] / "docs" / "training-frameworks.md"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = (X[:, 0] + 0.5 * RNG.normal(size=60) > 0).astype(int)


def snippets() -> list[Any]:
    """Section and code of every Python block."""
    found = []
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title = section.split("\n", 1)[0]
        blocks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
        found += [pytest.param(title, code, id=f"{title}-{number}") for number, code in enumerate(blocks)]
    return found


def names(title: str) -> dict[str, Any]:
    """What the page calls yours."""
    build = {
        "PyTorch": _torch,
        "Hugging Face Trainer": _trainer,
        "Lightning": _lightning,
        "Accelerate": _accelerate,
    }
    build |= {"Keras 3": _keras, "XGBoost": _xgboost, "LightGBM": _lightgbm, "scikit-learn": _sklearn}
    return {"assay": assay, "X": X, "y": Y, **build[title]()}


def _torch() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    rows = torch.utils.data.TensorDataset(torch.tensor(X).float(), torch.tensor(Y).float()[:, None])
    model = torch.nn.Linear(4, 1)

    def loss(model: Any, batch: Any) -> Any:
        return ((model(batch[0]) - batch[1]) ** 2).mean()

    loader = torch.utils.data.DataLoader(rows, batch_size=10, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    evaluate = lambda model: float(loss(model, next(iter(loader))).detach())  # noqa: E731
    return {
        "torch": torch,
        "model": model,
        "loss": loss,
        "loader": loader,
        "optimizer": optimizer,
        "evaluate": evaluate,
    }


def _trainer() -> dict[str, Any]:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    ids = {"bos_token_id": 0, "eos_token_id": 0, "loss_type": "ForCausalLM"}
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=50, n_positions=16, **ids)
    rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(8)]
    args = transformers.TrainingArguments(
        output_dir="out", num_train_epochs=1, use_cpu=True, report_to="none", disable_tqdm=True,
        eval_strategy="epoch", save_strategy="epoch", dataloader_pin_memory=False,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    return {"Trainer": transformers.Trainer, "model": model, "args": args, "rows": rows}


def _lightning() -> dict[str, Any]:
    lightning = pytest.importorskip("lightning")
    given = _torch()

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = given["model"]

        def training_step(self, batch: Any, index: int) -> Any:
            return given["loss"](self.net, batch)

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", given["loss"](self.net, batch))

        def configure_optimizers(self) -> Any:
            return given["optimizer"]

    loader, loaders = given["loader"], given["torch"].utils.data
    held_out = loaders.DataLoader(loader.dataset, batch_size=10)
    return {"lightning": lightning, "module": Module(), "loader": loader, "held_out": held_out}


def _accelerate() -> dict[str, Any]:
    accelerate = pytest.importorskip("accelerate")
    return {"Accelerator": accelerate.Accelerator}


def _keras() -> dict[str, Any]:
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return {"model": model}


def _xgboost() -> dict[str, Any]:
    xgboost = pytest.importorskip("xgboost")
    return {
        "xgboost": xgboost,
        "train": xgboost.DMatrix(X[:40], Y[:40]),
        "valid": xgboost.DMatrix(X[40:], Y[40:]),
    }


def _lightgbm() -> dict[str, Any]:
    lightgbm = pytest.importorskip("lightgbm")
    train = lightgbm.Dataset(X[:40], Y[:40])
    return {"lightgbm": lightgbm, "train": train, "valid": lightgbm.Dataset(X[40:], Y[40:], reference=train)}


def _sklearn() -> dict[str, Any]:
    linear = pytest.importorskip("sklearn.linear_model")
    grid = pytest.importorskip("sklearn.model_selection").ParameterGrid
    forest = pytest.importorskip("sklearn.ensemble").RandomForestClassifier
    estimators = {"LogisticRegression": linear.LogisticRegression, "SGDClassifier": linear.SGDClassifier}
    return {**estimators, "ParameterGrid": grid, "RandomForestClassifier": forest}


@pytest.mark.parametrize(("title", "code"), snippets())
def test_the_snippet_runs_and_is_recorded(title, code, root, record) -> None:
    """As it stands on the page, in an empty folder; each experiment it opens has steps and has completed."""
    exec(compile(code, str(PAGE), "exec"), names(title))
    experiments = sorted(root.glob("exp-*"))
    assert len(experiments) == code.count("assay.experiment(")
    for number in range(1, len(experiments) + 1):
        found = record(number)
        found.assert_healthy()
        assert found.steps
        assert found.one("training_ended")["reason"] == "completed"


def test_every_framework_has_a_snippet() -> None:
    """A section that lost its code would pass unseen."""
    assert {parameter.values[0] for parameter in snippets()} == {
        "PyTorch", "Hugging Face Trainer", "Lightning", "Accelerate", "Keras 3", "XGBoost", "LightGBM", "scikit-learn",
    }  # fmt: skip
