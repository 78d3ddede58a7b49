# SPDX-License-Identifier: Apache-2.0
"""The Python side of early_stopping_test.cpp, with the real Lightning.

early_stopping_twin.py write FOLDER  runs every case, and leaves in FOLDER/cases.pt what was asked for and what came of
                                     it; and FOLDER/<number>.ckpt, where the first half of it ended
early_stopping_twin.py check FOLDER  goes on from FOLDER/cpp/<number>.ckpt, which C++ left, and compares

A module logs the values of a list, one per epoch, or one per validation.
"""
import logging
import math
import pathlib
import sys
import warnings

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import nn

warnings.simplefilter("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
HALF = 2  # epochs before a checkpoint

# options of EarlyStopping, the values, options of the Trainer
CASES = [
    (dict(), [1.0, 0.5, 0.6, 0.7, 0.8, 0.1], {}),
    (dict(patience=1), [0.5, 0.5, 0.4], {}),
    (dict(patience=2, mode="max"), [0.1, 0.3, 0.2, 0.3, 0.9], {}),
    (dict(patience=2, min_delta=0.1), [1.0, 0.9, 0.85, 0.84, 0.83, 0.1], {}),
    (dict(patience=2, min_delta=0.25, mode="max"), [0.25, 0.5, 0.75, 1.0, 1.26, 1.3], {}),
    (dict(patience=5, stopping_threshold=0.3), [1.0, 0.5, 0.3, 0.29, 0.1], {}),
    (dict(patience=5, stopping_threshold=0.7, mode="max"), [0.1, 0.7, 0.2, 0.71], {}),
    (dict(patience=5, divergence_threshold=2.0), [1.0, 1.5, 2.0, 2.1, 0.1], {}),
    (dict(patience=5, divergence_threshold=0.2, mode="max"), [0.9, 0.2, 0.5, 0.1, 0.9], {}),
    (dict(patience=5), [1.0, 0.5, 0.4, math.nan, 0.1], {}),
    (dict(patience=5, mode="max"), [1.0, 2.0, 3.0, math.inf, 4.0], {}),
    (dict(patience=2, check_finite=False), [math.nan, 0.5, math.inf, math.nan, 0.1], {}),
    (dict(patience=1), [0.1, 0.2, 0.3, 0.4, 0.05], dict(min_epochs=4)),
    (dict(patience=2), [0.5, 0.4, 0.45, 0.44, 0.43, 0.1], dict(val_check_interval=0.5)),
    (dict(patience=2, check_on_train_epoch_end=False), [0.5, 0.4, 0.45, 0.44, 0.1], dict(val_check_interval=1.0)),
    (dict(patience=9), [0.5, 0.4, 0.3, 0.2], {}),
]


class Module(pl.LightningModule):
    def __init__(self, values, validates, n_before=0):
        super().__init__()
        self.p = nn.Parameter(torch.zeros(1))
        self.values, self.validates, self.n_logged = values, validates, n_before

    def log_next(self):
        self.log("m", torch.tensor(self.values[self.n_logged]), on_step=False, on_epoch=True)
        self.n_logged += 1

    def training_step(self, batch, batch_idx):
        if not self.validates and batch_idx == 1:
            self.log_next()
        return self.p.sum()

    def validation_step(self, batch, batch_idx):
        self.log_next()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def n_epochs_of(values, trainer_options):
    return len(values) // (2 if trainer_options.get("val_check_interval") == 0.5 else 1)


class Messages(logging.Handler):
    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def fit(case, max_epochs=None, ckpt_path=None, n_before=0):
    """What came of it, and the Trainer."""
    options, values, trainer_options = case
    validates = "val_check_interval" in trainer_options
    module = Module(values, validates, n_before)
    stopper = EarlyStopping("m", verbose=True, **options)
    trainer = pl.Trainer(max_epochs=max_epochs or n_epochs_of(values, trainer_options), accelerator="cpu", logger=False,
                         enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                         num_sanity_val_steps=0, callbacks=[stopper], **trainer_options)
    messages = Messages()
    log = logging.getLogger("pytorch_lightning.callbacks.early_stopping")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(messages)
    try:
        loader = torch.utils.data.DataLoader(torch.arange(2), batch_size=1)
        validation = torch.utils.data.DataLoader(torch.arange(1)) if validates else None
        trainer.fit(module, loader, validation, ckpt_path=ckpt_path)
    finally:
        log.removeHandler(messages)
    return {"n_logged": module.n_logged, "epoch": trainer.current_epoch, "key": stopper.state_key,
            "state": stopper.state_dict(), "messages": messages.texts}, trainer


def write(folder):
    cases = []
    for number, case in enumerate(CASES):
        outcome, _ = fit(case)
        half, trainer = fit(case, max_epochs=HALF)
        if half["state"]["stopping_reason"] == 0:
            trainer.save_checkpoint(folder / f"{number}.ckpt")
        cases.append({"options": case[0], "values": case[1], "trainer": case[2], "n_before": half["n_logged"],
                      "has_half": half["state"]["stopping_reason"] == 0, "outcome": outcome})
    torch.save({"cases": cases}, folder / "cases.pt")


def check(folder):
    n_checked = 0
    for number, case in enumerate(CASES):
        path = folder / "cpp" / f"{number}.ckpt"
        if not path.exists():
            continue
        expected, _ = fit(case)
        half, _ = fit(case, max_epochs=HALF)
        found, _ = fit(case, ckpt_path=path, n_before=half["n_logged"])
        found["messages"] = half["messages"] + found["messages"]
        assert str(found) == str(expected), f"case {number}: {found}, expected {expected}"
        n_checked += 1
    assert n_checked >= 10, n_checked


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"write": write, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
