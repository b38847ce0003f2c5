"""Our programs as child processes, and a small runner for checks.

Used by the programs beside this file. A started program says where it listens in its ready line; nothing here knows a
port. Every wait has a deadline, and whatever happens, no child outlives this process.
"""

import concurrent.futures
import contextlib
import faulthandler
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

START_SECONDS = 30
STOP_SECONDS = 30
# How the scaler says that a deadline was missed, its own or that of a read.
OUT_OF_TIME = re.compile(r"no answer .*\bwithin \d")

CHILDREN = set()


class Failed(Exception):
    """A check found something else than it expects."""


def expect(actual, wanted, what):
    if actual != wanted:
        raise Failed(f"{what}: expected {wanted!r}, got {actual!r}")


def await_state(read, wanted, what, seconds=30):
    """Reads until the answer is the wanted one."""
    deadline = time.monotonic() + seconds
    while (actual := read()) != wanted:
        if time.monotonic() > deadline:
            raise Failed(f"{what}: expected {wanted!r} within {seconds} s, got {actual!r}")
        time.sleep(0.02)


def in_time(run, seconds=60):
    """What a program says that asks the scaler: runs it again while that is that a deadline was missed.

    The scaler's deadlines are some seconds, and a machine that stands still for longer proves nothing about what was asked.
    """
    deadline = time.monotonic() + seconds
    while OUT_OF_TIME.search(f"{(done := run()).stdout}{done.stderr}") and time.monotonic() < deadline:
        time.sleep(0.02)
    return done


@contextlib.contextmanager
def started(*command, folder=None, log=None):
    """Runs a program until the block ends; gives its ready line. It must stop on SIGTERM with exit code 0.

    It runs in `folder`, if one is given, and writes to the file `log`, if one is given.
    """
    with tempfile.TemporaryDirectory() as own:
        ready_file = os.path.join(own, "ready.json")
        log = open(log or os.path.join(own, "log"), "w+b")
        child = subprocess.Popen(
            [*command, "--ready-file", ready_file],
            cwd=folder, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )

        CHILDREN.add(child)
        ready_line = None

        def logged():
            log.flush()
            log.seek(0)
            return log.read().decode(errors="replace")

        try:
            deadline = time.monotonic() + START_SECONDS
            while not os.path.exists(ready_file):
                if child.poll() is not None:
                    raise Failed(f"{command[0]} ended with {child.returncode} before it was ready:\n{logged()}")
                if time.monotonic() > deadline:
                    raise Failed(f"{command[0]} was not ready within {START_SECONDS} s:\n{logged()}")
                time.sleep(0.01)
            with open(ready_file, encoding="utf-8") as file:
                ready_line = file.read()
            yield json.loads(ready_line)
            child.send_signal(signal.SIGTERM)
            try:
                code = child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                raise Failed(f"{command[0]} still runs {STOP_SECONDS} s after SIGTERM:\n{logged()}") from None
            if code != 0:
                raise Failed(f"{command[0]} ended with {code} after SIGTERM:\n{logged()}")
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
            CHILDREN.discard(child)
            keep(os.path.basename(command[0]), child.pid, logged(), ready_line)
            log.close()


def keep(name, process_id, said, ready_line):
    """Keeps what a program said where `.ci/run` looks for secrets, but for its ready line: a broker's announces its own key."""
    if folder := os.environ.get("TESTBENCH_OUTPUT"):
        with open(os.path.join(folder, f"{name}-{process_id}.log"), "a", encoding="utf-8") as file:
            file.write(said.replace(ready_line, "", 1) if ready_line else said)


def run_checks(checks, at_once=1, seconds_each=120):
    """Runs (name, function) pairs, so many at a time, and prints a line for each in their order, and a summary.

    True when all passed. A check that hangs ends the process with a dump of its stacks: no client's own idea of a
    timeout is trusted.
    """

    def give_up(name):
        print(f"{name}: FAILED: it still runs after {seconds_each} s", file=sys.stderr)
        faulthandler.dump_traceback(all_threads=True)
        kill_children()
        os._exit(1)

    def run(name, check):
        began = time.monotonic()
        watchdog = threading.Timer(seconds_each, give_up, [name])
        watchdog.daemon = True
        watchdog.start()
        try:
            check()
            verdict = "ok"
        except Failed as error:
            verdict = f"FAILED: {error}"
        except Exception:  # A client's exception is a finding like any other; the other checks still run.
            verdict = f"FAILED:\n{traceback.format_exc()}"
        finally:
            watchdog.cancel()
        return verdict, time.monotonic() - began

    # Not as a context: whoever is told to stop does not wait for what still runs.
    executor = concurrent.futures.ThreadPoolExecutor(at_once)
    running = [(name, executor.submit(run, name, check)) for name, check in checks]
    failed = 0
    for name, result in running:
        verdict, seconds = result.result()
        failed += verdict != "ok"
        print(f"{name:<66} {seconds:6.2f} s  {verdict}", flush=True)
    print(f"{len(checks) - failed} passed, {failed} failed", flush=True)
    return failed == 0


def kill_children():
    for child in list(CHILDREN):
        child.kill()


def run_program(main):
    """Runs `main`, which says whether all passed, and ends the process accordingly."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Whatever is written, by a check that is stopped half-way too, is in a folder that goes.
    tempfile.tempdir = tempfile.mkdtemp(prefix="interop-")
    try:
        code = 0 if main() else 1
    except Failed as error:
        print(f"FAILED: {error}", file=sys.stderr)
        code = 1
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = 130
    finally:
        kill_children()
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that a client library left behind must not keep a finished program waiting.
    os._exit(code)
