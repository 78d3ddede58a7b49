# SPDX-License-Identifier: Apache-2.0
"""Writes TorchScript archives by Python's torch: make_archives.py FOLDER.

plain.pt           a module with methods, default arguments and constants, nothing of which runs at load
setstate.pt        its class has __setstate__, which writes FOLDER/canary
nested_setstate.pt a module of it within another
computed_default.pt  reading it evaluates a default argument, which writes FOLDER/canary
torchbind.pt       holds an object of a TorchBind class
rich.pt            attributes of every other type: an enum, an object of a plain class, typed containers, buffers, a
                   parameter that two modules share; rich.names: the names that Python gives, of parameters, buffers
                   and modules, each in a line
sparse.pt          sparse tensors of both layouts that LibTorch writes
meta.pt            a tensor on the meta device
python.pt          torch.save of a state_dict: no LibTorch archive
"""
import enum
import os
import sys
import warnings
import zipfile
from typing import Dict, List, NamedTuple, Optional

import torch

warnings.simplefilter("ignore")
FOLDER = sys.argv[1]
CANARY = os.path.join(FOLDER, "canary")


class Point(NamedTuple):
    x: torch.Tensor
    n: int


class Plain(torch.nn.Module):
    scale: float

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 2)
        self.norm = torch.nn.BatchNorm1d(2)
        self.scale = 0.5
        self.names = ["a", "b"]
        self.table = {"x": 1}

    def forward(self, x, n: int = 3, name: str = "a=f(x)") -> Point:
        return Point(self.norm(self.fc(x)) * self.scale * n * len(name), n)


class WithSetState(torch.nn.Module):
    def __init__(self, canary: str):
        super().__init__()
        self.weight = torch.ones(2)
        self.canary = canary

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.canary, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str, bool]):
        self.weight = state[0]
        self.canary = state[1]
        self.training = state[2]
        torch.save(self.weight, self.canary)

    def forward(self, x):
        return x * self.weight


class AroundSetState(torch.nn.Module):
    def __init__(self, canary: str):
        super().__init__()
        self.inner = WithSetState(canary)

    def forward(self, x):
        return self.inner(x)


class WithDefault(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, x, n: int = 31415):
        return x * n


class Color(enum.Enum):
    R = 1
    G = 2


@torch.jit.script
class Pair:
    def __init__(self, a: int, t: torch.Tensor):
        self.a = a
        self.t = t


class Rich(torch.nn.Module):
    ints: List[int]
    flags: List[bool]
    numbers: List[float]
    by_number: Dict[int, torch.Tensor]
    nothing: Optional[int]

    def __init__(self):
        super().__init__()
        self.seq = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.BatchNorm1d(2))
        self.shared = self.seq[0].weight
        self.register_buffer("mean", torch.arange(4))
        self.ints, self.flags, self.numbers, self.tensors = [1, 2], [True, False], [0.5], [torch.ones(1), torch.zeros(2)]
        self.by_number, self.nothing = {1: torch.ones(1)}, None
        self.device, self.complex, self.large, self.tuple = torch.device("cpu"), 1 + 2j, 1 << 40, (1, "x", None)
        self.color, self.pair = Color.G, Pair(3, torch.ones(2))

    def forward(self, x):
        if self.flags[0] and self.nothing is None and self.color is Color.G:
            x = self.seq(x) * self.pair.a + self.by_number[1]
        return x


class OfTensors(torch.nn.Module):
    def __init__(self, **tensors: torch.Tensor):
        super().__init__()
        for name, tensor in tensors.items():
            setattr(self, name, tensor)

    def forward(self, x):
        return x


def rewrite(source, target, old, new):
    """Copies an archive, with `old` replaced in its code; as plain zip records, which LibTorch reads."""
    with zipfile.ZipFile(source) as reader, zipfile.ZipFile(target, "w") as writer:
        n_found = 0
        for name in reader.namelist():
            data = reader.read(name)
            if name.endswith(".py"):
                n_found += data.count(old)
                data = data.replace(old, new)
            if not name.endswith(".debug_pkl"):
                writer.writestr(name, data)
        assert n_found == 1, f"{n_found} places"


torch.manual_seed(0)
plain = Plain()
torch.jit.script(plain).save(os.path.join(FOLDER, "plain.pt"))
torch.save(plain.state_dict(), os.path.join(FOLDER, "python.pt"))
torch.jit.script(WithSetState(CANARY)).save(os.path.join(FOLDER, "setstate.pt"))
torch.jit.script(AroundSetState(CANARY)).save(os.path.join(FOLDER, "nested_setstate.pt"))
torch.jit.script(WithDefault()).save(os.path.join(FOLDER, "default.pt"))
expression = f'int(torch.from_file("{CANARY}", True, 4)[0])'
rewrite(os.path.join(FOLDER, "default.pt"), os.path.join(FOLDER, "computed_default.pt"), b"31415", expression.encode())
quantized = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(2, 2)), {torch.nn.Linear})
torch.jit.script(quantized).save(os.path.join(FOLDER, "torchbind.pt"))
rich = torch.jit.script(Rich())
rich.save(os.path.join(FOLDER, "rich.pt"))
with open(os.path.join(FOLDER, "rich.names"), "w") as names:
    for named in rich.named_parameters(), rich.named_buffers(), rich.named_modules():
        names.writelines(name + "\n" for name, _ in named)
coo = torch.sparse_coo_tensor([[0, 2]], [1.0, 2.0], (3,)).coalesce()
torch.jit.script(OfTensors(coo=coo, csr=torch.eye(3).to_sparse_csr())).save(os.path.join(FOLDER, "sparse.pt"))
torch.jit.script(OfTensors(w=torch.ones(2, 3, device="meta"))).save(os.path.join(FOLDER, "meta.pt"))
if os.path.exists(CANARY):
    os.remove(CANARY)
