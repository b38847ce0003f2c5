"""Commands of a Markdown document with what it says they print, and a way to run them and compare.

A block of the kind `console` has commands after `$ ` (a `\\` at the end of a line goes on in the next) and below each
some lines of its output, in order; `…` in them stands for anything. A block of the kind `text` after `<!-- ci: log -->`
has lines of a log. Any other `<!-- ci: NAME -->` names the surroundings that the next block needs. Nothing here knows
what the commands do.
"""

import dataclasses
import re
import subprocess

from programs import Failed, in_time

BLOCK = re.compile(r"(?:<!-- ci: (?P<state>[\w-]+) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)```", re.DOTALL)
ASSIGNMENT = re.compile(r"[A-Z_]+=")
COMMAND_SECONDS = 30
# Where a document shows a stream, grpcurl hangs up after so many seconds; on a machine that is busy the stream's first
# message may need more of them than a reader would wait.
HANG_UP = re.compile(r"-max-time \d+")
STREAM_SECONDS = 20


@dataclasses.dataclass
class Command:
    """One command: what it is, and the lines of output that the document shows."""

    text: str
    shown: list


@dataclasses.dataclass
class Block:
    """One block of commands, and the surroundings that it needs, if it names some."""

    state: str
    commands: list


def blocks(document):
    """The blocks of commands in a document."""
    found = []
    for match in BLOCK.finditer(document):
        if match["kind"] == "console":
            found.append(Block(match["state"] or "plain", list(commands(match["text"]))))
    return found


def log_lines(document):
    """The lines of a log that a document shows."""
    texts = [match["text"] for match in BLOCK.finditer(document) if match["state"] == "log"]
    return [line for text in texts for line in text.splitlines() if line]


def commands(text):
    command = None
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            if command:
                yield command
            command = Command(line[2:], [])
        elif command and line.strip():
            command.shown.append(line.strip())
    if command:
        yield command


def with_patience(command):
    return HANG_UP.sub(f"-max-time {STREAM_SECONDS}", command)


def is_like(shown, actual):
    """Whether a line is what the document shows, where `…` is anything."""
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, actual.strip()) is not None


def run(block, programs, environment, folder, replaced):
    """Runs a block's commands with `bash`; each must print what is shown. Gives the commands that ran.

    `programs` are those that may be run; others are passed over if their name is false in it, and a mistake otherwise.
    `replaced` are texts of commands and what stands for them here.
    """
    assignments, ran = [], []
    for command in block.commands:
        text = with_patience(command.text)
        for old, new in replaced.items():
            text = text.replace(old, new)
        if ASSIGNMENT.match(text):
            assignments.append(text)
            continue
        name = text.split()[0]
        if name not in programs:
            raise Failed(f"the document runs {name}, which is not known here: {command.text}")
        if not programs[name]:
            continue
        script = "\n".join([*assignments, text])
        done = in_time(lambda script=script: subprocess.run(
            ["bash", "-uc", script], cwd=folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=COMMAND_SECONDS, check=False,
        ))
        lines = iter(done.stdout.splitlines())
        for shown in command.shown:
            if not any(is_like(shown, line) for line in lines):
                raise Failed(f"{command.text}\n  does not print, or not in this order: {shown}\n  but:\n{done.stdout}")
        if not command.shown and done.returncode != 0:
            raise Failed(f"{command.text} ended with {done.returncode}: {done.stdout}")
        ran.append(text)
    return ran
