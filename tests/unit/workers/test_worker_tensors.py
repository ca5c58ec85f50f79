"""Numpy dequantization against packings worked out by hand."""

import json
import struct

import numpy as np
import pytest

from assay.workers import _job, _tensors


def declared(weights, **changes):
    """A quantization_config whose only group has these weight arguments."""
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return {"config_groups": {"group_0": {**group, **changes}}, "quantization_status": "compressed"}


@pytest.fixture
def open_ct(tmp_path, write_safetensors):
    """A function (tensors, weight arguments) that opens such a checkpoint."""

    def build(tensors, weights, **changes):
        write_safetensors(tmp_path / "model.safetensors", tensors)
        checkpoint = _tensors.Checkpoint(tmp_path)
        return _tensors.CompressedTensors(checkpoint, {**declared(weights), **changes})

    return build


BF16_ONE, BF16_HALF, BF16_TWO = 0x3F80, 0x3F00, 0x4000


class TestNumbers:
    def test_e4m3(self):
        """FP8 E4M3 has bias 7, subnormals down to 2**-9, 448 at the top and one NaN of each sign."""
        values = _tensors.E4M3_VALUES
        assert values[0b0_0111_000] == 1.0
        assert values[0b0_0000_001] == 2**-9
        assert values[0b0_1111_110] == 448
        assert values[0b1_0111_100] == -1.5
        assert np.isnan(values[[0x7F, 0xFF]]).all()
        assert np.isfinite(np.delete(values, [0x7F, 0xFF])).all()

    def test_fp4_pairs(self):
        """The low four bits come first; bit 3 is the sign."""
        packed = np.array([[0x21, 0xF7]], np.uint8)
        assert _tensors.unpack_fp4(packed).tolist() == [[0.5, 1.0, 6.0, -6.0]]

    def test_bfloat16_rounds_to_even(self):
        """A tie goes to the even neighbour, and NaN stays NaN."""
        step = 2.0**-7
        values = np.array([1 + step / 2, 1 + 1.5 * step, 1 + step, np.nan], np.float32)
        rounded = _tensors.round_to(values, "BF16")
        assert rounded[:3].tolist() == [1.0, 1 + 2 * step, 1 + step]
        assert np.isnan(rounded[3])

    def test_bfloat16_is_the_upper_half(self):
        """BF16 bits are the upper half of a float32."""
        assert _tensors.Tensor("BF16", np.array([0xC040], np.uint16)).float32().tolist() == [-3.0]


class TestUnpack:
    def test_four_bits(self):
        """Eight values a word, low bits first, offset 8: 0x98765432 is -6 .. 1."""
        words = np.array([[0x98765432 - 2**32]], np.int32)
        assert _tensors.unpack_int32(words, 4, 8).tolist() == [[-6, -5, -4, -3, -2, -1, 0, 1]]

    def test_three_bits_cross_words(self):
        """Since 0.18 values are dense: the eleventh of three bits lies in bits 30 to 32, over two words."""
        codes = [k % 8 for k in range(32)]
        stream = sum(code << (3 * k) for k, code in enumerate(codes))
        words = np.array([[(stream >> (32 * i)) & 0xFFFFFFFF for i in range(3)]], np.uint32).view(np.int32)
        assert _tensors.unpack_int32(words, 3, 32).tolist() == [[code - 4 for code in codes]]

    def test_three_bits_the_older_way(self):
        """Before 0.18 ten values of three bits shared a word and two bits stayed empty."""
        codes = [(5 * k) % 8 for k in range(32)]
        words = [sum(c << (3 * i) for i, c in enumerate(codes[w : w + 10])) for w in range(0, 32, 10)]
        packed = np.array([words], np.uint32).view(np.int32)
        assert _tensors.unpack_int32(packed, 3, 32).tolist() == [[code - 4 for code in codes]]

    @pytest.mark.parametrize(("bits", "columns", "words"), [(4, 8, 2), (3, 20, 2)])
    def test_unknown_width(self, bits, columns, words):
        """A width that fits no layout, or fits two that differ, is refused rather than guessed."""
        with pytest.raises(_job.JobError, match="do not fill") as caught:
            _tensors.unpack_int32(np.zeros((1, words), np.int32), bits, columns)
        assert caught.value.failure_class == "MODEL_UNSUPPORTED"


class TestDequantize:
    def test_packed_group(self, open_ct):
        """Two groups of four: the first times 0.5, the second times 2."""
        words = np.array([[0x98765432 - 2**32]], np.int32)
        model = open_ct(
            {
                "a.q.weight_packed": ("I32", words),
                "a.q.weight_scale": ("BF16", np.array([[BF16_HALF, BF16_TWO]])),
                "a.q.weight_shape": ("I64", np.array([1, 8])),
                "norm.weight": ("BF16", np.array([BF16_TWO])),
            },
            {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 4},
        )
        readers = model.readers()
        assert set(readers) == {"a.q.weight", "norm.weight"}
        assert readers["a.q.weight"]().tolist() == [[-3, -2.5, -2, -1.5, -4, -2, 0, 2]]
        assert readers["norm.weight"]().tolist() == [2.0]

    def test_zero_point(self, open_ct):
        """Zero points are packed along the outputs and subtracted before the scale."""
        zero_points = [3, -8]
        packed = np.array([[(3 + 8) | (-8 + 8) << 4]], np.int32)
        model = open_ct(
            {
                "q.weight_packed": ("I32", np.array([[0x88888888 - 2**32], [0x88888888 - 2**32]], np.int32)),
                "q.weight_scale": ("BF16", np.array([[BF16_TWO], [BF16_ONE]])),
                "q.weight_zero_point": ("I32", packed),
                "q.weight_shape": ("I64", np.array([2, 8])),
            },
            {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "channel"},
        )
        assert model.dequantize("q")[:, 0].tolist() == [-2.0 * zero_points[0], -1.0 * zero_points[1]]

    def test_activation_order(self, open_ct):
        """With g_idx each input takes the scale of the group it was assigned to."""
        model = open_ct(
            {
                "q.weight_packed": ("I32", np.array([[0x99999999 - 2**32]], np.int32)),
                "q.weight_scale": ("BF16", np.array([[BF16_HALF, BF16_TWO]])),
                "q.weight_shape": ("I64", np.array([1, 8])),
                "q.weight_g_idx": ("I32", np.array([0, 1, 0, 1, 1, 0, 1, 0])),
            },
            {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 4},
        )
        assert model.dequantize("q").tolist() == [[0.5, 2, 0.5, 2, 2, 0.5, 2, 0.5]]

    def test_float8_per_channel(self, open_ct):
        """FP8 values times the scale of their row, rounded to the scale's dtype."""
        model = open_ct(
            {
                "q.weight": ("F8_E4M3", np.array([[0b0_0111_000, 0b1_0111_100]])),
                "q.weight_scale": ("BF16", np.array([[BF16_TWO]])),
            },
            {"num_bits": 8, "type": "float", "strategy": "channel"},
        )
        assert model.dequantize("q").tolist() == [[2.0, -3.0]]

    def test_nvfp4(self, open_ct):
        """FP4 times the FP8 scale of 16 inputs, divided by the tensor's global scale."""
        model = open_ct(
            {
                "q.weight_packed": ("U8", np.full((1, 8), 0x72)),
                "q.weight_scale": ("F8_E4M3", np.array([[0b0_1000_100]])),
                "q.weight_global_scale": ("F32", np.array([2.0])),
            },
            {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
        )
        assert model.dequantize("q")[0, :2].tolist() == [1.5, 9.0]

    def test_mxfp4(self, open_ct):
        """FP4 times a power of two stored as an exponent with bias 127."""
        model = open_ct(
            {
                "q.weight_packed": ("U8", np.full((1, 16), 0x21)),
                "q.weight_scale": ("U8", np.array([[127 - 3]])),
            },
            {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32},
        )
        assert model.dequantize("q")[0, :2].tolist() == [0.0625, 0.125]

    @pytest.mark.parametrize("part", ["input_activations", "output_activations"])
    def test_activations_are_refused(self, part):
        """A scheme that quantizes activations is another model than its weights in float."""
        spec = declared({"num_bits": 8, "type": "int"}, **{part: {"num_bits": 8, "type": "int"}})
        with pytest.raises(_job.JobError, match=f"{part} are quantized .8-bit int.*GGUF") as caught:
            _tensors.CompressedTensors(None, spec)
        assert caught.value.failure_class == "MODEL_UNSUPPORTED"

    @pytest.mark.parametrize("part", ["kv_cache_scheme", "transform_config"])
    def test_other_parts_are_refused(self, part):
        """A quantized KV cache or a transform cannot be folded into weights."""
        with pytest.raises(_job.JobError, match=part):
            _tensors.CompressedTensors(None, {**declared({"num_bits": 8}), part: {"num_bits": 8}})

    def test_integers_without_scale(self, open_ct):
        """Integer weights without a scale have no value."""
        model = open_ct({"q.weight": ("I8", np.ones((1, 2)))}, {"num_bits": 8, "type": "int"})
        with pytest.raises(_job.JobError, match="no scale"):
            model.readers()


class TestFiles:
    def test_cut_short(self, tmp_path, write_safetensors):
        """A file whose last tensor ends beyond it is named, not read."""
        write_safetensors(tmp_path / "model.safetensors", {"a": ("F32", np.ones(4))})
        path = tmp_path / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(_job.JobError, match="cut short"):
            _tensors.Checkpoint(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"\xff" * 8, struct.pack("<Q", 2) + b"{"])
    def test_no_safetensors(self, tmp_path, content):
        """A file that is no safetensors is a JobError, whatever is wrong with it."""
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(_job.JobError):
            _tensors.Checkpoint(tmp_path)

    def test_shards(self, tmp_path, write_safetensors):
        """Shards are found through their index."""
        write_safetensors(tmp_path / "one.safetensors", {"a": ("F32", np.ones(1))})
        write_safetensors(tmp_path / "two.safetensors", {"b": ("F16", np.full(1, 2.0))})
        index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        checkpoint = _tensors.Checkpoint(tmp_path)
        assert checkpoint.names() == ["a", "b"]
        assert checkpoint.get("b").float32().tolist() == [2.0]
