"""Commands to copy: the same flags as Assay's own adapters use, and nothing dropped without a word."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.adapters.serve import llama_cpp, sglang, transformers, vllm
from assay.core.errors import UsageError
from assay.runtime.engine_flags import ENGINES, copied_command, serve_command

PLACE = Path("/srv/model.gguf")


def pairs(words: tuple[str, ...]) -> set[tuple[str, str]]:
    """Each flag with the word after it, as far as that is a value."""
    found = set()
    for word, after in zip(words, (*words[1:], "-"), strict=True):
        if word.startswith("-") and not word.lstrip("-").isdigit():
            found.add((word, "" if after.startswith("-") and not after[1:].isdigit() else after))
    return found


@pytest.mark.parametrize(
    ("engine", "adapter", "leaves"),
    [
        (
            "llama_cpp",
            llama_cpp.Adapter(
                llama_cpp.Options(
                    context_tokens=1024,
                    slots=4,
                    threads=2,
                    kv_type="q8_0",
                    flash_attention="on",
                    kv_unified=True,
                )
            ),
            {"--alias", "--host", "--port", "-s", "-cram", "-m", "-fit"},
        ),
        (
            "vllm",
            vllm.Adapter(
                vllm.Options(
                    context_tokens=4096,
                    slots=8,
                    batch_tokens=2048,
                    kv_dtype="fp8",
                    eager=True,
                    tensor_parallel=2,
                )
            ),
            {"--host", "--port", "--seed", "--served-model-name", "--model", "-m"},
        ),
        (
            "sglang",
            sglang.Adapter(
                sglang.Options(
                    context_tokens=4096,
                    slots=8,
                    prefix_caching=False,
                    chunked_prefill_tokens=-1,
                    schedule="lpm",
                )
            ),
            {"--host", "--port", "--random-seed", "--served-model-name", "--model-path", "-m"},
        ),
        (
            "transformers",
            transformers.Adapter(transformers.Options(kv_blocks=32, attention="sdpa")),
            {"--host", "--port", "--default-seed", "-m"},
        ),
    ],
)
def test_the_command_to_copy_serves_as_the_adapter_did(engine: str, adapter: Any, leaves: set[str]) -> None:
    """What was measured is what the user starts: every flag of the adapter with its value, and no other."""
    named = () if engine == "transformers" else ("name",)
    own = adapter.command(PLACE, *named, 8000, 0)
    made = serve_command(engine, str(PLACE), adapter.options.model_dump())
    assert made.untold == ()
    assert {p for p in pairs(own) if p[0] not in leaves} == {
        p for p in pairs(made.words) if p[0] not in leaves
    }
    assert str(PLACE) in made.words


def test_llama_context_is_the_total_over_its_slots() -> None:
    """`-c` is shared out among the slots, so what each gets must be multiplied."""
    made = serve_command("llama_cpp", "m.gguf", {"context_tokens": 1000, "slots": 4})
    assert ("-c", "4000") in pairs(made.words)
    made = serve_command("llama_cpp", "m.gguf", {"context_tokens": 1000, "slots": 4, "kv_unified": True})
    assert ("-c", "1000") in pairs(made.words)


def test_ollama_is_set_by_variables() -> None:
    """Ollama has no flags: its settings stand before the command."""
    made = serve_command(
        "ollama", "qwen3:8b", {"context_tokens": 8192, "kv_type": "q8_0", "flash_attention": "on"}, port=11434
    )
    assert made.words == ("ollama", "serve")
    assert made.shell.startswith(
        "OLLAMA_CONTEXT_LENGTH=8192 OLLAMA_KV_CACHE_TYPE=q8_0 OLLAMA_FLASH_ATTENTION=1"
    )
    assert made.environment["OLLAMA_HOST"] == "127.0.0.1:11434"


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_a_setting_without_a_flag_is_told(engine: str) -> None:
    """A setting that the engine does not know is named; one left at null is nothing."""
    made = serve_command(engine, "m", {"warp_factor": 9, "slots": None})
    assert made.untold == ("warp_factor",)
    assert "None" not in made.shell


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_every_engine_says_where_it_listens(engine: str) -> None:
    """Defaults of ports move between versions, so the port always stands there."""
    assert "8123" in serve_command(engine, "m", {}, port=8123).shell


def test_the_specs_knobs_of_each_engine_are_in_its_table() -> None:
    """Concurrency has a flag everywhere but in transformers; context where the engine has one."""
    without = {e for e, found in ENGINES.items() if "slots" not in found.flags}
    assert without == {"transformers"}
    assert {e for e, f in ENGINES.items() if "context_tokens" not in f.flags} == {"transformers", "mlx_lm"}


def test_an_unknown_engine_names_the_known_ones() -> None:
    """The message says what would have been right."""
    with pytest.raises(UsageError, match="llama_cpp"):
        serve_command("abacus", "m", {})


@given(
    engine=st.sampled_from(sorted(ENGINES)),
    model=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
    value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
def test_the_shell_reads_back_what_was_meant(engine: str, model: str, value: str) -> None:
    """Blanks, quotes and semicolons in a path or value start no other command."""
    made = serve_command(engine, model, {"dtype": value, "kv_type": value})
    variables = [f"{k}={v}" for k, v in made.environment.items()]
    assert shlex.split(made.shell) == [*variables, *made.words]


def test_a_command_to_copy_names_what_it_cannot_tell() -> None:
    """The engine's own program; a setting without a flag stands behind it; an engine of a person's own keeps his."""
    made = copied_command("llama_cpp", "/m.gguf", {"slots": 2, "context_tokens": 512, "odd": 1})
    assert made.startswith("GOMP_SPINCOUNT=1000 llama-server -m /m.gguf")
    assert "-c 1024" in made
    assert made.endswith("# not told: odd")
    assert copied_command("vllm", "/m", {"slots": 2}).startswith("vllm serve /m")
    assert copied_command("command", "/m.gguf", {}, "my-server --port 8080") == "my-server --port 8080"
    assert copied_command("llama_cpp", "", {}, "as it ran") == "as it ran"
