# SPDX-License-Identifier: Apache-2.0
"""What figures were measured on, in words: no names of hosts, no paths."""
import os
import platform


def field(path, name):
    with open(path) as file:
        for line in file:
            if line.split(":")[0].strip() == name:
                return line.split(":", 1)[1].strip()
    return "unknown"


def file_system_of(folder):
    """The type of the mount that holds the folder."""
    folder, found = os.path.realpath(folder), ("", "unknown file system")
    with open("/proc/mounts") as mounts:
        for line in mounts:
            _, at, kind, *_ = line.split()
            if os.path.commonpath([folder, at]) == at and len(at) >= len(found[0]):
                found = (at, kind)
    return found[1]


def describe(folder):
    n_gib = round(int(field("/proc/meminfo", "MemTotal").split()[0]) / (1 << 20))
    cpu = field("/proc/cpuinfo", "model name")
    kernel = platform.release().split("-")[0]
    n_cores = len(os.sched_getaffinity(0))
    return f"{cpu}, {n_cores} cores, {n_gib} GiB, {platform.system()} {kernel}, {file_system_of(folder)}"
