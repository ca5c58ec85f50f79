"""Command lines of the serve adapters, against the flags that the recorded servers say they take."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from assay.adapters.serve import command as command_kind
from assay.adapters.serve import llama_cpp, openai, sglang, transformers, vllm
from assay.core.errors import ComponentFailed, ComponentMissing, UsageError
from assay.core.ports import Target
from assay.core.vocabulary import FailureClass
from assay.runtime import llama_launcher
from assay.runtime.serving import ServerOptions, model_id
from assay.testing.session import make_session

RECORDED = Path(__file__).parents[3] / "recorded" / "serve"

VLLM_ALL = vllm.Options(
    quantization="awq",
    kv_dtype="fp8",
    context_tokens=1024,
    slots=4,
    batch_tokens=512,
    gpu_memory_frac=0.8,
    kv_cache_bytes=1 << 30,
    cpu_kv_cache_gib=1,
    tensor_parallel=2,
    eager=True,
    prefix_caching=False,
    threads=2,
)


def flags_of(line: tuple[str, ...]) -> set[str]:
    """The flags of a command line."""
    return {word for word in line if re.fullmatch(r"--?[a-z][a-z-]*", word)} - {"-m"}


def test_every_vllm_flag_is_one_that_vllm_takes() -> None:
    """Our flags stand in the usage text that vLLM printed when it was given a wrong one."""
    usage = (RECORDED / "vllm" / "unknown-flag.log").read_text("utf-8", "replace")
    line = vllm.Adapter(VLLM_ALL).command(Path("/m"), "name", 8000, 7)
    known = set(re.findall(r"--[a-z][a-z-]+", usage))
    assert flags_of(line) <= known
    assert {"--max-num-batched-tokens", "--enforce-eager", "--no-enable-prefix-caching"} <= flags_of(line)
    assert line[1:3] == ("-m", "vllm.entrypoints.openai.api_server")


def test_every_transformers_flag_is_one_that_it_takes() -> None:
    """The same for `transformers serve`."""
    usage = (RECORDED / "transformers" / "unknown-flag.log").read_text("utf-8", "replace")
    line = transformers.Adapter(transformers.Options(attention="sdpa")).command(Path("/m"), 8000, 7)
    assert flags_of(line) <= set(re.findall(r"--[a-z][a-z-]+", usage))
    assert "--continuous-batching" in line
    serial = transformers.Adapter(transformers.Options(continuous_batching=False))
    assert not any(word.startswith("--cb-") for word in serial.command(Path("/m"), 8000, 7))


def test_the_launcher_takes_what_the_adapter_gives() -> None:
    """The context is the total over the slots, and one value of the KV type goes to K and V."""
    chosen = llama_cpp.Options(context_tokens=512, slots=4, threads=2, kv_type="q8_0", flash_attention="on")
    line = llama_cpp.Adapter(chosen).command(Path("/m.gguf"), "name", 8000, 7)
    parsed = llama_launcher.parser().parse_args(line[2:])
    assert (parsed.ctx_size, parsed.parallel, parsed.threads) == (2048, 4, 2)
    assert (parsed.cache_type_k, parsed.cache_type_v, parsed.flash_attn) == ("q8_0", "q8_0", "on")
    assert (parsed.model, parsed.alias, parsed.port, parsed.seed) == ("/m.gguf", "name", 8000, 7)
    shared = llama_cpp.Adapter(llama_cpp.Options(context_tokens=512, slots=4, kv_unified=True))
    assert llama_launcher.parser().parse_args(shared.command(Path("/m"), "n", 1, 0)[2:]).ctx_size == 512


def test_a_llama_server_binary_gets_the_same_flags(tmp_path: Path) -> None:
    """A newer build is also told not to shrink the context; an older one does not know that flag."""
    for usage, extra in (("-fit,  --fit [on|off]  fit", ("-fit", "off")), ("nothing", ())):
        binary = tmp_path / f"server{len(extra)}"
        binary.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "version: 9 (abc)"\necho "{usage}"\n')
        binary.chmod(0o755)
        adapter = llama_cpp.Adapter(llama_cpp.Options(binary=str(binary)))
        line = adapter.command(Path("/m.gguf"), "name", 8000, 0)
        assert line[: 2 + len(extra)] == (str(binary), "--jinja", *extra)
        assert adapter.protocol()["engine_version"] == "9 (abc)"
        assert adapter.check().state == "ready"


def test_a_binary_that_is_not_there_is_missing() -> None:
    """Doctor says so without failing."""
    adapter = llama_cpp.Adapter(llama_cpp.Options(binary="no-such-llama-server"))
    assert adapter.check().state == "missing"
    with pytest.raises(ComponentMissing, match="no such program"):
        adapter.protocol()


def test_sglang_leaves_to_the_engine_what_is_not_asked() -> None:
    """Null options give no flags, switched options the flag alone."""
    bare = sglang.Adapter(sglang.Options()).command(Path("/m"), "n", 1, 0)
    assert "--context-length" not in bare
    assert "--disable-radix-cache" not in bare
    full = sglang.Adapter(sglang.Options(context_tokens=1024, prefix_caching=False, memory_frac=0.8))
    line = full.command(Path("/m"), "n", 1, 0)
    assert line[line.index("--context-length") + 1] == "1024"
    assert line[line.index("--mem-fraction-static") + 1] == "0.8"
    assert "--disable-radix-cache" in line


def test_extra_arguments_come_last_and_count_as_protocol() -> None:
    """They may change what is measured, so both sides must have them."""
    for kind in (transformers, llama_cpp, vllm, sglang):
        adapter = kind.Adapter(kind.Options(extra_args=("--x", "1")))
        assert adapter.protocol()["extra_args"] == ["--x", "1"]
    assert vllm.Adapter(vllm.Options(extra_args=("--x",))).command(Path("/m"), "n", 1, 0)[-1] == "--x"


def test_placeholders_are_filled_and_other_braces_stay(tmp_path: Path) -> None:
    """Flags may hold JSON."""
    chosen = command_kind.Options(
        command=("srv", "{model}", "--p={port}", '{"a": {"b": 1}}', "{name}", "{host}:{seed}")
    )
    line = command_kind.Adapter(chosen).command(Target(name="a b", path=str(tmp_path)), 81, 5)
    assert line == ("srv", str(tmp_path), "--p=81", '{"a": {"b": 1}}', "a-b", "127.0.0.1:5")


def test_a_command_must_learn_its_port() -> None:
    """Without {port} and without a fixed port nobody knows where it listens."""
    with pytest.raises(ValidationError, match=r"must hold \{port\}"):
        command_kind.Options(command=("srv",))
    command_kind.Options(command=("srv",), port=8000)


@pytest.mark.parametrize("kind", ["transformers", "vllm", "sglang", "llama_cpp"])
def test_what_is_no_checkpoint_is_refused_before_anything_starts(kind: str, tmp_path: Path) -> None:
    """An empty folder is the user's mistake, not the server's."""
    module: Any = importlib.import_module(f"assay.adapters.serve.{kind}")
    adapter = module.Adapter(module.Options())
    with (
        pytest.raises(UsageError),
        adapter.serve(Target(name="m", path=str(tmp_path)), make_session(tmp_path / "s")),
    ):
        raise AssertionError
    assert not list((tmp_path / "s" / "work").iterdir())


def test_a_foreign_interpreter_that_is_not_there_is_missing() -> None:
    """`python:` names another environment; doctor says that it does not exist."""
    for kind in (transformers, vllm, sglang, llama_cpp):
        found = kind.Adapter(kind.Options(python="/no/such/python")).check()
        assert found.state == "missing"
        assert "/no/such/python" in found.detail


@pytest.mark.parametrize(
    "url",
    ["localhost:8000/v1", "http://localhost:8000", "ftp://h/v1", "http://u:p@h/v1", "http://h/v1?key=1"],
)
def test_addresses_that_cannot_be_or_hold_secrets_are_refused(url: str) -> None:
    """The address is stored with the study."""
    with pytest.raises(ValidationError):
        openai.Options(base_url=url, model="m")


def test_a_key_in_place_of_its_variable_is_refused() -> None:
    """Secrets are given by the name of an environment variable."""
    with pytest.raises(ValidationError, match="name of an environment variable"):
        openai.Options(base_url="http://h/v1", model="m", api_key_env="sk-1234-abcd")


def test_a_key_that_is_not_set_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doctor and the run both name the variable."""
    monkeypatch.delenv("MY_KEY", raising=False)
    adapter = openai.Adapter(
        openai.Options(base_url="http://127.0.0.1:9/v1", model="m", api_key_env="MY_KEY")
    )
    assert "MY_KEY" in adapter.check().detail
    with (
        pytest.raises(ComponentMissing, match="MY_KEY is not set"),
        adapter.serve(Target(name="m", path="m"), make_session(tmp_path)),
    ):
        raise AssertionError


def test_an_endpoint_that_cannot_be_reached_is_transient(tmp_path: Path) -> None:
    """Nobody listens on the discard port."""
    adapter = openai.Adapter(openai.Options(base_url="http://127.0.0.1:9/v1", model="m"))
    with (
        pytest.raises(ComponentFailed, match="answered nothing") as caught,
        adapter.serve(Target(name="m", path="m"), make_session(tmp_path)),
    ):
        raise AssertionError
    assert caught.value.failure_class is FailureClass.INFRA_TRANSIENT


def test_a_checkpoint_is_written_as_gguf_once_for_all_launches(tmp_path: Path) -> None:
    """The shared file is found again by what it was made of, and another checkpoint or type has another one."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    adapter = llama_cpp.Adapter(llama_cpp.Options(gguf_folder=str(tmp_path / "shared")))
    target = Target(name="m", path=str(folder), digest="sha256:" + "ab" * 32)
    places = {
        adapter._written(target, make_session(tmp_path / "one")),
        adapter._written(target, make_session(tmp_path / "two")),
    }
    (place,) = places
    place.mkdir(parents=True)
    (place / llama_cpp.GGUF_NAME).write_bytes(b"GGUF")
    assert adapter._gguf(target, make_session(tmp_path / "three")) == place / llama_cpp.GGUF_NAME
    changed = target.model_copy(update={"digest": "sha256:" + "cd" * 32})
    assert adapter._written(changed, make_session(tmp_path / "four")) != place
    finer = llama_cpp.Adapter(llama_cpp.Options(gguf_folder=str(tmp_path / "shared"), gguf_type="F32"))
    assert finer._written(target, make_session(tmp_path / "five")) != place


def test_engines_are_started_offline() -> None:
    """They look for no update, send no figures, and leave no mark of that under the user's home."""
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "DO_NOT_TRACK": "1"}
    found = (
        transformers.Adapter(transformers.Options()).environment(),
        vllm.Adapter(vllm.Options()).environment(),
        sglang.ENVIRONMENT,
    )
    assert all(quiet.items() <= dict(environment).items() for environment in found)


def test_model_ids_are_safe_in_urls_and_file_names() -> None:
    """Harnesses put the id into paths."""
    assert model_id("a b/c") == "a-b-c"
    assert model_id("..") == "model"


def test_options_are_closed_and_frozen() -> None:
    """A typo in a spec is refused, and options never change after they are digested."""
    for kind in (transformers, llama_cpp, vllm, sglang, command_kind):
        assert issubclass(kind.Options, ServerOptions)
        with pytest.raises(ValidationError, match="Extra inputs"):
            kind.Options(command=("x", "{port}"), no_such_option=1)
    with pytest.raises(ValidationError, match="frozen"):
        transformers.Options().port = 1
