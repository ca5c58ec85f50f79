"""Decides a task: exit code 0 exactly if every test of test_hidden.py ran and passed.

The program runs in a child process. The child gives a secret word back after the last test, so a program that ends
the process early, prints what it likes or stays in a loop has not passed.
"""

import importlib
import os
import secrets
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT_S = 8


def parent():
    """Run the tests in a child and believe its secret word alone."""
    word = secrets.token_hex(16)
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-B", str(HERE / "judge.py"), "--child"],
            input=word,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"the tests did not end within {LIMIT_S} s")
        return 1
    last = child.stderr.strip().splitlines()[-1:]
    print(*last, sep="\n")
    return 0 if child.returncode == 0 and child.stdout == word else 1


def child():
    """Run every test; say the word if all of them passed."""
    word = sys.stdin.read()
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.path.insert(0, str(HERE))
    module = importlib.import_module("test_hidden")
    tests = [test for name, test in vars(module).items() if name.startswith("test_")]
    for test in tests:
        test()
    if tests:
        os.write(answer, word.encode())


if __name__ == "__main__":
    sys.exit(child() if "--child" in sys.argv else parent())
