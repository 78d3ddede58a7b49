# SPDX-License-Identifier: Apache-2.0
"""How the cost of saves and loads grows with the number of tensors, their bytes and the threads: tables in Markdown,
and what grows worse than linearly."""
import argparse
import datetime
import os
import sys
import tempfile

import bench_process
import machine

OPS = ["save", "load", "inplace"]
TOLERANCE = 1.15  # what a cost may rise by chance
KIB, MIB = 1 << 10, 1 << 20


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True, help="ckptio_bench")
    parser.add_argument("--plugin", default="python")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--max-tensors", type=int, default=100_000)
    parser.add_argument("--max-mib", type=int, default=4096)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where files are made, and removed")
    return parser.parse_args()


def fits(n_bytes):
    """A state, what is loaded, the limit's memory and the file may be there at once."""
    available = int(machine.field("/proc/meminfo", "MemAvailable").split()[0]) * KIB
    if n_bytes * 4.5 <= available:
        return True
    print(f"growth.py: too little memory for {n_bytes / MIB:,.0f} MiB, left out", file=sys.stderr)
    return False


def measure(options, workload, n_threads):
    lines = bench_process.run(
        options.bench, "--plugin", options.plugin, "--op", *OPS, "--workload", workload, "--repeat", options.repeat,
        "--threads", n_threads, "--dir", options.dir)  # fmt: skip
    return {line["op"]: line for line in lines}


def figure(number):
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def table(title, unit, rows, cost_of):
    """`rows`: label -> operations; cost_of(row, line) in `unit`."""
    print(f"\n| {title} | " + " | ".join(f"{op}, ms | {unit}" for op in OPS) + " |")
    print("| ---: |" + " ---: |" * (2 * len(OPS)))
    for label, row in rows.items():
        cells = [f"{figure(row[op]['median_s'] * 1e3)} | {figure(cost_of(label, row[op]))}" for op in OPS]
        print(f"| {label:,} | " + " | ".join(cells) + " |", flush=True)


def worse_than_linear(title, rows):
    found = []
    for op in OPS:
        sizes = list(rows)
        for before, after in zip(sizes, sizes[1:]):
            factor = rows[after][op]["median_s"] / rows[before][op]["median_s"]
            if factor > after / before * TOLERANCE:
                found.append(f"{op}, {before:,} to {after:,} {title}: {factor:.3g} times the time")
    return found


def slower_with_more(rows):
    found = []
    for op in OPS:
        counts = list(rows)
        for before, after in zip(counts, counts[1:]):
            factor = rows[after][op]["median_s"] / rows[before][op]["median_s"]
            if factor > TOLERANCE:
                found.append(f"{op}, {before} to {after} threads: {factor:.3g} times the time")
    return found


def main():
    options = parse_arguments()
    threads = min(max(options.threads), len(os.sched_getaffinity(0)))
    print(f"{datetime.date.today()}: {machine.describe(options.dir)}; `{options.plugin}`, {threads} threads where not "
          f"said, medians of {options.repeat}.")  # fmt: skip
    counts = [10**i for i in range(6) if 10**i <= options.max_tensors]
    by_count = {count: measure(options, f"{count}x{KIB}", threads) for count in counts}
    table("tensors of 1 KiB", "ns a tensor", by_count, lambda count, line: line["median_s"] / count * 1e9)
    sizes = [4**i for i in range(7) if 4**i <= options.max_mib and fits(4**i * MIB)]
    by_size = {size: measure(options, f"16x{size * MIB // 16}", threads) for size in sizes}
    table("MiB in 16 tensors", "GB/s", by_size, lambda size, line: line["n_bytes"] / line["median_s"] / 1e9)
    fixed = f"16x{min(1024, options.max_mib) * MIB // 16}"
    by_threads = {n: measure(options, fixed, n) for n in options.threads}
    table(f"threads, {min(1024, options.max_mib):,} MiB", "GB/s", by_threads,
          lambda n, line: line["n_bytes"] / line["median_s"] / 1e9)  # fmt: skip
    found = worse_than_linear("tensors", by_count) + worse_than_linear("MiB", by_size) + slower_with_more(by_threads)
    print("\nWorse than linear, beyond 15 %:" + ("".join(f"\n- {what}" for what in found) or " nothing."))


if __name__ == "__main__":
    main()
