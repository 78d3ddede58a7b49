# SPDX-License-Identifier: Apache-2.0
"""The Python side of lightning_test.cpp, with the real Lightning.

lightning_twin.py write FOLDER  trains every case without a break, and leaves in FOLDER/<case>: init.pt (the weights at
                                the start), epoch.ckpt, mid.ckpt and after.ckpt (saved by Lightning on the way) and
                                run.pt (every loss, and the model's output at the end)
lightning_twin.py check FOLDER  goes on from the checkpoints of the same names that C++ left in FOLDER/<case>/cpp, and
                                compares with the losses that C++ went on with; loads its weights alone

A batch is known by its index, since Lightning's plain loader begins anew where a run is resumed in the middle of an
epoch: only its count goes on.
"""
import logging
import pathlib
import sys
import warnings

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

warnings.simplefilter("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
N_BATCHES, N_EPOCHS, MID_STEP = 8, 4, 11
DTYPE = torch.float64  # so that 1e-6 is about the state that is restored, and not about the order of sums


def make_data():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(N_BATCHES, 8, 16, generator=generator, dtype=DTYPE)
    return x, torch.tanh(x.sum(-1, keepdim=True) / 4)


X, Y = make_data()


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, num_layers=2, batch_first=True)
        self.head = nn.Linear(6, 1)

    def forward(self, x):
        return self.head(self.lstm(x.view(8, 4, 4))[0][:, -1])


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0), 2)
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.encoder(x.view(8, 2, 8).transpose(0, 1)).mean(0))


def make_net(kind):
    if kind == "mlp":
        return nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1))
    if kind == "cnn":
        return nn.Sequential(nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
                             nn.Flatten(), nn.Linear(16, 1))
    return Lstm() if kind == "lstm" else Transformer()


# case: model, optimizer, its options, scheduler, its options, Lightning's options for it
CASES = {
    "mlp_adam_step": ("mlp", "Adam", dict(lr=1e-2), "StepLR", dict(step_size=1, gamma=0.5), {}),
    "mlp_sgd_onecycle": ("mlp", "SGD", dict(lr=0.1, momentum=0.9), "OneCycleLR", dict(max_lr=0.2, total_steps=40),
                         {"interval": "step"}),
    "cnn_adamw_cosine": ("cnn", "AdamW", dict(lr=1e-2, weight_decay=0.1), "CosineAnnealingLR", dict(T_max=4), {}),
    "lstm_rmsprop_multistep": ("lstm", "RMSprop", dict(lr=1e-2, momentum=0.5, centered=True), "MultiStepLR",
                               dict(milestones=[1, 2, 2], gamma=0.5), {}),
    "transformer_adam_exponential": ("transformer", "Adam", dict(lr=1e-2, amsgrad=True), "ExponentialLR",
                                     dict(gamma=0.7), {}),
    "mlp_adagrad_linear": ("mlp", "Adagrad", dict(lr=0.1, lr_decay=0.01), "LinearLR",
                           dict(start_factor=0.5, total_iters=3), {}),
    "mlp_lbfgs_constant": ("mlp", "LBFGS", dict(lr=0.1, max_iter=3, history_size=4), "ConstantLR",
                           dict(factor=0.5, total_iters=2), {}),
    "mlp_sgd_plateau": ("mlp", "SGD", dict(lr=0.1), "ReduceLROnPlateau",
                        dict(factor=0.5, patience=0, threshold=0.9), {"monitor": "val_loss"}),
    "mlp_adam_warm_restarts": ("mlp", "Adam", dict(lr=1e-2), "CosineAnnealingWarmRestarts", dict(T_0=2, T_mult=2), {}),
    "mlp_sgd_lambda": ("mlp", "SGD", dict(lr=0.1, momentum=0.9, nesterov=True), "LambdaLR",
                       dict(lr_lambda=lambda epoch: 1 / (1 + epoch)), {}),
    "mlp_adamw_sequential": ("mlp", "AdamW", dict(lr=1e-2), "SequentialLR", dict(milestones=[4]), {"interval": "step"}),
}
FIRST_AFTER = {"epoch": (1, 8, 0), "mid": (1, 11, 3), "after": (1, 8, 0)}  # epoch, global_step, batch_idx


def make_scheduler(optimizer, name, options):
    if name != "SequentialLR":
        return getattr(lr_scheduler, name)(optimizer, **options)
    parts = [lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 4), lr_scheduler.MultiStepLR(optimizer, [5, 9], 0.5)]
    return lr_scheduler.SequentialLR(optimizer, parts, **options)


class Module(pl.LightningModule):
    def __init__(self, case, net_width=8):
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(1)
        self.net = make_net(CASES[case][0]).to(DTYPE)
        self.losses = []

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self(X[batch_idx]), Y[batch_idx])
        self.losses.append((batch_idx, loss.item()))
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.mse_loss(self(X[batch_idx]), Y[batch_idx]), batch_size=1)

    def configure_optimizers(self):
        _, optimizer, options, scheduler, scheduler_options, lightning = CASES[self.hparams.case]
        optimizer = getattr(torch.optim, optimizer)(self.parameters(), **options)
        scheduler = make_scheduler(optimizer, scheduler, scheduler_options)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **lightning}}


class SaveOnTheWay(pl.Callback):
    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == MID_STEP:
            trainer.save_checkpoint(self.folder / "mid.ckpt")

    def on_train_epoch_end(self, trainer, module):
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.folder / "epoch.ckpt")


class NoteFirst(pl.Callback):
    """Where Lightning's progress stands when the first batch begins."""
    first = None

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.first = self.first or (trainer.current_epoch, trainer.global_step, batch_idx)


def output_of(module):
    module.eval()
    with torch.no_grad():
        return module(X[0])


def loader():
    return DataLoader(torch.arange(N_BATCHES), batch_size=1)


def fit(module, max_epochs, callbacks=(), ckpt_path=None):
    trainer = pl.Trainer(max_epochs=max_epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
                         callbacks=list(callbacks))
    trainer.fit(module, loader(), loader(), ckpt_path=ckpt_path)
    return trainer


def write(root):
    torch.save({"x": X, "y": Y}, root / "data.pt")
    for case in CASES:
        folder = root / case
        folder.mkdir(parents=True)
        module = Module(case)
        torch.save(module.state_dict(), folder / "init.pt")
        initial_output = output_of(module)
        module.train()
        fit(module, N_EPOCHS, [SaveOnTheWay(folder)])
        torch.save({"losses": module.losses, "initial_output": initial_output, "output": output_of(module)},
                   folder / "run.pt")
        fit(Module(case), 1).save_checkpoint(folder / "after.ckpt")


def compare_losses(where, found, expected):
    assert len(found) == len(expected) >= 20, f"{where}: {len(found)} losses, expected {len(expected)}"
    for (batch, loss), (wanted_batch, wanted) in zip(found, expected):
        assert batch == wanted_batch, f"{where}: batch {batch}, expected {wanted_batch}"
        assert abs(loss - wanted) <= 1e-6, f"{where}: batch {batch}: loss {loss}, expected {wanted}"


def check(root):
    for case in CASES:
        folder = root / case / "cpp"
        run = torch.load(folder / "run.ckpt", weights_only=True)
        for name in ("epoch", "mid", "after"):
            if (case, name) == ("mlp_sgd_plateau", "mid"):
                continue  # Lightning leaves its step out at the end of an epoch that it resumed in the middle
            where = f"{case}: {name}.ckpt"
            path = folder / f"{name}.ckpt"
            module = Module(case)
            note = NoteFirst()
            trainer = fit(module, N_EPOCHS, [note], ckpt_path=path)
            assert note.first == FIRST_AFTER[name], f"{where}: the first batch: {note.first}"
            compare_losses(where, module.losses, run["losses_after"][name])
            assert trainer.global_step == run["global_step"], f"{where}: global_step {trainer.global_step}"
            assert trainer.current_epoch == N_EPOCHS, f"{where}: current_epoch {trainer.current_epoch}"
            saved = torch.load(path, weights_only=True, mmap=True)
            optimizer = CASES[case][1]
            assert len(saved["optimizer_states"]) == len(saved["lr_schedulers"]) == 1, f"{where}: {optimizer}"
        loaded = Module.load_from_checkpoint(folder / "after_all.ckpt")
        assert loaded.hparams.case == case and loaded.hparams.net_width == 12, f"{case}: {loaded.hparams}"
        twin = Module(case)
        twin.load_state_dict(torch.load(folder / "weights.pt", weights_only=True), strict=True)
        for module in (loaded, twin):
            difference = (output_of(module) - run["output"]).abs().max().item()
            assert difference <= 1e-12, f"{case}: the loaded model's output differs by {difference}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"write": write, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
