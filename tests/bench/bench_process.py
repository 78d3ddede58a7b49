# SPDX-License-Identifier: Apache-2.0
"""ckptio_bench as a process: run to its end, or round by round."""
import json
import subprocess


def run(bench, *arguments):
    """What it measured: one dict for each line."""
    output = subprocess.run([bench, "--json", *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in output.stdout.splitlines()]


class Lockstep:
    """One operation that is run a round at a time, so that others take turns with it."""

    def __init__(self, bench, *arguments):
        command = [bench, "--json", "--lockstep", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.line = self.process.stdout.readline()  # once all was run for the first time

    def run_round(self):
        if self.line != "ready\n":
            raise RuntimeError(f"ckptio_bench: `ready` expected, got {self.line!r}")
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.line = self.process.stdout.readline()

    def result(self):
        result = json.loads(self.line)
        self.process.stdin.close()
        self.process.stdout.close()
        if self.process.wait() != 0:
            raise RuntimeError("ckptio_bench failed")
        return result

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
