"""A tiny agent: it does what the rules of a text say, most of the time.

`agent.py TEXT PROMPT WORKDIR RESULT SEED FOLDER SLEEP_S`: the prompt is `do KEY`, a rule of the text is `- KEY: WORD`.
Whether a rule is followed is drawn from the seed. Each invocation leaves a line in FOLDER/invocations.log. With a file
FOLDER/down its service is down.
"""

# Hundreds of runs pay for every import, so it does without pathlib.
# ruff: noqa: PTH110, PTH118, PTH123

import hashlib
import json
import os
import sys
import time

FOLLOWED = 0.92


def main(text: str, prompt: str, workdir: str, result: str, seed: str, folder: str, sleep_s: str) -> None:
    """Do one task."""
    if os.path.exists(os.path.join(folder, "down")):
        with open(result, "w", encoding="utf-8") as file:
            json.dump({"status": "infra_error", "error": "503 service unavailable"}, file)
        return
    with open(text, encoding="utf-8") as file:
        whole = file.read()
    with open(prompt, encoding="utf-8") as file:
        key = file.read().split()[-1]
    if folder:
        line = json.dumps([key, hashlib.sha256(whole.encode()).hexdigest()[:16], int(seed), os.getpid()])
        mark = os.open(os.path.join(folder, "invocations.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(mark, (line + "\n").encode())
        os.close(mark)
    time.sleep(float(sleep_s))
    rules = dict(x[2:].split(": ", 1) for x in whole.split("\n") if x.startswith("- ") and ": " in x)
    drawn = int(hashlib.sha256(f"{key}/{seed}".encode()).hexdigest()[:8], 16) / (1 << 32)
    followed = key in rules and (key == "MARK" or drawn < FOLLOWED)
    with open(os.path.join(workdir, "answer.txt"), "w", encoding="utf-8") as file:
        file.write(rules[key] if followed else "I do not know")
    with open(result, "w", encoding="utf-8") as file:
        json.dump({"status": "ok", "cost_usd": 0.01, "final_text": key}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
