"""What each log of the suite looks like when it is masked rightly, by a parser for each format; it knows no rule file.

    python label.py            # compare what the tasks expect with what the parsers say
    python label.py --write    # write what the tasks expect anew

A parser takes a line apart where its format says so: by spaces, tabs and fixed words. No regular expression is used here,
so that labels and rules share no mistakes. Free text goes to `free`, which finds numbers with and without a unit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

TASKS = Path(__file__).resolve().parent / "suite" / "tasks"
SIZES = ("B", "kB", "KiB", "MB", "MiB", "GiB")
TIMES = ("s", "ms", "us", "usec", "msec", "nsec", "sec", "secs")


def free(text: str) -> str:
    """Text in which numbers are masked; a unit belongs to its number, and a number that is part of a word is none."""
    out, i = [], 0
    while i < len(text):
        if not wordish(text[i], text[i + 1 : i + 2]):
            out.append(text[i])
            i += 1
            continue
        end = i
        while end < len(text) and wordish(text[end], text[end + 1 : end + 2]):
            end += 1
        word = text[i:end]
        if number(word):
            unit = after(text, end + 1) if text[end : end + 1] == " " else ""
            if kind := kind_of(unit):
                out.append(kind)
                end += 1 + len(unit)
            elif text[end : end + 1] == "%":
                out.append("<PERCENT>")
                end += 1
            else:
                out.append("<NUMBER>")
        else:
            out.append(with_unit(word))
        i = end
    return "".join(out)


def wordish(c: str, following: str) -> bool:
    """Whether a character holds a word together; a full stop only inside."""
    return c.isalnum() or c in "_-/+" or (c == "." and following.isalnum())


def after(text: str, start: int) -> str:
    """The word that begins there."""
    end = start
    while end < len(text) and text[end].isalpha():
        end += 1
    return text[start:end]


def kind_of(unit: str) -> str:
    """What a number with that unit is."""
    return "<SIZE>" if unit in SIZES else "<DURATION>" if unit in TIMES else ""


def number(word: str) -> bool:
    """Whether a word is a number and nothing else; its sign belongs to it."""
    word = word.removeprefix("-")
    if not word[:1].isdigit() or not word.isascii():
        return False
    try:
        float(word)
    except ValueError:
        return False
    return word.replace("_", "") == word


def with_unit(word: str) -> str:
    """A number with its unit joined to it, such as 12ms; any other word as it is."""
    for unit in (*SIZES, *TIMES):
        if word.endswith(unit) and number(word[: -len(unit)]):
            return kind_of(unit)
    return word


def dpkg(line: str) -> str:
    """DATE TIME ACTION ...: packages' versions at the end, `<none>` for none."""
    _, _, action, *rest = line.split(" ")
    if action == "startup":
        return " ".join(["<TIME>", action, *rest])
    first = 2 if action == "status" else 1
    return " ".join(["<TIME>", action, *rest[:first], *(versions(w) for w in rest[first:])])


def versions(word: str) -> str:
    """A version, unless it stands for none."""
    return word if word in {"<none>", ""} else "<VERSION>"


def apt(line: str) -> str:
    """Sentences of dpkg; versions stand in parentheses."""
    for start in ("Log started: ", "Log ended: "):
        if line.startswith(start):
            return start + "<TIME>"
    if line.startswith("Preparing to unpack "):
        return "Preparing to unpack <PATH> ..."
    if line.startswith(("Unpacking ", "Setting up ")):
        parts = line.split("(")
        return "(".join([parts[0], *("<VERSION>)" + p.split(")", 1)[1] for p in parts[1:])])
    if line.startswith("Processing triggers for "):
        return line.split("(", maxsplit=1)[0] + "(<VERSION>) ..."
    if line.startswith("Selecting "):
        return line
    return " ".join(paths(w) or free(w) for w in line.split(" "))


def paths(word: str) -> str:
    """A path, with quotes, brackets and stops around it kept; empty for what is none."""
    inner = word.strip("'\"(),:;")
    return word.replace(inner, "<PATH>") if inner.startswith("/") or inner.count("/") > 1 else ""


def alternatives(line: str) -> str:
    """update-alternatives DATE TIME: message."""
    start, message = line.split(": ", 1)
    words = message.split(" ")
    return f"{start.split(' ')[0]} <TIME>: " + " ".join(paths(w) or free(w) for w in words)


def git(line: str) -> str:
    """Commits, and changed files with modes and ids."""
    if line.startswith("commit "):
        return "commit <HEX>"
    if line.startswith("Date: "):
        return "Date: <TIME>"
    if not line.startswith(":"):
        return line
    facts, *names = line.split("\t")
    *_, change = facts.split(" ")
    return f":<NUMBER> <NUMBER> <HEX> <HEX> {change}\t" + "\t".join(path_or_name(n) for n in names)


def path_or_name(name: str) -> str:
    """A path has a slash."""
    return "<PATH>" if "/" in name else name


def pytest(line: str) -> str:
    """TEST PASSED [ n%], or DURATION PHASE TEST; a test's name belongs to its path."""
    if "::" in line and line.endswith("%]"):
        return "<PATH> " + line[line.rindex(" PASSED") + 1 : line.rindex("[")] + bracketed(line)
    if line.count("::") and line[0].isdigit():
        rest = line.split(" ", 1)[1]
        return "<DURATION> " + rest[: rest.index("tests/")] + "<PATH>"
    return free(line)


def bracketed(line: str) -> str:
    """[ 12%] with its spaces."""
    inside = line[line.rindex("[") + 1 : -1]
    return "[" + inside.replace(inside.strip(), "<PERCENT>") + "]"


def http(line: str) -> str:
    """IP - - [TIME] "METHOD PATH PROTOCOL" STATUS -, or `code STATUS, message ...`."""
    rest = line[line.index("]") + 2 :]
    start = "<IP> - - [<TIME>] "
    if not rest.startswith('"'):
        return start + free(rest)
    method, _, protocol = rest[1 : rest.rindex('"')].split(" ")
    return f'{start}"{method} <PATH> {protocol}" ' + free(rest[rest.rindex('"') + 2 :])


def postgres(line: str) -> str:
    """DATE TIME ZONE [PROCESS] LEVEL: message."""
    if line.startswith("\t"):
        return free(line)
    message = line[line.index("]") + 1 :]
    start = "<TIME> [<NUMBER>]"
    if "starting PostgreSQL" in message:
        words = message.split(" ")
        return start + " ".join(version_or_word(w) for w in words)
    words = message.split(" ")
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if "." in value and all(p.isdigit() for p in value.split(".")) and value.count(".") == 3:
            words[i] = f"{name}{equals}<IP>"
        elif name == "lsn":
            words[i] = f"{name}{equals}<HEX>" + ("," if value.endswith(",") else "")
        elif word.count(":") == 2 and i and words[i - 1] == "time:":
            words[i] = "<DURATION>"
        elif word.strip('",').count(".") == 3 and word.strip('",').replace(".", "").isdigit():
            words[i] = word.replace(word.strip('",'), "<IP>")
        elif word.strip('"').startswith("/"):
            words[i] = word.replace(word.strip('"'), "<PATH>")
    message = " ".join(words)
    if " at 20" in message:
        message = message[: message.index(" at 20")] + " at <TIME>"
    return start + around(message)


def version_or_word(word: str) -> str:
    """A version, with the bracket or comma behind it."""
    inner = word.strip("(),")
    return word.replace(inner, "<VERSION>") if inner[:1].isdigit() and "." in inner else word


def around(message: str) -> str:
    """Free text around what is masked already."""
    out = []
    for piece in message.split("<"):
        kind, closed, rest = piece.partition(">")
        masked = out and closed and kind.isupper()
        out.append(f"{kind}>{free(rest)}" if masked else free(piece))
    return "<".join(out)


def importtime(line: str) -> str:
    """Two numbers and the name of a module."""
    numbers, module = line.rsplit("|", 1)
    return free(numbers) + "|" + module


def tracemalloc(line: str) -> str:
    """FILE:LINE: size=..., count=..., average=..."""
    place, facts = line.split(": ", 1)
    file, _ = place.rsplit(":", 1)
    return f"{path_or_name(file)}:<NUMBER>: {free(facts)}"


def tar(line: str) -> str:
    """MODE OWNER/GROUP SIZE DATE TIME NAME."""
    mode, owner = line.split(" ")[:2]
    rest = line[len(mode) + len(owner) + 1 :]
    size, _, _, name = rest.split()
    return f"{mode} {owner}{' ' * (rest.index(size))}<NUMBER> <TIME> {path_or_name(name)}"


def mark(line: str) -> str:
    """The canary: the project's own mark."""
    return line.replace("heron", "<MARK>")


FORMATS = {
    f.__name__: f
    for f in (dpkg, apt, alternatives, git, pytest, http, postgres, importtime, tracemalloc, tar, mark)
} | {"gc": free, "timeit": free}


def labelled(task: Path) -> str:
    """The masked log of a task."""
    tags = (task / "task.yaml").read_text(encoding="utf-8").split("tags: [")[1].split("]")[0]
    parse = FORMATS[tags.split(",")[0]]
    lines = (task / "workspace" / "log.txt").read_text(encoding="utf-8").split("\n")
    return "\n".join(parse(line) if line.strip() else line for line in lines)


def decides(task: Path) -> Path:
    """What the agent's file is compared with: by compare.py where its words teach, else without a process."""
    teaches = "split: train" in (task / "task.yaml").read_text(encoding="utf-8")
    return task / "verifier" / "expected.txt" if teaches else task / "expected" / "masked.txt"


def main() -> int:
    """Exit code 1 when a task expects something else."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    differ = 0
    for task in sorted(TASKS.iterdir()):
        said = labelled(task)
        for path in (task / "reference" / "masked.txt", decides(task)):
            if write:
                path.parent.mkdir(exist_ok=True)
                path.write_text(said, encoding="utf-8")
            elif path.read_text(encoding="utf-8") != said:
                print(f"{path.relative_to(TASKS)} differs")
                differ += 1
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
