"""The GGUF worker: layout, tokenizer, types, refusals; and the same numbers that transformers serves."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from assay.workers import _job, quantize_gguf

MODEL = Path(__file__).parents[3] / "examples" / "release" / "model"
SCRIPTS = Path(quantize_gguf.__file__).parent
HIDDEN, HEADS, KV_HEADS, FFN, VOCABULARY = 32, 4, 2, 64, 40
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}


def split(pattern):
    """A Split pre-tokenizer as tokenizer.json spells it."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def shapes():
    """Shape of every tensor of a Llama with one layer, by name."""
    head = HIDDEN // HEADS
    layer = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (KV_HEADS * head, HIDDEN),
        "self_attn.v_proj": (KV_HEADS * head, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (FFN, HIDDEN),
        "mlp.up_proj": (FFN, HIDDEN),
        "mlp.down_proj": (HIDDEN, FFN),
        "input_layernorm": (HIDDEN,),
        "post_attention_layernorm": (HIDDEN,),
    }
    whole = {
        "model.embed_tokens": (VOCABULARY, HIDDEN),
        "model.norm": (HIDDEN,),
        "lm_head": (VOCABULARY, HIDDEN),
    }
    return {
        f"{name}.weight": s
        for name, s in [*((f"model.layers.0.{k}", v) for k, v in layer.items()), *whole.items()]
    }


@pytest.fixture
def config():
    """The smallest config.json that has all of the architecture."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "num_hidden_layers": 1,
        "max_position_embeddings": 16,
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCABULARY,
        "eos_token_id": 1,
    }


@pytest.fixture
def run(tmp_path, config, write_safetensors):
    """Write a checkpoint, run the worker in this process, return (exit status, result, file, tensors)."""
    pytest.importorskip("gguf", reason="the GGUF writer of llama.cpp is an extra")

    def go(tensors=None, options=None):
        source = tmp_path / "source"
        source.mkdir()
        (source / "config.json").write_text(json.dumps(config))
        vocabulary = {"<|end|>": 1, **{chr(0x41 + i): i + 2 for i in range(26)}}
        tokenizer = {
            "model": {"type": "BPE", "vocab": vocabulary, "merges": [["A", "B"]]},
            "added_tokens": [{"id": 1, "content": "<|end|>", "special": True}],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [DIGITS, BYTE_LEVEL]},
            "post_processor": None,
        }
        (source / "tokenizer.json").write_text(json.dumps(tokenizer))
        (source / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
        (source / "chat_template.jinja").write_text("{{ messages }}")
        random = np.random.default_rng(0)
        plain = {
            name: ("F32", random.normal(size=shape).astype(np.float32)) for name, shape in shapes().items()
        }
        write_safetensors(source / "model.safetensors", plain if tensors is None else tensors(plain))
        job = {
            "source": source,
            "out": tmp_path / "out",
            "result": tmp_path / "result.json",
            "options": options or {},
        }
        (tmp_path / "job.json").write_text(json.dumps(job, default=str))
        status = _job.main(quantize_gguf.WORKER, [str(tmp_path / "job.json")])
        result = json.loads((tmp_path / "result.json").read_text())
        return status, result, tmp_path / "out" / "model.gguf", plain

    return go


def read(path):
    """A GGUF file as (reader, {name: float values})."""
    import gguf  # noqa: PLC0415  (an extra)

    reader = gguf.GGUFReader(path)
    tensors = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(
            tensor.shape[::-1].tolist()
        )
        for tensor in reader.tensors
    }
    return reader, tensors


class TestFile:
    def test_values_and_permutation(self, run):
        """Every tensor arrives unchanged; the rows of q and k go from halves to interleaved pairs."""
        status, result, path, plain = run(options={"type": "F32"})
        assert status == 0, result
        _, tensors = read(path)
        assert len(tensors) == len(plain)
        assert np.array_equal(tensors["blk.0.ffn_up.weight"], plain["model.layers.0.mlp.up_proj.weight"][1])
        query = plain["model.layers.0.self_attn.q_proj.weight"][1]
        half = HIDDEN // HEADS // 2
        assert np.array_equal(tensors["blk.0.attn_q.weight"][1], query[half])
        assert np.array_equal(tensors["blk.0.attn_q.weight"][2], query[1])
        assert result["largest_weight_change"] == 0

    def test_metadata(self, run):
        """Tokenizer, template and shape are in the file; no beginning-of-text token is invented."""
        _, _, path, _ = run()
        reader, _ = read(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        assert fields["tokenizer.ggml.pre"] == "smollm"
        assert fields["tokenizer.ggml.eos_token_id"] == 1
        assert fields["tokenizer.ggml.add_bos_token"] is False
        assert "tokenizer.ggml.bos_token_id" not in fields
        assert fields["tokenizer.chat_template"] == "{{ messages }}"
        assert fields["tokenizer.ggml.tokens"][0] == "[PAD0]"
        assert fields["llama.attention.head_count_kv"] == KV_HEADS

    def test_head_and_embedding_stay_floating(self, run):
        """A quantized type is for the layers; head and embedding keep 16 bits unless asked for."""
        _, result, path, _ = run(options={"type": "Q8_0", "embedding_type": "Q8_0"})
        reader, _ = read(path)
        kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
        assert kinds["output.weight"] == "F16"
        assert kinds["token_embd.weight"] == "Q8_0"
        assert kinds["blk.0.attn_q.weight"] == "Q8_0"
        assert kinds["output_norm.weight"] == "F32"
        assert result["largest_weight_change"] > 0

    def test_tied_embeddings(self, run, config):
        """A tied model has no output tensor; the embedding serves as both."""
        config["tie_word_embeddings"] = True
        status, _, path, _ = run(lambda plain: {k: v for k, v in plain.items() if k != "lm_head.weight"})
        assert status == 0
        assert "output.weight" not in read(path)[1]


class TestRefusals:
    def test_architecture(self, run, config):
        """Another architecture has another graph."""
        config["architectures"] = ["Qwen3ForCausalLM"]
        _, result, _, _ = run()
        assert result["failure_class"] == "MODEL_UNSUPPORTED"
        assert "Qwen3ForCausalLM" in result["error"]

    def test_missing_tensor(self, run):
        """A checkpoint without its head is not completed with anything."""
        _, result, _, _ = run(lambda plain: {k: v for k, v in plain.items() if k != "lm_head.weight"})
        assert result["failure_class"] == "MODEL_UNSUPPORTED"
        assert "lm_head.weight" in result["error"]

    def test_extra_tensor(self, run):
        """A tensor that the graph does not use would be lost in silence."""
        extra = {"model.layers.0.self_attn.q_norm.weight": ("F32", np.ones(8, np.float32))}
        _, result, _, _ = run(lambda plain: {**plain, **extra})
        assert result["ok"] is False
        assert result["failure_class"] == "MODEL_UNSUPPORTED"

    def test_not_finite(self, run):
        """NaN in a weight ends the work."""
        name = "model.norm.weight"
        _, result, _, _ = run(lambda plain: {**plain, name: ("F32", np.full(HIDDEN, np.nan))})
        assert "not finite" in result["error"]

    def test_overflow_of_half_precision(self, run):
        """A weight beyond F16's range is refused instead of becoming infinite."""
        name = "lm_head.weight"
        _, result, _, _ = run(lambda plain: {**plain, name: ("F32", np.full((VOCABULARY, HIDDEN), 1e6))})
        assert "does not fit into F16" in result["error"]

    def test_second_quantization(self, run, config):
        """A quantized source may become floats, not another quantization."""
        config["quantization_config"] = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
        _, result, _, _ = run(options={"type": "Q4_0"})
        assert result["failure_class"] == "USER_CONFIG_ERROR"
        assert "second time" in result["error"]

    def test_other_quantization(self, run, config):
        """Files of a toolkit whose format is not known here are refused by name."""
        config["quantization_config"] = {"quant_method": "modelopt"}
        _, result, _, _ = run()
        assert "modelopt" in result["error"]

    def test_block_size(self, run):
        """A type whose block does not divide the rows says which tensor."""
        _, result, _, _ = run(options={"type": "TQ2_0"})
        assert result["failure_class"] == "QUANT_COVERAGE_FAILURE"
        assert "block of 256" in result["error"]

    @pytest.mark.parametrize("name", ["../model.gguf", "model.bin"])
    def test_file_name(self, run, name):
        """The file stays in `out` and keeps its suffix."""
        _, result, _, _ = run(options={"file_name": name})
        assert result["failure_class"] == "USER_CONFIG_ERROR"


class TestParts:
    @pytest.mark.parametrize(
        ("spec", "name"),
        [
            (BYTE_LEVEL, "gpt-2"),
            ({"type": "Sequence", "pretokenizers": [DIGITS, BYTE_LEVEL]}, "smollm"),
            *(
                (
                    {
                        "type": "Sequence",
                        "pretokenizers": [split(pattern), {**BYTE_LEVEL, "use_regex": False}],
                    },
                    name,
                )
                for pattern, name in quantize_gguf.SPLIT_PATTERNS.items()
            ),
        ],
    )
    def test_pre_tokenizer(self, spec, name):
        """A pre-tokenizer is recognized by what it does."""
        assert quantize_gguf.pre_tokenizer_name(spec) == name

    @pytest.mark.parametrize("spec", [None, {"type": "Whitespace"}, {**BYTE_LEVEL, "add_prefix_space": True}])
    def test_unknown_pre_tokenizer(self, spec):
        """An unknown one is refused: a wrong name would split text differently without a word."""
        with pytest.raises(_job.JobError, match="pre_tokenizer"):
            quantize_gguf.pre_tokenizer_name(spec)

    def test_llama3_rope_factors(self):
        """High frequencies stay, low ones are divided by the factor, and those between are interpolated."""
        rope = {
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        factors = quantize_gguf.llama3_rope_factors(rope, 128)
        assert len(factors) == 64
        assert factors[0] == 1.0
        assert factors[-1] == 8.0
        assert factors == sorted(factors)
        assert 1.0 < factors[32] < 8.0

    def test_permute_inverse(self):
        """The permutation loses nothing: undoing it gives the weight back."""
        weight = np.arange(16 * 3).reshape(16, 3)
        moved = quantize_gguf.permute(weight, 2)
        back = moved.reshape(2, 4, 2, 3).swapaxes(1, 2).reshape(16, 3)
        assert np.array_equal(back, weight)


@pytest.mark.slow
class TestSameNumbersAsTransformers:
    @pytest.mark.parametrize(
        "options",
        [
            {"scheme": "NVFP4A16"},
            {"scheme": "MXFP4A16"},
            {"num_bits": 3, "group_size": 32, "symmetric": False},
        ],
        ids=lambda options: "-".join(str(value) for value in options.values()),
    )
    def test_bit_for_bit(self, tmp_path, options):
        """A weight-only checkpoint becomes a GGUF that holds exactly what transformers decompresses."""
        reason = "needs torch, transformers, compressed-tensors and gguf"
        for package in ("torch", "transformers", "compressed_tensors", "gguf"):
            pytest.importorskip(package, reason=reason)
        if not (MODEL / "model.safetensors").is_file():
            pytest.skip("the demo model is not in this checkout")
        quantized, exported = tmp_path / "quantized", tmp_path / "exported"
        work("compressed_tensors", MODEL, quantized, options, tmp_path)
        work("gguf", quantized, exported, {"type": "F32"}, tmp_path)
        served = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", DECOMPRESS, quantized, tmp_path / "served.npz"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert served.returncode == 0, served.stderr
        expected = np.load(tmp_path / "served.npz")
        _, tensors = read(exported / "model.gguf")
        for name, part in (("ffn_down", "mlp.down_proj"), ("attn_v", "self_attn.v_proj")):
            for layer in range(3):
                ours = tensors[f"blk.{layer}.{name}.weight"]
                assert np.array_equal(ours, expected[f"model.layers.{layer}.{part}.weight"])


DECOMPRESS = """
import sys, numpy, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto").eval()
with torch.no_grad():
    model(input_ids=torch.tensor([[3, 4]]))
numpy.savez(sys.argv[2], **{k: v.float().numpy() for k, v in model.state_dict().items() if v.ndim == 2})
"""


def work(kind, source, out, options, folder):
    """Run one worker as an adapter does: a script, a job file, a process of its own."""
    job = {"source": source, "out": out, "result": folder / "result.json", "options": options}
    (folder / "job.json").write_text(json.dumps(job, default=str))
    script = SCRIPTS / f"quantize_{kind}.py"
    done = subprocess.run(
        [sys.executable, script, folder / "job.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
