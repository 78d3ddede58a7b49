# SPDX-License-Identifier: Apache-2.0
"""Saves and loads of ckptio beside what Python and LibTorch have, in turns, round by round: a table, a line of JSON for
each (--json), and a picture (--svg). A ratio is to the fastest raw way that was measured in the same rounds, by
ckptio_bench or here; how one of ckptio_bench keeps to its own limit, ckptio_bench itself says."""
import argparse
import datetime
import json
import logging
import os
import tempfile
import warnings

import machine
import peers
import speed_plot
import turns

OPS = {
    "save": "save into the page cache",
    "durable": "save that survives a power cut",
    "async": "what a save in the background keeps the caller waiting",
    "load": "load into new tensors",
    "inplace": "restore into the tensors that are there",
    "cold": "load into new tensors, from the disk",
}
# op, name, --plugin and --op of ckptio_bench
OURS = [
    ("save", "ckptio python", "python", "save"),
    ("save", "ckptio safetensors", "safetensors", "save"),
    ("save", "ckptio torch", "torch", "save"),
    ("save", "LibTorch torch::save", "libtorch", "save"),
    ("save", "LibTorch pickle_save", "libtorch_pickle", "save"),
    ("durable", "ckptio python", "python", "durable"),
    ("durable", "ckptio safetensors", "safetensors", "durable"),
    ("durable", "LibTorch torch::save + fdatasync", "libtorch", "durable"),
    ("async", "ckptio python", "python", "async"),
    ("async", "ckptio python, first save", "python", "async_first"),
    ("async", "ckptio python, overlapped", "python", "async_overlap"),
    ("load", "ckptio python", "python", "load"),
    ("load", "ckptio safetensors", "safetensors", "load"),
    ("load", "ckptio torch", "torch", "load"),
    ("load", "LibTorch torch::load", "libtorch", "load"),
    ("load", "LibTorch pickle_load", "libtorch_pickle", "load"),
    ("inplace", "ckptio python, all checked first", "python", "inplace"),
    ("inplace", "ckptio python, checked meanwhile", "python", "inplace_one_pass"),
    ("inplace", "ckptio python, unchecked", "python", "inplace_unverified"),
    ("inplace", "ckptio safetensors", "safetensors", "inplace_unverified"),
    ("inplace", "LibTorch torch::load + copy_", "libtorch", "inplace"),
    ("cold", "ckptio python", "python", "cold"),
    ("cold", "ckptio safetensors", "safetensors", "cold"),
    ("cold", "LibTorch torch::load", "libtorch", "cold"),
]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True, help="ckptio_bench")
    parser.add_argument("--workload", nargs="+", default=["big", "adam", "small"], choices=["big", "adam", "small"])
    parser.add_argument("--op", nargs="+", default=list(OPS), choices=list(OPS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=0.25, help="so many times as many tensors")
    parser.add_argument("--threads", type=int, default=min(4, len(os.sched_getaffinity(0))))
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where files are made, and removed")
    parser.add_argument("--json", help="a file, to be written")
    parser.add_argument("--svg", help="a file, to be written")
    return parser.parse_args()


def run_turns(op, state, options):
    """All that is measured of an operation, in an order that rotates."""
    entrants = []
    try:
        entrants.append(turns.Limits(op, state, options))
        for its_op, name, plugin, bench_op in OURS:
            if its_op == op:
                entrants.append(turns.Ours(op, name, options, plugin, bench_op))
        for peer in peers.PEERS:
            if peer.op == op and peer.is_there():
                entrants.append(turns.Peer(peer, state, options))
        for i in range(options.rounds):
            first = i * 3 % len(entrants)
            for entrant in entrants[first:] + entrants[:first]:
                entrant.run_round()
        return [(entrant, *entrant.results()) for entrant in entrants]
    finally:
        for entrant in entrants:
            entrant.close()


def measure(op, state, options):
    measured = run_turns(op, state, options)
    limit = min((limit for _, _, limits in measured for limit in limits), key=lambda limit: limit["median_s"])
    for entrant, result, _ in measured:
        if result is None:
            continue
        yield {
            "workload": options.workload_now, "op": op, "plugin": entrant.name, "ours": entrant.is_ours,
            "threads": options.threads, **result, "limit": limit["limit"], "limit_median_s": limit["median_s"],
            "ratio": result["median_s"] / limit["median_s"]}  # fmt: skip


def print_line(line):
    print(f"{line['workload']:6} {line['op']:8} {line['plugin']:34} {line['median_s'] * 1e3:10.2f} ms "
          f"{line['ratio']:8.2f} x {line['limit']}", flush=True)  # fmt: skip


def caption(options):
    words = [f"--rounds {options.rounds}", f"--scale {options.scale:g}", f"--threads {options.threads}"]
    return [
        f"Median of {options.rounds} rounds in turns, as a multiple of the fastest raw way of the same rounds "
        "(1; log scale). Further left is better.",
        f"{datetime.date.today()}: {machine.describe(options.dir)}.",
        "compare.py " + " ".join(words),
    ]


def main():
    options = parse_arguments()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    lines, sizes = [], {}
    with tempfile.TemporaryDirectory(prefix="ckptio_compare_", dir=options.dir) as options.dir:
        for options.workload_now in options.workload:
            state = peers.make_state(options.workload_now, options.scale)
            n_bytes = sum(tensor.nbytes for tensor in state.values())
            sizes[options.workload_now] = f"{len(state):,} tensors, {n_bytes / 1e6:,.0f} MB"
            for op in options.op:
                for line in measure(op, state, options):
                    lines.append(line)
                    print_line(line)
        text = caption(options)
    if options.json:
        with open(options.json, "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    if options.svg:
        with open(options.svg, "w") as file:
            file.write(speed_plot.draw(lines, OPS, sizes, text))


if __name__ == "__main__":
    main()
