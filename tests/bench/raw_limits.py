# SPDX-License-Identifier: Apache-2.0
"""What the machine can do with a state's bytes by itself, seen from Python: what raw_io.cpp measures, for the peers."""
import mmap
import os
import threading

import torch

PART_BYTES = 4 << 20
BLOCK_BYTES = 4096  # what O_DIRECT wants addresses and lengths to be multiples of
SMALL_BYTES = 64 << 10  # thousands of calls, rather than bytes, are what smaller tensors cost


def bytes_of(tensor):
    return memoryview(tensor.view(-1).numpy()).cast("B")


def cut(views):
    """Parts of at most PART_BYTES of memory that stands one behind the other in a file, and where they stand."""
    parts, offset = [], 0
    for view in views:
        for begin in range(0, len(view), PART_BYTES):
            part = view[begin : begin + PART_BYTES]
            parts.append((part, offset))
            offset += len(part)
    return parts


def in_parallel(n_threads, work):
    """Calls work(i) for each i below n_threads side by side; what one raises is raised."""
    errors = []

    def run(i):
        try:
            work(i)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(1, n_threads)]
    for thread in threads:
        thread.start()
    run(0)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class File:
    def __init__(self, path, flags):
        self.fd = os.open(path, flags | os.O_CLOEXEC, 0o666)

    def __enter__(self):
        return self.fd

    def __exit__(self, *_):
        os.close(self.fd)


def write_file(path, parts, n_threads, durable=False):
    with File(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
        try:
            os.posix_fallocate(fd, 0, sum(len(part) for part, _ in parts))
        except OSError:
            pass

        def work(i):
            for part, offset in parts[i::n_threads]:
                done = 0
                while done < len(part):
                    done += os.pwrite(fd, part[done:], offset + done)

        in_parallel(n_threads, work)
        if durable:
            os.fdatasync(fd)


def read_file(path, parts, n_threads):
    """Reads the file's first bytes into memory that is there."""
    calls = [([part], offset) for part, offset in parts]  # so that small ones cost little but the call
    with File(path, os.O_RDONLY) as fd:

        def work(i):
            for buffers, offset in calls[i::n_threads]:
                os.preadv(fd, buffers, offset)

        in_parallel(n_threads, work)


def new_huge_pages(n_bytes):
    memory = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class Limits:
    """The limits of one workload: name -> (before, run). Those of an operation do the same by different means: the
    fastest counts. `before` is outside the clock, and makes memory which is there until after() only."""

    def __init__(self, state, path, n_threads):
        self.path = path
        self.n_threads = n_threads
        self.views = [bytes_of(tensor) for tensor in state.values()]
        self.n_bytes = sum(len(view) for view in self.views)
        self.is_small = self.n_bytes < SMALL_BYTES * len(self.views)
        self.memory = None
        self.parts = []

    def of(self, op):
        reads = {f"read, {n} threads": (self.take_memory, self.reading(n)) for n in {1, self.n_threads}}
        if op == "save":
            return self.writes(durable=False)
        if op == "durable":
            return self.writes(durable=True)
        if op == "async":
            return {} if self.is_small else {"memcpy": (self.take_memory, self.memcpy)}
        if self.is_small and op != "cold":
            return {"a read each": (self.take_memory, self.reading(1))}
        if op == "load":
            return {"read into new huge pages": (self.prepare_nothing, self.read_into_new_pages)}
        return reads

    def after(self):
        self.memory = None
        self.parts = []

    def prepare_nothing(self):
        pass

    def writes(self, durable):
        def writing(n):
            return lambda: write_file(self.path, self.parts, n, durable)

        if self.is_small:
            return {"one write": (self.gather, writing(1))}
        return {f"write, {n} threads": (self.take_parts, writing(n)) for n in {1, self.n_threads}}

    def take_parts(self):
        self.parts = cut(self.views)

    def gather(self):
        self.take_memory()
        self.parts = [(bytes_of(self.memory), 0)]

    def take_memory(self):
        """Touched, and cut as the tensors are."""
        self.memory = torch.ones(self.n_bytes, dtype=torch.uint8)
        memory, begin, pieces = bytes_of(self.memory), 0, []
        for view in self.views:
            pieces.append(memory[begin : begin + len(view)])
            begin += len(view)
        self.parts = cut(pieces)

    def reading(self, n):
        return lambda: read_file(self.path, self.parts, n)

    def read_into_new_pages(self):
        memory = new_huge_pages(self.n_bytes)
        read_file(self.path, cut([memoryview(memory)]), self.n_threads)

    def memcpy(self):
        """LibTorch's own copy with its threads; small tensors would measure the calls from Python."""
        begin = 0
        for view in self.views:
            self.memory[begin : begin + len(view)].copy_(torch.frombuffer(view, dtype=torch.uint8))
            begin += len(view)
