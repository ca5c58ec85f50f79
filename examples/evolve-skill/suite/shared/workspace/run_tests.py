"""Runs the tests of test_visible.py: a line a test, exit code 1 if one fails. `--json` prints name → passed."""

import importlib
import json
import sys
from pathlib import Path


def outcomes(module_name):
    """Test name → what went wrong; empty for a test that passes. A module that cannot be imported fails as one."""
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        return {"import": f"{type(error).__name__}: {error}"}
    found = {}
    for name, test in vars(module).items():
        if name.startswith("test_"):
            try:
                test()
                found[name] = ""
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}".rstrip(": ")
    return found


def main():
    """Print the outcomes."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    found = outcomes("test_visible")
    if "--json" in sys.argv:
        print(json.dumps({name: not wrong for name, wrong in found.items()}))
    else:
        for name, wrong in found.items():
            print(f"{'FAIL' if wrong else 'ok  '} {name}" + (f": {wrong}" if wrong else ""))
    return 1 if any(found.values()) or not found else 0


if __name__ == "__main__":
    sys.exit(main())
