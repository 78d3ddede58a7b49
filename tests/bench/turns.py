# SPDX-License-Identifier: Apache-2.0
"""What takes turns: each has run_round(), and results() once all rounds are over."""
import gc
import os
import shutil
import statistics
import time

import torch

import bench_process
import peers
import raw_limits


def settle(n_bytes):
    """As contest.h says of settle_bytes."""
    torch.frombuffer(raw_limits.new_huge_pages(n_bytes), dtype=torch.uint8).fill_(1)


def remove(path):
    shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)


def seconds_of(run):
    begin = time.perf_counter()
    result = run()
    return time.perf_counter() - begin, result


class Ours:
    """An operation of a plugin that ckptio_bench knows, in a process of its own, and its limit there."""

    def __init__(self, op, name, options, plugin, bench_op):
        self.op, self.name = op, name
        self.is_ours = not plugin.startswith("libtorch")
        folder = os.path.join(options.dir, f"{plugin}_{bench_op}")
        self.process = bench_process.Lockstep(
            options.bench, "--workload", options.workload_now, "--scale", options.scale, "--plugin", plugin,
            "--op", bench_op, "--repeat", options.rounds, "--threads", options.threads, "--dir", folder)  # fmt: skip

    def run_round(self):
        self.process.run_round()

    def results(self):
        result = self.process.result()
        limit = {"limit": result["limit"], "median_s": result["limit_median_s"]}
        # What else the limits of these do, no peer does.
        is_common = self.op != "inplace" or not result["limit"].startswith("read + CRC-32")
        return {k: result[k] for k in ("n_bytes", "median_s", "peak_rss_bytes")}, [limit] if is_common else []

    def close(self):
        self.process.stop()


class Peer:
    """A Python peer, in this process."""

    is_ours = False

    def __init__(self, peer, state, options):
        self.op, self.name, self.peer = peer.op, peer.name, peer
        target = {name: torch.zeros_like(tensor) for name, tensor in state.items()} if peer.saved_by else {}
        self.job = peers.Job(state, target, os.path.join(options.dir, "peer_" + peer.run.__name__ + "_" + peer.op))
        self.n_bytes = sum(tensor.nbytes for tensor in state.values())
        self.times = []
        if peer.saved_by:
            peer.saved_by(self.job)
            peers.flush(self.job.path)
        self.run_round()
        self.times.clear()

    def run_round(self):
        gc.collect()
        settle(2 * self.n_bytes)
        if self.op == "cold":
            peers.evict(self.job.path)
        seconds, result = seconds_of(lambda: self.peer.run(self.job))
        self.times.append(seconds)
        if self.op == "async":
            result()
        if self.peer.saved_by:
            self.check(result)
        else:
            remove(self.job.path)

    def check(self, loaded):
        names = list(self.job.state)
        for name in {names[0], names[-1]}:
            if not torch.equal(loaded[name], self.job.state[name]):
                raise RuntimeError(f"{self.name}: {name} is not what was saved")
            self.job.target[name].zero_()

    def results(self):
        return {"n_bytes": self.n_bytes, "median_s": statistics.median(self.times)}, []

    def close(self):
        remove(self.job.path)


class Limits:
    """The raw ways of an operation, in this process."""

    is_ours = False

    def __init__(self, op, state, options):
        self.op, self.name = op, None
        self.path = os.path.join(options.dir, "raw")
        self.limits = raw_limits.Limits(state, self.path, options.threads)
        self.times = {name: [] for name in self.limits.of(op)}
        if op in ("load", "inplace", "cold"):
            raw_limits.write_file(self.path, raw_limits.cut(self.limits.views), options.threads)
        self.run_round()
        for times in self.times.values():
            times.clear()

    def run_round(self):
        for name, (before, run) in self.limits.of(self.op).items():
            gc.collect()
            settle(2 * self.limits.n_bytes)
            before()
            if self.op == "cold":
                peers.evict(self.path)
            self.times[name].append(seconds_of(run)[0])
            self.limits.after()

    def results(self):
        return None, [{"limit": name, "median_s": statistics.median(times)} for name, times in self.times.items()]

    def close(self):
        remove(self.path)
