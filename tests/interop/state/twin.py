# SPDX-License-Identifier: Apache-2.0
"""The Python side of state_twin_test.cpp.

twin.py write FOLDER   trains, and writes for each case what torch::pickle_load can read: the state after a few steps,
                       and where it leads
twin.py check FOLDER   takes the states that C++ left in FOLDER/*.py, compares them with its own, and goes on from them

A .py file is one expression, of Python's literals and T(dtype, shape, values) for tensors.
"""
import copy
import math
import pathlib
import sys
import warnings

import torch
from torch import nn
from torch.optim import lr_scheduler

warnings.simplefilter("ignore")
N_BEFORE, N_AFTER = 5, 20
N_EPOCHS = 14

# ---------------------------------------------------------------------------------------------------- optimizers

# name: class, options, options of the first group where there are two
OPTIMIZERS = {
    "sgd": ("SGD", dict(lr=0.1), None),
    "sgd_momentum": ("SGD", dict(lr=0.1, momentum=0.9, dampening=0.1, weight_decay=1e-3), dict(lr=0.01, momentum=0.5)),
    "sgd_nesterov": ("SGD", dict(lr=0.1, momentum=0.9, nesterov=True), None),
    "adam": ("Adam", dict(lr=1e-2, betas=(0.8, 0.99), weight_decay=1e-2), dict(lr=1e-3, eps=1e-6)),
    "adam_amsgrad": ("Adam", dict(lr=1e-2, amsgrad=True), None),
    "adam_tensor_lr": ("Adam", dict(lr=torch.tensor(1e-2, dtype=torch.float64), foreach=False), None),
    "adamw": ("AdamW", dict(lr=1e-2, weight_decay=0.1), dict(weight_decay=0.5)),
    "adamw_amsgrad": ("AdamW", dict(lr=1e-2, amsgrad=True), None),
    "rmsprop": ("RMSprop", dict(lr=1e-2), None),
    "rmsprop_full": ("RMSprop", dict(lr=1e-2, momentum=0.9, centered=True, weight_decay=1e-3), dict(alpha=0.9)),
    "adagrad": ("Adagrad", dict(lr=1e-1, lr_decay=0.1, initial_accumulator_value=0.1), dict(lr=1e-2)),
    "lbfgs": ("LBFGS", dict(lr=0.1, max_iter=3, history_size=4), None),
    "lbfgs_wolfe": ("LBFGS", dict(lr=1, max_iter=4, line_search_fn="strong_wolfe"), None),
}
FIRST_GROUP = [2]  # indices of parameters
SECOND_GROUP = [0, 1, 3]


def initial_params():
    shapes = [(4, 3), (3,), (2, 2), (5,)]  # the last one never gets a gradient
    params = []
    for i, shape in enumerate(shapes):
        n = math.prod(shape)
        params.append(torch.linspace(-1, 1 + i, n, dtype=torch.float64).sin().view(shape).requires_grad_())
    return params


def make_optimizer(name, params, with_options=True):
    cls, options, first = OPTIMIZERS[name]
    options = options if with_options else (dict(lr=0.5) if cls == "SGD" else {})
    groups = params
    if first is not None:
        groups = [
            dict(params=[params[i] for i in FIRST_GROUP], **(first if with_options else {})),
            dict(params=[params[i] for i in SECOND_GROUP]),
        ]
    return getattr(torch.optim, cls)(groups, **options)


def train(params, optimizer, first_step, n_steps):
    for step in range(first_step, first_step + n_steps):
        x = torch.linspace(step, step + 1, 32, dtype=torch.float64).view(8, 4).cos()
        y = x[:, :2] * 0.5

        def closure():
            optimizer.zero_grad()
            hidden = torch.tanh(x @ params[0] + params[1])
            loss = (hidden[:, :2] @ params[2] - y).pow(2).mean()
            loss.backward()
            return loss

        optimizer.step(closure)


def data(params):
    return [p.detach().clone() for p in params]


def write_optimizer(name):
    params = initial_params()
    optimizer = make_optimizer(name, params)
    case = dict(
        optimizer=OPTIMIZERS[name][0],
        two_groups=OPTIMIZERS[name][2] is not None,
        initial=data(params),
        initial_state=copy.deepcopy(optimizer.state_dict()),
    )
    train(params, optimizer, 0, N_BEFORE)
    case.update(params=data(params), state=copy.deepcopy(optimizer.state_dict()))
    train(params, optimizer, N_BEFORE, N_AFTER)
    case.update(expected=data(params), expected_state=optimizer.state_dict())
    return case


def check_optimizer(name, case, theirs):
    compare(f"{name}: state after {N_BEFORE} steps", theirs["state"], case["state"], 1e-9)
    params = [p.clone().requires_grad_() for p in theirs["params"]]
    optimizer = make_optimizer(name, params, with_options=False)
    optimizer.load_state_dict(theirs["state"])
    train(params, optimizer, N_BEFORE, N_AFTER)
    compare(f"{name}: parameters after {N_AFTER} more", data(params), case["expected"], 1e-6)


# ---------------------------------------------------------------------------------------------------- schedulers

# C++ makes the same ones under the same names.
SCHEDULERS = {
    "step": lambda o: lr_scheduler.StepLR(o, 3, 0.5),
    "multi_step": lambda o: lr_scheduler.MultiStepLR(o, [2, 5, 5, 9], 0.3),
    "constant": lambda o: lr_scheduler.ConstantLR(o, 0.3, 4),
    "linear": lambda o: lr_scheduler.LinearLR(o, 0.1, 0.9, 7),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.87),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 5, 1e-3),
    "warm_restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 2, 1e-4),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.93**epoch),
    "one_cycle": lambda o: lr_scheduler.OneCycleLR(o, [0.3, 0.07], total_steps=N_EPOCHS),
    "one_cycle_linear": lambda o: lr_scheduler.OneCycleLR(
        o, 0.3, epochs=2, steps_per_epoch=7, anneal_strategy="linear", three_phase=True, pct_start=0.35
    ),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1, cooldown=2, factor=0.3),
    "plateau_max": lambda o: lr_scheduler.ReduceLROnPlateau(
        o, mode="max", patience=0, threshold=0.01, threshold_mode="abs", min_lr=[1e-2, 1e-3]
    ),
    "sequential": lambda o: sequential(
        o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 3), lr_scheduler.CosineAnnealingLR(o, 4), lr_scheduler.ExponentialLR(o, 0.8)], [3, 8]
    ),
    "sequential_all": lambda o: sequential(
        o,
        [
            lr_scheduler.ConstantLR(o, 0.5, 2),
            lr_scheduler.StepLR(o, 2, 0.5),
            lr_scheduler.MultiStepLR(o, [1], 0.5),
            lr_scheduler.LambdaLR(o, lambda epoch: 0.93**epoch),
            lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
        ],
        [2, 5, 7, 9],
    ),
    "sequential_one_cycle": lambda o: sequential(
        o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 3), lr_scheduler.OneCycleLR(o, 0.2, 20), lr_scheduler.ExponentialLR(o, 0.8)], [3, 9]
    ),
}


def sequential(optimizer, schedulers, milestones):
    return lr_scheduler.SequentialLR(optimizer, schedulers, milestones)


def scheduled_optimizer(adam):
    groups = [dict(params=[nn.Parameter(torch.zeros(2))]), dict(params=[nn.Parameter(torch.zeros(3))], lr=0.023)]
    return torch.optim.AdamW(groups, lr=0.11) if adam else torch.optim.SGD(groups, lr=0.11, momentum=0.9)


def metric(epoch):
    return 1 / (1 + epoch) if epoch < 4 else 0.25 + 0.01 * math.sin(epoch)


def step(scheduler, epoch):
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(metric(epoch))
    else:
        scheduler.step()


def rates(optimizer):
    """What a scheduler moves: learning rates, and the momentum."""
    return [
        [g["lr"], g["betas"][0] if "betas" in g else g["momentum"]] for g in optimizer.param_groups
    ]


def counters_to_dicts(value):
    """torch::pickle_load knows no Counter."""
    if isinstance(value, dict):
        return {k: counters_to_dicts(v) for k, v in value.items()}
    return [counters_to_dicts(v) for v in value] if isinstance(value, list) else value


def write_scheduler(name, adam):
    optimizer = scheduled_optimizer(adam)
    scheduler = SCHEDULERS[name](optimizer)
    case = dict(rates=[rates(optimizer)], states=[], optimizer_states=[])
    for epoch in range(N_EPOCHS):
        case["states"].append(counters_to_dicts(copy.deepcopy(scheduler.state_dict())))
        case["optimizer_states"].append(copy.deepcopy(optimizer.state_dict()))
        step(scheduler, epoch)
        case["rates"].append(rates(optimizer))
    return case


def check_scheduler(name, adam, case, theirs):
    for epoch in range(N_EPOCHS):
        place = f"{name}: epoch {epoch}"
        compare(f"{place}: state", theirs["states"][epoch], case["states"][epoch], 0)
        optimizer = scheduled_optimizer(adam)
        scheduler = SCHEDULERS[name](optimizer)
        scheduler.load_state_dict(theirs["states"][epoch])
        if "one_cycle" not in name:  # which alone reads what it keeps in the groups
            for group in theirs["optimizer_states"][epoch]["param_groups"]:
                group.pop("initial_lr", None)
        optimizer.load_state_dict(theirs["optimizer_states"][epoch])
        compare(f"{place}: rates", rates(optimizer), case["rates"][epoch], 0)
        if name == "sequential_all":
            continue_counters(scheduler)
        for later in range(epoch, N_EPOCHS):
            step(scheduler, later)
            compare(f"{place}: rates of epoch {later + 1}", rates(optimizer), case["rates"][later + 1], 0)


def continue_counters(scheduler):
    """MultiStepLR takes a dict for its Counter, but not its closed form, which SequentialLR begins a part with."""
    from collections import Counter

    for part in scheduler._schedulers:
        if hasattr(part, "milestones"):
            part.milestones = Counter(part.milestones)


# ------------------------------------------------------------------------------------------- modules and generators

MODULES = {
    "Linear": lambda: nn.Linear(3, 2),
    "Sequential": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Linear(4, 1, bias=False)),
    "BatchNorm1d": lambda: nn.BatchNorm1d(3),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
    "LayerNorm": lambda: nn.LayerNorm(3),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
    "Embedding": lambda: nn.Embedding(4, 3),
    "PReLU": lambda: nn.PReLU(),
    "Bilinear": lambda: nn.Bilinear(2, 3, 4),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(2, 3, 2),
    "LSTM": lambda: nn.LSTM(2, 3, num_layers=2, bidirectional=True),
    "LSTM with projections": lambda: nn.LSTM(4, 3, proj_size=2),
    "GRU": lambda: nn.GRU(2, 3),
    "GRUCell": lambda: nn.GRUCell(2, 3),
    "MultiheadAttention": lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True),
    "MultiheadAttention with other sizes": lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
    "TransformerEncoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2),
    "Transformer": lambda: nn.Transformer(4, 2, 1, 1, 8),
}


def write_modules():
    torch.manual_seed(1)
    return {name: dict(make().state_dict()) for name, make in MODULES.items()}


def write_rng():
    torch.manual_seed(7)
    torch.randn(3)
    return dict(state=torch.get_rng_state(), next=torch.randn(10, dtype=torch.float64))


def check_rng(theirs):
    torch.set_rng_state(theirs["state"]["cpu"])
    compare("numbers after C++'s RNG state", torch.randn(10, dtype=torch.float64), theirs["next"], 0)


# --------------------------------------------------------------------------------------------------------- the rest


def compare(place, found, expected, tolerance):
    """Same types (int may be float), same keys, numbers within the tolerance."""
    if isinstance(expected, torch.Tensor) and expected.dim() == 0 and isinstance(found, float):
        expected = expected.item()  # lr given as a tensor; LBFGS's `t`
    if isinstance(expected, dict):
        assert isinstance(found, dict), (place, found)
        missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
        # What Python's schedulers and speed flags add to a group.
        assert not missing - {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"}, (place, missing)
        assert not extra, (place, extra)
        for key in found:
            if key not in ("foreach", "fused"):
                compare(f"{place}[{key!r}]", found[key], expected[key], tolerance)
    elif isinstance(expected, (list, tuple)):
        assert type(found) is type(expected) and len(found) == len(expected), (place, found, expected)
        for i, (a, b) in enumerate(zip(found, expected)):
            compare(f"{place}[{i}]", a, b, tolerance)
    elif isinstance(expected, torch.Tensor):
        if isinstance(expected, torch.Tensor) and not isinstance(found, torch.Tensor):
            raise AssertionError((place, found, expected))
        assert found.dtype == expected.dtype and found.shape == expected.shape, (place, found, expected)
        assert torch.allclose(found, expected, rtol=tolerance, atol=tolerance), (place, found, expected)
    elif isinstance(expected, bool) or expected is None or isinstance(expected, str):
        assert type(found) is type(expected) and found == expected, (place, found, expected)
    elif isinstance(expected, int) and isinstance(found, torch.Tensor):
        compare(place, found.item(), expected, tolerance)  # LBFGS's H_diag, at first
    else:
        same_type = type(found) is type(expected) or (isinstance(found, float) and isinstance(expected, int))
        assert same_type and not isinstance(found, bool), (place, found, expected)
        close = found == expected or abs(found - expected) <= tolerance * max(1, abs(expected))
        assert close, (place, found, expected)


def read_expression(path):
    def tensor(dtype, shape, values):
        return torch.tensor(values, dtype=getattr(torch, dtype)).view(shape)

    return eval(path.read_text(), {"T": tensor, "inf": math.inf, "nan": math.nan})


def write(folder):
    for name in OPTIMIZERS:
        torch.save(write_optimizer(name), folder / f"optimizer_{name}.pt")
    for name in SCHEDULERS:
        for kind in ("sgd", "adamw"):
            torch.save(write_scheduler(name, kind == "adamw"), folder / f"scheduler_{kind}_{name}.pt")
    torch.save(write_modules(), folder / "modules.pt")
    torch.save(write_rng(), folder / "rng.pt")


def check(folder):
    n_checked = 0
    for path in sorted(folder.glob("*.py")):
        theirs = read_expression(path)
        kind, _, name = path.stem.partition("_")
        if kind == "optimizer":
            check_optimizer(name, write_optimizer(name), theirs)
        elif kind == "scheduler":
            group, _, name = name.partition("_")
            check_scheduler(name, group == "adamw", write_scheduler(name, group == "adamw"), theirs)
        else:
            check_rng(theirs)
        n_checked += 1
    expected = len(OPTIMIZERS) + 2 * len(SCHEDULERS) + 1
    assert n_checked == expected, f"{n_checked} files of C++'s, expected {expected}"
    print(f"checked {n_checked} states of C++'s")


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
