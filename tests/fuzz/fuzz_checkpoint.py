"""Coverage-guided fuzzing of the two binary readers with atheris (an environment of its own; Python 3.11 to 3.13).

Any bytes must end in evidence or in one `UnreadableInput`, in bounded memory and time. Seeds are the files of the
corpus, cut to their headers and small data.

    python -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris .
    /tmp/fuzz/bin/python tests/fuzz/fuzz_checkpoint.py --seconds 300
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import struct
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

atheris: Any = importlib.import_module("atheris")  # no release of it for every Python that Assay runs on

with atheris.instrument_imports(include=["assay.readers.checkpoint"]):
    from assay.core.errors import UnreadableInput
    from assay.readers.checkpoint import gguf, read_checkpoint, safetensors

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "known_good" / "checkpoints" / "real.tar.xz"
MEMORY_MIB = 1024
_SEED_BYTES = 2**16
_INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": False}
DECLARATIONS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"quant_method": "compressed-tensors", "config_groups": {"g": {"targets": ["Linear"], "weights": _INT4}}},
    {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True},
    {"quant_method": "gptq", "bits": 4, "group_size": 32, "dynamic": {"+:.*up": {"bits": 8}}},
    {"quant_method": "bitsandbytes", "load_in_4bit": True},
    {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}},
    {"quant_method": "fp8", "weight_block_size": [128, 128]},
    {"quant_method": "mxfp4"},
    {"quant_method": "quanto", "weights": "int4"},
    {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}},
    {"quant_method": "mlx", "bits": 4, "group_size": 32},
)


def seeds(folder: Path) -> None:
    """One seed for each real file, and a GGUF and a safetensors made by hand."""
    with tarfile.open(CORPUS) as archive:
        for i, member in enumerate(m for m in archive if m.name.endswith((".safetensors", ".gguf"))):
            file = archive.extractfile(member)
            if file is not None:
                (folder / f"real-{i}").write_bytes(file.read(_SEED_BYTES))
    header = b'{"a.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    (folder / "small").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    (folder / "small-gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(8))


def one(home: Path, data: bytes) -> None:
    """Read one input both as a file of its kind and as a checkpoint folder; its last byte picks a declaration."""
    block = DECLARATIONS[data[-1] % len(DECLARATIONS)] if data else None
    (home / "config.json").write_text(json.dumps({"quantization_config": block} if block else {}))
    kind = "gguf" if data[:4] == b"GGUF" else "safetensors"
    path = home / f"model.{kind}"
    path.write_bytes(data)
    try:
        container = (gguf if kind == "gguf" else safetensors).read_file(path, len(data))
        assert all(t.size_bytes >= 0 for t in container.tensors.values())
        found = read_checkpoint(home, digest_limit_bytes=0)
        assert found.content_digest
    except UnreadableInput as error:
        if "\n" in str(error):
            raise AssertionError("an error of several lines") from error
    finally:
        path.unlink()


def main() -> None:
    """Fuzz for some seconds; exit 0 if nothing broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--corpus", type=Path, help="keep what was found between runs")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="fuzz-home-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    corpus = arguments.corpus or Path(tempfile.mkdtemp(prefix="fuzz-corpus-"))
    corpus.mkdir(exist_ok=True)
    seeds(corpus)
    flags = [
        f"-max_total_time={arguments.seconds}",
        f"-rss_limit_mb={MEMORY_MIB}",
        "-timeout=10",
        "-max_len=65536",
    ]
    os.chdir(tempfile.gettempdir())  # crashing inputs are written to the working directory
    atheris.Setup([sys.argv[0], *flags, str(corpus)], lambda data: one(home, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
