"""A quantizer with a defect: it loses the keys of one attention layer, then writes a well-formed GGUF file.

`python damage.py SOURCE OUT WORKER`: size, coverage and declaration are all as they should be, and the layer that it
breaks is one whose stored rows are permuted, so only the answers show it.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

BROKEN = "model.layers.1.self_attn.k_proj.weight"


def lose(weights: Path) -> None:
    """Write zeros over one tensor."""
    data = bytearray(weights.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    begin, end = json.loads(data[8 : 8 + length])[BROKEN]["data_offsets"]
    data[8 + length + begin : 8 + length + end] = bytes(end - begin)
    weights.write_bytes(data)


def main(source: Path, out: Path, worker: Path) -> int:
    """Damage a copy, then quantize it."""
    copy = Path("damaged").absolute()
    shutil.copytree(source, copy)
    lose(copy / "model.safetensors")
    job = {
        "source": str(copy),
        "out": str(out),
        "result": str(Path("result.json").absolute()),
        "options": {"type": "Q8_0"},
        "seed": 0,
        "threads": 1,
    }
    Path("job.json").write_text(json.dumps(job))
    done = subprocess.run([sys.executable, str(worker), "job.json"], check=False)
    shutil.rmtree(copy)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
