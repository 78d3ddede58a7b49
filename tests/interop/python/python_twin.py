#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Python half of python_files_test.cpp.

  write DIR SEED    files of torch.save: every dtype, kind of tensor, container and class; DIR/plain (weights_only
                    reads them), DIR/opaque, DIR/old (before torch 1.6), DIR/swapped (big-endian)
  check DIR SEED    DIR/*/NAME.out, which C++ loaded from NAME.pt and saved, hold what NAME.pt holds
  expect FILE       FILE, made in C++, holds what expected() says
"""
import argparse
import collections
import dataclasses
import datetime
import enum
import fractions
import io
import os
import pathlib
import random
import sys
import uuid
import warnings
import zipfile

import numpy as np
import torch
from torch.utils.serialization import config

warnings.simplefilter("ignore")

DTYPES = [
    "bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32",
    "float64", "complex32", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
    "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2",
]


class Color(enum.Enum):
    RED = 1


Point = collections.namedtuple("Point", "a b")


@dataclasses.dataclass
class Config:
    x: int = 1
    t: object = None


class Node:
    pass


class Slotted:
    __slots__ = ("a", "__dict__")


for cls in (Color, Point, Config, Node, Slotted):
    cls.__module__ = "__main__"


def tensor(rng, dtype, shape):
    n = int(np.prod(shape))
    if dtype == "bool":
        return torch.tensor([rng.random() < 0.5 for _ in range(n)]).reshape(shape)
    dtype = getattr(torch, dtype)
    raw = bytearray(rng.randbytes(max(n, 1) * dtype.itemsize))
    return torch.frombuffer(raw, dtype=torch.uint8).clone()[: n * dtype.itemsize].view(dtype).reshape(shape)


def optimizers():
    states = {}
    for name in sorted(vars(torch.optim)):
        cls = getattr(torch.optim, name)
        if not (isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)) or cls is torch.optim.Optimizer:
            continue
        model = torch.nn.Embedding(4, 3, sparse=True) if name == "SparseAdam" else torch.nn.Linear(3, 2)
        parameters = [model.weight] if name == "Muon" else list(model.parameters())
        optimizer = cls(parameters, lr=0.01)

        def closure():
            optimizer.zero_grad()
            given = torch.tensor([0, 1]) if name == "SparseAdam" else torch.randn(2, 3)
            loss = model(given).pow(2).sum()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        states[name] = optimizer.state_dict()
    return states


def schedulers():
    s = torch.optim.lr_scheduler
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.randn(2))], lr=0.1, momentum=0.9)
    made = dict(
        StepLR=s.StepLR(optimizer, 1), MultiStepLR=s.MultiStepLR(optimizer, [2, 3, 3]),
        ConstantLR=s.ConstantLR(optimizer), LinearLR=s.LinearLR(optimizer), ExponentialLR=s.ExponentialLR(optimizer, 0.9),
        CosineAnnealingLR=s.CosineAnnealingLR(optimizer, 5), PolynomialLR=s.PolynomialLR(optimizer),
        CosineAnnealingWarmRestarts=s.CosineAnnealingWarmRestarts(optimizer, 3), OneCycleLR=s.OneCycleLR(optimizer, 1, 9),
        CyclicLR=s.CyclicLR(optimizer, 0.1, 1), ReduceLROnPlateau=s.ReduceLROnPlateau(optimizer),
        LambdaLR=s.LambdaLR(optimizer, lambda e: 1.0), MultiplicativeLR=s.MultiplicativeLR(optimizer, lambda e: 1.0),
        SequentialLR=s.SequentialLR(optimizer, [s.ConstantLR(optimizer), s.ExponentialLR(optimizer, 0.9)], [2]),
        ChainedScheduler=s.ChainedScheduler([s.ConstantLR(optimizer), s.ExponentialLR(optimizer, 0.9)], optimizer),
    )
    return {name: scheduler.state_dict() for name, scheduler in made.items()}


def tensors(rng):
    base = torch.randn(3, 4)
    number = torch.complex(torch.randn(2), torch.randn(2))
    masked = torch.randn(4, 4) * (torch.rand(4, 4) < 0.5)
    raw = torch.frombuffer(bytearray(rng.randbytes(48)), dtype=torch.uint8).clone()
    made = {f"dtype_{name}": tensor(rng, name, [rng.randint(1, 5), rng.randint(1, 4)]) for name in DTYPES}
    made.update(
        all_dtypes={name: tensor(rng, name, [3]) for name in DTYPES},
        views=dict(base=base, T=base.t(), row=base[1], step=base[:, ::2], off=base.flatten()[5:]),
        expand=torch.randn(1, 3).expand(4, 3), overlap=torch.as_strided(torch.randn(6), (3, 3), (1, 1)),
        slice_of_big=torch.randn(1000)[10:13], channels_last=torch.randn(1, 2, 3, 3).to(memory_format=torch.channels_last),
        tied=dict(enc=base, dec=base), empty=[torch.empty(0), torch.empty(3, 0, 2), torch.zeros(4, 4)[:, 4:]],
        scalar=torch.randn(1)[0], many_dims=torch.randn(*([1] * 12 + [2] * 4)),
        conj=number.conj(), neg=number.conj().imag, real_view=[torch.view_as_real(number)],
        requires_grad=torch.randn(2).requires_grad_(), meta=torch.empty(3, 2, device="meta"),
        sparse_coo=masked.to_sparse(), uncoalesced=torch.sparse_coo_tensor([[0, 0, 2]], torch.randn(3), (3,)),
        hybrid=torch.sparse_coo_tensor([[0, 2]], torch.randn(2, 3), (4, 3)),
        sparse_empty=torch.sparse_coo_tensor(torch.empty(2, 0, dtype=torch.int64), torch.empty(0), (3, 3)),
        csr=masked.to_sparse_csr(), csc=masked.to_sparse_csc(), bsr=masked.to_sparse_bsr((2, 2)),
        bsc=masked.to_sparse_bsc((2, 2)), nested=torch.nested.nested_tensor([torch.randn(2, 2), torch.randn(3, 2)]),
        per_channel=torch.quantize_per_channel(torch.randn(2, 3), torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0, torch.qint8),
        untyped_storage=torch.randn(2).untyped_storage(), typed_storage=torch.FloatStorage([1, 2]),
        parameters=[torch.nn.Parameter(torch.randn(2)), torch.nn.Buffer(torch.randn(2))],
        many={f"p{i}": torch.randn(rng.randint(1, 4)) for i in range(300)}, raw_bytes=raw,
        root_tensor=torch.randn(3),
    )
    for dtype in (torch.quint8, torch.qint8, torch.qint32):
        made[f"per_tensor_{dtype}"[len("per_tensor_torch."):]] = torch.quantize_per_tensor(torch.randn(3), 0.1, 3, dtype)
    return made


def containers(rng):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.LSTM(2, 3))
    nested = []
    for _ in range(300):
        nested = [nested]
    shared = [1, 2]
    own_list = [1]
    own_list.append([own_list])
    own_dict = {"x": [1]}
    own_dict["self"] = own_dict
    return dict(
        state_dict=model.state_dict(), optimizers=optimizers(), schedulers=schedulers(),
        ordered=collections.OrderedDict(b=1, a=2), counter=collections.Counter("aab"), sets=[{1, 2, "x"}, set()],
        size=torch.Size([2, 3]), no_size=torch.Size([]), dtypes=[getattr(torch, x) for x in DTYPES],
        devices=[torch.device("cuda:1"), torch.device("cpu"), torch.device("meta")], qscheme=torch.per_tensor_affine,
        layouts=[torch.sparse_coo, torch.strided, torch.sparse_bsr],
        ints=[0, 1, 255, 256, 65535, 65536, 2**31 - 1, -2**31, 2**31, -1, 2**63 - 1, -2**63, 2**63, 2**64, 2**100, -2**200,
              rng.randint(-2**70, 2**70)],
        floats=[0.0, -0.0, float("inf"), float("nan"), 1e-310, 5e-324], complex=[1 + 2j, complex("nan")],
        plain=[True, False, None, (), (1,), (1, 2, 3, 4), {}, []], bytes=[b"abc\x00\xff"], bytearray=bytearray(b"xy\xff"),
        text=["héλ\U0001f600\n", "", "\x00a", "ключ", "\ud800x", "xé" * 40000],
        keys={1: "a", "1": "b", (1, (2,)): "c", None: "d", 1.5: "e", b"k": "g", 2**70: "h", torch.float32: 1},
        deep=nested, same_twice=dict(a=shared, b=shared, c=[shared]), own_list=own_list, own_dict=own_dict,
        long=list(range(3000)), wide={f"k{i}": i for i in range(3000)}, root_none=None, root_int=7, root_str="s",
    )


def classes():
    node = Node()
    node.itself, node.weight, node.weights = node, torch.randn(2), [torch.ones(2)]
    node.weights.append(node.weights[0])
    other = Node()
    other.node = node
    own_tuple = ([],)
    own_tuple[0].append(own_tuple)
    slotted = Slotted()
    slotted.a, slotted.b = 1, 2
    around = []
    around.append(argparse.Namespace(up=around))
    return dict(
        namespace=argparse.Namespace(lr=0.1, p=pathlib.PurePosixPath("/d")), enum=[Color.RED, {Color.RED: 1}],
        namedtuple=Point(1, torch.randn(2)), dataclass=Config(2, torch.randn(2)), node=[node, other], slotted=slotted,
        around=around, own_tuple=own_tuple, module=torch.nn.Linear(2, 2), defaultdict=collections.defaultdict(list, a=[1]),
        deque=collections.deque([1, 2], 5), frozenset=[frozenset([1, 2]), {frozenset([1]): 2}, frozenset()],
        numpy=[np.float64(1.5), np.int64(3), np.arange(4), np.asfortranarray(np.arange(6.0).reshape(2, 3)),
               np.dtype("f4"), np.array([1, "a"], dtype=object)], time=datetime.datetime(2020, 1, 2),
        range=range(3), ellipsis=..., type=int, function=torch.relu, fraction=fractions.Fraction(1, 2),
        uuid=uuid.UUID(int=3), empty_bytes=b"", huge=2**4000,
        checkpoint=dict(hyper_parameters=argparse.Namespace(lr=0.1), state_dict=torch.nn.Linear(2, 2).state_dict()),
        tensor_keys=(lambda t: {t: 1, "t": t})(torch.ones(2)),
    )


def swapped(data):
    """A file of torch.save as a big-endian machine writes it. Holds int32 and float64 tensors alone."""
    source, out = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    sizes = [4, 8]
    with zipfile.ZipFile(out, "w") as to:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("/byteorder"):
                content = b"big"
            if "/data/" in name:
                size = sizes[int(name.rsplit("/", 1)[1])]
                content = b"".join(content[i : i + size][::-1] for i in range(0, len(content), size))
            to.writestr(name, content)
    return out.getvalue()


def write(folder, seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    for part in ("plain", "opaque", "old", "swapped"):
        os.makedirs(f"{folder}/{part}", exist_ok=True)
    plain = {**tensors(rng), **containers(rng)}
    for name, value in plain.items():
        torch.save(value, f"{folder}/plain/{name}.pt")
    for name, value in classes().items():
        torch.save(value, f"{folder}/opaque/{name}.pt")
    for name in ("views", "optimizers", "keys", "state_dict"):
        torch.save(plain[name], f"{folder}/old/{name}.pt", _use_new_zipfile_serialization=False)
    buffer = io.BytesIO()
    torch.save({"i": torch.arange(5, dtype=torch.int32), "d": torch.randn(3, dtype=torch.float64)}, buffer)
    with open(f"{folder}/swapped/numbers.pt", "wb") as file:
        file.write(swapped(buffer.getvalue()))


class Comparison:
    def __init__(self, exact):
        self.exact = exact  # also Parameters, and what was shared
        self.seen = {}
        self.storages = {}
        self.kept = []

    def fail(self, path, what):
        raise SystemExit(f"{path}: {what}")

    def require(self, path, a, b):
        if a != b and not (a != a and b != b):
            self.fail(path, f"expected {a!r}, found {b!r}")

    def types(self, path, a, b):
        expected = type(a)
        if not self.exact and expected in (torch.nn.Parameter, torch.nn.Buffer):
            expected = torch.Tensor
        if type(b) is not expected:
            self.fail(path, f"expected {expected}, found {type(b)}")

    def storage(self, path, a, b):
        self.kept += [a, b]
        self.require(path + ".storage", self.storages.setdefault(a._cdata, b._cdata), b._cdata)
        self.require(path + ".nbytes", a.nbytes(), b.nbytes())
        if a.device.type != "meta" and bytes(a.tolist()) != bytes(b.tolist()):
            self.fail(path, "other bytes")

    def tensor(self, path, a, b):
        for what in ("dtype", "layout", "requires_grad", "is_quantized", "is_nested", "is_meta"):
            self.require(f"{path}.{what}", getattr(a, what), getattr(b, what))
        if a.is_nested:
            for i, (x, y) in enumerate(zip(a.unbind(), b.unbind(), strict=True)):
                self.tensor(f"{path}[{i}]", x, y)
            return
        self.require(path + ".shape", a.shape, b.shape)
        if a.layout == torch.sparse_coo:
            self.require(path + ".coalesced", a.is_coalesced(), b.is_coalesced())
            self.tensor(path + ".indices", a._indices(), b._indices())
            return self.tensor(path + ".values", a._values(), b._values())
        if a.layout != torch.strided:
            columns = a.layout in (torch.sparse_csc, torch.sparse_bsc)
            for what in ("ccol_indices", "row_indices") if columns else ("crow_indices", "col_indices"):
                self.tensor(f"{path}.{what}", getattr(a, what)(), getattr(b, what)())
            return self.tensor(path + ".values", a.values(), b.values())
        self.require(path + ".stride", a.stride(), b.stride())
        if a.is_meta:
            return
        self.require(path + ".offset", a.storage_offset(), b.storage_offset())
        self.require(path + ".conj", (a.is_conj(), a.is_neg()), (b.is_conj(), b.is_neg()))
        if a.is_quantized:
            self.require(path + ".qscheme", a.qscheme(), b.qscheme())
            if a.qscheme() == torch.per_tensor_affine:
                self.require(path + ".scale", (a.q_scale(), a.q_zero_point()), (b.q_scale(), b.q_zero_point()))
            else:
                self.tensor(path + ".scales", a.q_per_channel_scales(), b.q_per_channel_scales())
        self.storage(path, a.untyped_storage(), b.untyped_storage())

    def compare(self, path, a, b):
        self.types(path, a, b)
        if isinstance(a, (torch.Tensor, list, dict, Node, argparse.Namespace)):
            known = self.seen.setdefault(id(a), b)
            self.kept += [a, b]
            if known is not b and (self.exact or isinstance(a, torch.Tensor)):
                self.fail(path, "was one object, and is two")
            if (id(a), id(b)) in self.seen:
                return
            self.seen[id(a), id(b)] = True
        if isinstance(a, torch.Tensor):
            self.tensor(path, a, b)
        elif isinstance(a, torch.storage.UntypedStorage):
            self.storage(path, a, b)
        elif isinstance(a, torch.storage.TypedStorage):
            self.require(path, a.dtype, b.dtype)
            self.storage(path, a.untyped(), b.untyped())
        elif isinstance(a, np.ndarray):
            self.require(path, (a.dtype, a.shape, a.strides, a.tobytes() if a.dtype != object else a.tolist()),
                         (b.dtype, b.shape, b.strides, b.tobytes() if b.dtype != object else b.tolist()))
        elif isinstance(a, dict):
            if any(isinstance(key, torch.Tensor) for key in a):
                for i, (x, y) in enumerate(zip(a, b, strict=True)):
                    self.compare(f"{path}.key{i}", x, y)
            elif isinstance(a, collections.OrderedDict) or all(isinstance(key, str) for key in a):
                self.require(path, list(a), list(b))
            for i, ((_, x), (key, y)) in enumerate(zip(a.items(), b.items(), strict=True)):
                self.compare(f"{path}[{key!r}]", x, y)
            if hasattr(a, "__dict__"):
                self.compare(path + ".__dict__", a.__dict__, b.__dict__)
            if isinstance(a, collections.defaultdict):
                self.require(path, a.default_factory, b.default_factory)
        elif isinstance(a, (list, tuple, collections.deque)) and not isinstance(a, torch.Size):
            self.require(path + ".len", len(a), len(b))
            for i, (x, y) in enumerate(zip(a, b)):
                self.compare(f"{path}[{i}]", x, y)
        elif isinstance(a, (Node, Config, argparse.Namespace, torch.nn.Module)):
            self.compare(path + ".__dict__", vars(a), vars(b))
        elif isinstance(a, Slotted):
            self.require(path, (a.a, a.b), (b.a, b.b))
        else:
            self.require(path, a, b)


def check_file(before, after, weights_only):
    expected = torch.load(before, weights_only=False)
    exact = os.path.basename(before) in ("own_list.pt", "own_dict.pt", "node.pt", "around.pt", "own_tuple.pt",
                                         "module.pt", "tensor_keys.pt")
    def compare(value):
        Comparison(exact).compare(os.path.basename(before), expected, value)
    compare(torch.load(after, weights_only=weights_only))
    compare(torch.load(after, weights_only=weights_only, mmap=True))
    config.load.calculate_storage_offsets = True
    compare(torch.load(after, weights_only=weights_only, mmap=True))
    config.load.calculate_storage_offsets = False


def check(folder, seed):
    n_files = 0
    for part in ("plain", "opaque", "old", "swapped"):
        for name in sorted(os.listdir(f"{folder}/{part}")):
            if name.endswith(".pt"):
                check_file(f"{folder}/{part}/{name}", f"{folder}/{part}/{name[:-3]}.out", part != "opaque")
                n_files += 1
    print(n_files, "files are as they were")
    if n_files < 100:
        raise SystemExit("files are missing")


def expected():
    base = torch.arange(6, dtype=torch.float32)
    state_dict = collections.OrderedDict(weight=base.view(2, 3), row=base[3:])
    state_dict._metadata = collections.OrderedDict({"": {"version": 1}})
    words = base.view(torch.int32)[1:3]
    # What torch.load makes of an UntypedStorage.
    storage = torch.storage.TypedStorage(wrap_storage=base.untyped_storage(), dtype=torch.uint8, _internal=True)
    return dict(
        epoch=3, loss=0.25, none=None, yes=True, name="é", state_dict=state_dict, both=[base, words], big=2**70, bytes=b"\0\xff",
        octets=bytearray(b"ab"), tuple=(1, (2.5, 1 + 2j)), size=torch.Size([2, 3]), set={1, "x"}, counter=collections.Counter(a=2),
        types=[torch.bfloat16, torch.device("cuda:1"), torch.sparse_csr, torch.per_channel_affine], keys={1: 2, (1, "a"): 3},
        sparse=torch.eye(3).to_sparse(), storage=storage, u16=torch.tensor([1, 65535], dtype=torch.uint16))


def expect(path):
    Comparison(False).compare("expected", expected(), torch.load(path, weights_only=True))
    Comparison(False).compare("expected", expected(), torch.load(path, weights_only=True, mmap=True))


def expect_objects(path):
    value = torch.load(path, weights_only=False)
    assert value["hyper_parameters"] == argparse.Namespace(lr=0.1, dims=[1, 2]), value
    assert value["path"] == pathlib.PurePosixPath("/a/b"), value


if __name__ == "__main__":
    action, arguments = sys.argv[1], sys.argv[2:]
    if action in ("write", "check"):
        {"write": write, "check": check}[action](arguments[0], int(arguments[1]))
    else:
        {"expect": expect, "expect_objects": expect_objects}[action](*arguments)
