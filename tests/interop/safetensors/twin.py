# SPDX-License-Identifier: Apache-2.0
"""The Python side of safetensors_test.cpp.

twin.py write FOLDER   writes files with the safetensors library
twin.py check FOLDER   reads what C++ left there, and compares
"""
import json
import pathlib
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

DTYPES = [getattr(torch, name) for name in (
    "bool uint8 int8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16 float32 float64 complex64 float8_e4m3fn "
    "float8_e5m2 float8_e8m0fnu float8_e4m3fnuz float8_e5m2fnuz float4_e2m1fn_x2").split()]


def pattern(n_bytes, dtype, *shape):
    """A tensor whose bytes are 11, 48, 85, ...; of bool every second True."""
    octets = (torch.arange(n_bytes) * 37 + 11) % (2 if dtype == torch.bool else 256)
    return octets.to(torch.uint8).view(dtype).reshape(shape)


def all_dtypes():
    tensors = {}
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        tensors[f"{name}.matrix"] = pattern(64, dtype, 4, -1)
        tensors[f"{name}.empty"] = pattern(0, dtype, 0, 8)
        if dtype != torch.float4_e2m1fn_x2:
            tensors[f"{name}.scalar"] = pattern(dtype.itemsize, dtype)
    return tensors


def same_bits(a, b):
    octets = [t.reshape(-1).contiguous().view(torch.uint8) if t.numel() else t.reshape(-1).shape for t in (a, b)]
    same = torch.equal(*octets) if a.numel() else octets[0] == octets[1]
    return a.dtype == b.dtype and a.shape == b.shape and same


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.norm = nn.LayerNorm(3)


def write(folder):
    save_file(all_dtypes(), folder / "dtypes.safetensors")
    save_file({'ключ."x"\n\x00/\\\u2028': pattern(8, torch.float32, 2), "": pattern(1, torch.uint8)}, folder / "names.safetensors")
    save_file({}, folder / "empty.safetensors")
    save_file({"w": pattern(24, torch.float32, 2, 3)}, folder / "metadata.safetensors", {"format": "pt"})
    torch.manual_seed(0)
    save_model(Tied(), str(folder / "tied.safetensors"))


def check(folder):
    expected = all_dtypes()
    found = load_file(folder / "ours.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert same_bits(found[name], tensor), name
    with safe_open(folder / "ours.safetensors", "pt") as file:
        assert file.metadata() is None
        for name, tensor in expected.items():
            assert same_bits(file.get_tensor(name), tensor), name
        assert torch.equal(file.get_slice("float32.matrix")[1:3], expected["float32.matrix"][1:3])

    torch.manual_seed(0)
    source, target = Tied(), Tied()
    load_model(target, folder / "tied_ours.safetensors")
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name

    nested = load_file(folder / "nested.safetensors")
    assert set(nested) == {"state_dict.fc.weight", "optimizer_states.0.state.0.exp_avg"}, nested.keys()
    assert same_bits(nested["state_dict.fc.weight"], pattern(24, torch.float32, 2, 3))
    with safe_open(folder / "nested.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert json.loads(metadata["ckptio.structure"]) == {"version": 2, "checkpoint": {
        "epoch": 3,
        "state_dict": {"$tensors": ["state_dict", ["fc.weight"]]},
        "optimizer_states": [{"state": {"$dict": [[0, {"$tensors": ["optimizer_states.0.state.0", ["exp_avg"]]}]]},
                              "betas": {"$tuple": [0.9, 0.999]}}]}}


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
