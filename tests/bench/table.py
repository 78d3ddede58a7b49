# SPDX-License-Identifier: Apache-2.0
"""The README's table: each operation of a plugin as a multiple of its own limit, and the memory that it took."""
import argparse
import datetime
import tempfile

import bench_process
import machine

ROWS = {
    "save": "save into the page cache",
    "durable": "save, durable",
    "async_first": "first save in the background, the caller waits",
    "async": "later saves in the background",
    "async_overlap": "the same while a batch is computed",
    "inplace": "restore in place, all checked first",
    "inplace_one_pass": "restore in place, checked meanwhile",
    "inplace_unverified": "restore in place, unchecked",
    "load": "load into new tensors, checked",
    "cold": "the same from the disk",
    "cold_inplace_one_pass": "restore in place from the disk, checked meanwhile",
    "cold_inplace": "the same, all checked first",
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True, help="ckptio_bench")
    parser.add_argument("--plugin", default="python")
    parser.add_argument("--workload", nargs="+", default=["big", "adam", "small"])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where files are made, and removed")
    return parser.parse_args()


def extra_mib(line, states):
    """What was resident beside the state, or beside two of them: MiB."""
    return (line["peak_rss_bytes"] - states * line["n_bytes"]) / (1 << 20)


def main():
    options = parse_arguments()
    lines = bench_process.run(
        options.bench, "--plugin", options.plugin, "--workload", *options.workload, "--repeat", options.repeat,
        "--scale", options.scale, "--dir", options.dir, "--op", *ROWS)  # fmt: skip
    cells = {(line["op"], line["workload"]): line for line in lines}
    print(f"{datetime.date.today()}: {machine.describe(options.dir)}; `{options.plugin}`, "
          f"{lines[0]['threads']} threads, medians of {options.repeat}.\n")  # fmt: skip
    print("| ratio to the limit | " + " | ".join(options.workload) + " | the limit |")
    print("| --- |" + " ---: |" * len(options.workload) + " --- |")
    for op, title in ROWS.items():
        of_op = [cells[op, workload] for workload in options.workload]
        limits = "; ".join(dict.fromkeys(line["limit"] for line in of_op))
        print(f"| {title} | " + " | ".join(f"{line['ratio']:.2f}" for line in of_op) + f" | {limits} |")
    print("\n| most memory, MiB | " + " | ".join(options.workload) + " |")
    print("| --- |" + " ---: |" * len(options.workload))
    for op, states in {"save": 1, "inplace": 1, "async": 2}.items():
        title = f"{op}: beyond the state" if states == 1 else f"{op}: beyond two states"
        of_op = [extra_mib(cells[op, workload], states) for workload in options.workload]
        print(f"| {title} | " + " | ".join(f"{mib:.1f}" for mib in of_op) + " |")


if __name__ == "__main__":
    main()
