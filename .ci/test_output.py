#!/usr/bin/env python3
"""Passes the output of `cargo test -- --show-output` on: all of it into a file, and to the reader what matters.

What passing tests said is left out for the reader. If tests failed, their names with the panics or errors they ended with
stand in a second file, short enough to be read at the end of a long log; otherwise there is no such file.
Usage: cargo test … 2>&1 | test_output.py --log FILE --failures FILE
"""

import argparse
import os
import re
import sys

FAILED = re.compile(r"test (?P<test>.+?)( - should panic)? \.\.\. FAILED$")
SECTION = re.compile(r"---- (?P<test>.+) stdout ----$")
PANIC = re.compile(r"thread '.*' (\(\d+\) )?panicked at ")
# What colours a terminal's text.
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
ENDED = re.compile(r"error: (test failed|doctest failed)|Caused by:|  process didn't exit successfully: ")
# Of each panic, and of a failed test that says nothing of one.
MOST_LINES = 25


class Output:
    """Where in the output of a test program it is, and what was collected."""

    def __init__(self):
        self.part = None
        self.failed = set()
        self.sections = []
        self.ends = []

    def take(self, line):
        """Notes a line; says whether the reader gets it."""
        text = ESCAPE.sub("", line.rstrip("\n"))
        if text in ("successes:", "failures:"):
            self.part = text
            self.sections.append((None, []))
            return text == "failures:"
        if text.startswith("test result: "):
            self.part = None
        elif self.part == "failures:":
            if (found := SECTION.match(text)) and found["test"] in self.failed:
                self.sections.append((found["test"], []))
            else:
                self.sections[-1][1].append(text)
        elif self.part is None:
            if found := FAILED.search(text):
                self.failed.add(found["test"])
            elif ENDED.match(text):
                self.ends.append(text)
        return self.part != "successes:"

    def failures(self):
        """The failed tests with what they ended with, and the programs that ended badly, as lines."""
        found = []
        for test, said in self.sections:
            if test is None:
                continue
            found.append(f"---- {test}")
            found += panics(said) or [line for line in said if line][-MOST_LINES:]
            found.append("")
        return found + self.ends


def panics(said):
    """The lines of panics and of errors that a test returned, without backtraces."""
    found, room = [], 0
    for line in said:
        if PANIC.search(line) or line.startswith("Error: "):
            room = MOST_LINES
        elif line.startswith(("stack backtrace:", "note: run with `RUST_BACKTRACE", "failures:")):
            room = 0
        if room > 0 and line:
            found.append(line)
            room -= 1
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", required=True, help="gets the whole output")
    parser.add_argument("--failures", required=True, help="gets what failed")
    arguments = parser.parse_args()
    if os.path.exists(arguments.failures):
        os.remove(arguments.failures)
    output = Output()
    # By lines: all that was said is there, whatever ends this.
    with open(arguments.log, "w", buffering=1, encoding="utf-8") as log:
        for line in sys.stdin.buffer:
            line = line.decode(errors="replace")
            log.write(line)
            if output.take(line):
                sys.stdout.write(line)
                sys.stdout.flush()
    if found := output.failures():
        with open(arguments.failures, "w", encoding="utf-8") as failures:
            failures.write("\n".join(found) + "\n")


if __name__ == "__main__":
    main()
