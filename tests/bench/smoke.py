# SPDX-License-Identifier: Apache-2.0
"""smoke.py BENCH DIR: the scripts run on tiny states, say what they should, and leave no files."""
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree

import compare
import peers
import table

FIELDS = {"workload", "op", "plugin", "threads", "n_bytes", "median_s", "limit", "limit_median_s", "ratio"}
HERE = os.path.dirname(os.path.abspath(__file__))


def run(script, *arguments):
    command = [sys.executable, os.path.join(HERE, script), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def compared(bench, folder, *arguments):
    """The lines, and the picture as text."""
    json_path, svg_path = os.path.join(folder, "lines.json"), os.path.join(folder, "speed.svg")
    run("compare.py", "--bench", bench, "--scale", "0.01", "--rounds", "1", "--dir", folder, "--json", json_path,
        "--svg", svg_path, *arguments)  # fmt: skip
    with open(json_path) as file:
        lines = [json.loads(line) for line in file]
    drawn = "".join(xml.etree.ElementTree.parse(svg_path).getroot().itertext())
    os.remove(json_path)
    os.remove(svg_path)
    return lines, drawn


def check_compare(bench, folder, workload, ops):
    lines, drawn = compared(bench, folder, "--workload", workload, "--op", *ops)
    expected = {(op, name) for op, name, *_ in compare.OURS if op in ops}
    expected |= {(peer.op, peer.name) for peer in peers.PEERS if peer.op in ops and peer.is_there()}
    found = {(line["op"], line["plugin"]) for line in lines}
    assert found == expected, found ^ expected
    for line in lines:
        assert FIELDS <= line.keys() and line["workload"] == workload, line
        assert line["median_s"] > 0 and line["limit_median_s"] > 0, line
    for _, name in expected:
        assert name in drawn, name
    assert "compare.py --rounds 1" in drawn, drawn


def check_growth(bench, folder):
    printed = run("growth.py", "--bench", bench, "--repeat", "1", "--max-tensors", "10", "--max-mib", "4",
                  "--threads", "1", "2", "--dir", folder)  # fmt: skip
    number = r"[\d.,e+]+"
    rows = re.findall(rf"^\| ({number}) (?:\| {number} ){{6}}\|$", printed, re.MULTILINE)
    assert rows == ["1", "10", "1", "4", "1", "2"], printed
    assert "Worse than linear" in printed, printed


def check_table(bench, folder):
    printed = run("table.py", "--bench", bench, "--repeat", "1", "--workload", "big", "small", "--scale", "0.01",
                  "--dir", folder)  # fmt: skip
    assert len(re.findall(r"^\| .* \| [\d.]+ \| [\d.]+ \| .+ \|$", printed, re.MULTILINE)) == len(table.ROWS), printed
    assert len(re.findall(r"^\| .* states? \| -?[\d.]+ \| -?[\d.]+ \|$", printed, re.MULTILINE)) == 3, printed


def main():
    bench, folder = sys.argv[1:]
    check_compare(bench, folder, "big", list(compare.OPS))
    check_compare(bench, folder, "small", ["async", "load"])
    check_table(bench, folder)
    check_growth(bench, folder)
    left = os.listdir(folder)
    assert not left, left


if __name__ == "__main__":
    main()
