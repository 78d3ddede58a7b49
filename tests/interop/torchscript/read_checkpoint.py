# SPDX-License-Identifier: Apache-2.0
"""Reads the checkpoint that torchscript_test.cpp writes: read_checkpoint.py FILE."""
import sys
import warnings

import torch

warnings.simplefilter("ignore")
checkpoint = torch.jit.load(sys.argv[1]).checkpoint
weight = checkpoint["state_dict"].pop("w")
alias = checkpoint["state_dict"].pop("alias")
assert torch.equal(weight, torch.arange(6.0).view(2, 3)), weight
assert weight.data_ptr() == alias.data_ptr()
assert checkpoint == {
    "epoch": 3,
    "none": None,
    "state_dict": {},
    "optimizer_states": [{"state": {0: "zero"}}],
    "betas": (0.9, 0.999),
}, checkpoint
