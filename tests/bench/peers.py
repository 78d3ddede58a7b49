# SPDX-License-Identifier: Apache-2.0
"""How Python users save and load a dict of tensors today, one function for each way, and the workloads they are given.

A save is given the job and writes job.path; the "async" ones return once the caller may go on, with a function that
waits for the rest. A load returns a dict of tensors, the "inplace" ones job.target.
"""
import dataclasses
import importlib.util
import os
import typing

import torch

WIDTH = 768  # of GPT-2 small


def gpt2_shapes(n_layers, n_words):
    shapes = {"wte_weight": (n_words, WIDTH), "wpe_weight": (1024, WIDTH)}
    linear = {"attn_c_attn": (1, 3), "attn_c_proj": (1, 1), "mlp_c_fc": (1, 4), "mlp_c_proj": (4, 1)}
    for i in range(n_layers):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h_{i}_{norm}_weight": (WIDTH,), f"h_{i}_{norm}_bias": (WIDTH,)}
        for layer, (n_in, n_out) in linear.items():
            shapes[f"h_{i}_{layer}_weight"] = (n_in * WIDTH, n_out * WIDTH)
            shapes[f"h_{i}_{layer}_bias"] = (n_out * WIDTH,)
    return shapes | {"ln_f_weight": (WIDTH,), "ln_f_bias": (WIDTH,)}


def make_state(workload, scale):
    """The same tensors as workload.cpp makes."""
    if workload == "adam":
        shapes = gpt2_shapes(max(1, round(12 * scale)), 50257 if scale >= 1 else 5000)
        parts = ("model_", "exp_avg_", "exp_avg_sq_")
        return {of + name: torch.rand(shape) for of in parts for name, shape in shapes.items()}
    n_tensors, n_bytes = {"big": (64, 16 << 20), "small": (20_000, 1 << 10)}[workload]
    return {f"t{i}": torch.rand(n_bytes // 4) for i in range(max(1, round(n_tensors * scale)))}


@dataclasses.dataclass
class Job:
    state: dict
    target: dict  # as the state, to be restored into
    path: str


def files_of(path):
    if os.path.isfile(path):
        return [path]
    return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]


def flush(path):
    for name in files_of(path):
        fd = os.open(name, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


def evict(path):
    flush(path)
    for name in files_of(path):
        fd = os.open(name, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def torch_save(job):
    torch.save(job.state, job.path)


def torch_save_without_crc(job):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(job.state, job.path)
    finally:
        torch.serialization.set_crc32_options(True)


def torch_save_durably(job):
    torch.save(job.state, job.path)
    flush(job.path)


def torch_load(job):
    return torch.load(job.path, weights_only=True)


def copy_to_target(job, loaded):
    for name, tensor in job.target.items():
        tensor.copy_(loaded[name])
    return job.target


def torch_load_and_copy(job):
    return copy_to_target(job, torch_load(job))


def torch_map_and_copy(job):
    return copy_to_target(job, torch.load(job.path, weights_only=True, mmap=True))


def safetensors_save(job):
    from safetensors.torch import save_file

    save_file(job.state, job.path)


def safetensors_save_durably(job):
    safetensors_save(job)
    flush(job.path)


def safetensors_map(job):
    from safetensors.torch import load_file

    return load_file(job.path)


def safetensors_load(job):
    """The file is only mapped: a value of each page is read here, other than of tensors that are a page or less."""
    loaded = safetensors_map(job)
    for tensor in loaded.values():
        if tensor.nbytes > 4096:
            tensor.view(-1)[::1024].sum()
    return loaded


def safetensors_load_and_copy(job):
    return copy_to_target(job, safetensors_map(job))


def lightning_save(job):
    from lightning_fabric.plugins import TorchCheckpointIO

    TorchCheckpointIO().save_checkpoint(job.state, job.path)


def lightning_load(job):
    from lightning_fabric.plugins import TorchCheckpointIO

    return TorchCheckpointIO().load_checkpoint(job.path, weights_only=True)


def lightning_save_in_background(job):
    from lightning_fabric.plugins import TorchCheckpointIO
    from pytorch_lightning.plugins.io import AsyncCheckpointIO

    plugin = AsyncCheckpointIO(TorchCheckpointIO())
    plugin.save_checkpoint(job.state, job.path)
    return plugin.teardown


def dcp_save(job, durable=False):
    import torch.distributed.checkpoint as dcp

    dcp.save(job.state, storage_writer=dcp.FileSystemWriter(job.path, sync_files=durable), no_dist=True)


def dcp_save_durably(job):
    dcp_save(job, durable=True)


def dcp_save_in_background(job):
    import torch.distributed.checkpoint as dcp

    writer = dcp.FileSystemWriter(job.path, sync_files=False)
    return dcp.async_save(job.state, storage_writer=writer, no_dist=True).result


def dcp_load(job):
    import torch.distributed.checkpoint as dcp

    dcp.load(job.target, storage_reader=dcp.FileSystemReader(job.path), no_dist=True)
    return job.target


@dataclasses.dataclass
class Peer:
    op: str  # save, durable, async, load, inplace, cold: as ckptio_bench has them
    name: str
    run: typing.Callable
    saved_by: typing.Callable = None  # what made the file that it loads
    needs: str = "torch"

    def is_there(self):
        return importlib.util.find_spec(self.needs) is not None


PEERS = [
    Peer("save", "torch.save", torch_save),
    Peer("save", "torch.save, no CRC-32", torch_save_without_crc),
    Peer("save", "safetensors save_file", safetensors_save, needs="safetensors"),
    Peer("save", "Lightning TorchCheckpointIO", lightning_save, needs="lightning_fabric"),
    Peer("save", "DCP save, no fsync", dcp_save),
    Peer("durable", "torch.save + fsync", torch_save_durably),
    Peer("durable", "safetensors save_file + fsync", safetensors_save_durably, needs="safetensors"),
    Peer("durable", "DCP save", dcp_save_durably),
    Peer("async", "Lightning AsyncCheckpointIO", lightning_save_in_background, needs="pytorch_lightning"),
    Peer("async", "DCP async_save", dcp_save_in_background),
    Peer("load", "torch.load", torch_load, torch_save),
    Peer("load", "safetensors load_file (maps), touched", safetensors_load, safetensors_save, "safetensors"),
    Peer("load", "Lightning TorchCheckpointIO", lightning_load, lightning_save, "lightning_fabric"),
    Peer("inplace", "torch.load + copy_", torch_load_and_copy, torch_save),
    Peer("inplace", "torch.load(mmap=True) + copy_", torch_map_and_copy, torch_save),
    Peer("inplace", "safetensors load_file + copy_", safetensors_load_and_copy, safetensors_save, "safetensors"),
    Peer("inplace", "DCP load", dcp_load, dcp_save),
    Peer("cold", "torch.load", torch_load, torch_save),
    Peer("cold", "safetensors load_file (maps), touched", safetensors_load, safetensors_save, "safetensors"),
    Peer("cold", "DCP load", dcp_load, dcp_save),
]
