"""The protocol: job file in, progress lines on stdout, result file out, `out` complete or empty."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay.workers import _job

SCRIPTS = Path(_job.__file__).parent
KINDS = ["compressed_tensors", "gguf", "llmcompressor", "modelopt"]


def nothing(job):
    """The smallest work: one file."""
    (job.staging / "model.safetensors").write_bytes(b"weights")


def worker(run=nothing, **changes):
    """A worker of four options, changed where a test says so."""
    declared = {
        "kind": "fake",
        "packages": ("numpy",),
        "options": (
            _job.Option("bits", "int", 4, "bits per weight", minimum=1),
            _job.Option("mode", "str", "fast", "speed", ("fast", "slow")),
            _job.Option("names", "names", ["a"], "modules"),
            _job.Option("rows", "path", None, "a file"),
        ),
        "run": run,
    }
    return _job.Worker(**{**declared, **changes})


@pytest.fixture
def source(tmp_path):
    """A checkpoint folder with companions."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "dtype": "float32", "vocab_size": 8}')
    (folder / "tokenizer.json").write_bytes(b'{"truncation": null}\r\n')
    (folder / "generation_config.json").write_text('{"eos_token_id": 1}')
    (folder / "model.safetensors").write_bytes(b"source weights")
    (folder / "README.md").write_text("a card about the source")
    return folder


@pytest.fixture
def job_file(tmp_path, source):
    """A function that writes the job file and returns its path."""

    def write(**changes):
        job = {"source": str(source), "out": str(tmp_path / "out"), "result": str(tmp_path / "result.json")}
        path = tmp_path / "job.json"
        path.write_text(json.dumps({**job, **changes}))
        return str(path)

    return write


@pytest.fixture
def result(tmp_path):
    """A function that reads the result file."""
    return lambda: json.loads((tmp_path / "result.json").read_text())


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """A worker sets variables for its own process; a test process must not keep them."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


def make_job(source, out, **options):
    """A validated job whose staging folder exists."""
    job = _job.Job(source, out, options, 0, 1, lambda *_: None)
    job.staging.mkdir(parents=True)
    return job


class TestProbe:
    @pytest.mark.parametrize("kind", KINDS)
    def test_versions_without_importing(self, kind):
        """--probe names versions, missing packages and Python, and imports neither torch nor the vendor."""
        script = str(SCRIPTS / f"quantize_{kind}.py")
        code = (
            f"import runpy, sys; sys.argv = ['x', '--probe']; sys.path.insert(0, {str(SCRIPTS)!r})\n"
            f"try:\n runpy.run_path({script!r}, run_name='__main__')\n"
            "except SystemExit as exc:\n"
            " heavy = {'torch', 'transformers', 'gguf', 'modelopt', 'llmcompressor'} & set(sys.modules)\n"
            " assert not exc.code and not heavy, heavy\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        probe = json.loads(done.stdout)
        assert probe["kind"] == kind
        assert set(probe) == {"kind", "vendor", "missing", "python"}
        assert not set(probe["vendor"]) & set(probe["missing"])

    def test_missing_package_is_listed(self):
        """A package that is not there stands under "missing", not under "vendor"."""
        probe = _job.probe(worker(packages=("numpy", "no-such-toolkit")))
        assert probe["missing"] == ["no-such-toolkit"]
        assert list(probe["vendor"]) == ["numpy"]


class TestEndings:
    def test_success(self, job_file, result, tmp_path, capfd):
        """A finished job leaves readable files, a result with versions and sizes, and exit 0."""
        assert _job.main(worker(), [job_file()]) == 0
        done = result()
        assert done["ok"] is True
        assert done["files"] == {"model.safetensors": 7}
        assert "numpy" in done["vendor"]
        assert done["options"] == {"bits": 4, "mode": "fast", "names": ["a"], "rows": None}
        assert (tmp_path / "out" / "model.safetensors").stat().st_mode & 0o777 == 0o644
        assert not (tmp_path / "out" / _job.STAGING_NAME).exists()
        assert json.loads(capfd.readouterr().out) == {"progress": 1.0, "message": "done"}

    def test_stdout_is_progress_only(self, job_file, capfd):
        """What the vendor prints, even past Python, goes to stderr; stdout holds JSON lines alone."""

        def noisy(job):
            print("from python")
            os.write(1, b"from native code\n")
            job.emit(0.5, "half")
            nothing(job)

        assert _job.main(worker(noisy), [job_file()]) == 0
        out, err = capfd.readouterr()
        assert [json.loads(line)["progress"] for line in out.splitlines()] == [0.5, 1.0]
        assert "from python" in err
        assert "from native code" in err

    def test_failure_leaves_nothing(self, job_file, result, tmp_path):
        """An exception ends in exit 1, a result with class and traceback, and an empty `out`."""

        def fails(job):
            nothing(job)
            raise RuntimeError("first line\nsecond line")

        assert _job.main(worker(fails), [job_file()]) == 1
        done = result()
        assert done["ok"] is False
        assert done["error"] == "RuntimeError: first line second line"
        assert done["error_type"] == "RuntimeError"
        assert done["failure_class"] == "UNKNOWN"
        assert "in fails" in done["traceback"]
        assert not any((tmp_path / "out").iterdir())

    def test_missing_vendor(self, job_file, result):
        """Without the toolkit the user is told which package to install, for which interpreter."""
        assert _job.main(worker(packages=("no-such-toolkit",)), [job_file()]) == 1
        assert result()["failure_class"] == "USER_CONFIG_ERROR"
        assert "pip install no-such-toolkit" in result()["error"]
        assert sys.executable in result()["error"]

    def test_killed_attempt_is_cleared(self, job_file, result, tmp_path):
        """Leftovers of a killed attempt are known by the staging folder, and the job runs again."""
        (tmp_path / "out" / _job.STAGING_NAME).mkdir(parents=True)
        (tmp_path / "out" / "tokenizer.json").write_text("half published")
        assert _job.main(worker(), [job_file()]) == 0
        assert list(result()["files"]) == ["model.safetensors"]

    def test_foreign_out_is_kept(self, job_file, result, tmp_path):
        """A folder with somebody else's files is refused and left as it is."""
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("mine")
        assert _job.main(worker(), [job_file()]) == 1
        assert result()["failure_class"] == "USER_CONFIG_ERROR"
        assert (tmp_path / "out" / "mine.txt").read_text() == "mine"

    def test_out_inside_source_is_refused(self, job_file, result, source):
        """The source is never written into."""
        assert _job.main(worker(), [job_file(out=str(source / "out"))]) == 1
        assert "outside source" in result()["error"]

    def test_unreadable_job_file(self, tmp_path, capfd):
        """Without a readable job there is no result path: the reason is on stderr and the exit is 1."""
        assert _job.main(worker(), [str(tmp_path / "none.json")]) == 1
        assert "cannot read the job file" in capfd.readouterr().err

    def test_usage(self, capfd):
        """Anything but one job file or --probe is a usage error."""
        assert _job.main(worker(), []) == 2
        assert "usage" in capfd.readouterr().err

    def test_stray_files_stay_in_staging(self, job_file, result):
        """A vendor that writes into the working directory writes into `out`."""

        def drops(job):
            nothing(job)
            Path("stray.log").write_text("log")

        before = Path.cwd()
        assert _job.main(worker(drops), [job_file()]) == 0
        assert Path.cwd() == before
        assert set(result()["files"]) == {"model.safetensors", "stray.log"}


class TestOptions:
    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({"bit": 4}, "unknown options ['bit']"),
            ({"bits": "4"}, "must be int"),
            ({"bits": True}, "must be int"),
            ({"bits": 0}, ">= 1"),
            ({"mode": "medium"}, "one of fast, slow"),
            ({"names": "lm_head"}, "must be names"),
            ([], "must be an object"),
        ],
    )
    def test_wrong(self, given, says):
        """A wrong option names itself and what is allowed."""
        with pytest.raises(_job.JobError, match=says.replace("[", r"\[").replace("]", r"\]")) as caught:
            _job.validate_options(worker(), given)
        assert caught.value.failure_class == "USER_CONFIG_ERROR"

    def test_defaults_and_paths(self):
        """A missing or null option takes its default; a path becomes absolute before the folder changes."""
        options = _job.validate_options(worker(), {"bits": None, "rows": "rows.jsonl"})
        assert options["bits"] == 4
        assert options["rows"] == Path.cwd() / "rows.jsonl"

    @pytest.mark.parametrize("changes", [{"seed": -1}, {"threads": 0}, {"seed": 1.5}, {"extra": 1}])
    def test_wrong_job_keys(self, job_file, result, changes):
        """A job with a wrong seed, thread count or an unknown key is refused."""
        assert _job.main(worker(), [job_file(**changes)]) == 1
        assert result()["failure_class"] == "USER_CONFIG_ERROR"


class TestClassify:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (OSError(errno.ENOSPC, "No space left on device"), "INFRA_TRANSIENT"),
            (
                RuntimeError("Error while serializing: No space left on device (os error 28)"),
                "INFRA_TRANSIENT",
            ),
            (OSError("32768 requested and 17216 written"), "INFRA_TRANSIENT"),
            (MemoryError(), "INFRA_TRANSIENT"),
            (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "INFRA_TRANSIENT"),
            (ModuleNotFoundError("No module named 'requests'", name="requests"), "USER_CONFIG_ERROR"),
            (ValueError("columns 96 not divisible"), "QUANT_COVERAGE_FAILURE"),
            (_job.JobError("no", "MODEL_UNSUPPORTED"), "MODEL_UNSUPPORTED"),
            (KeyError("x"), "UNKNOWN"),
        ],
    )
    def test_class(self, error, expected):
        """Each kind of failure has its class, and the vendor's own words stay in the message."""
        table = ((r"ValueError: .*not divisible", "QUANT_COVERAGE_FAILURE"),)
        assert _job.classify(worker(failures=table), error)[0] == expected

    def test_disk_full_inside_another_error(self):
        """A full disk is found behind the exception that a vendor wrapped around it."""
        wrapped = ValueError("could not save")
        wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
        failure_class, message = _job.classify(worker(), wrapped)
        assert failure_class == "INFRA_TRANSIENT"
        assert message.startswith("No space left on device")

    def test_import_error_names_the_package(self):
        """A package that is missing deep inside the vendor is named with the command that adds it."""
        error = ModuleNotFoundError("No module named 'requests'", name="requests.adapters")
        assert "pip install requests" in _job.classify(worker(), error)[1]

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
    def test_full_device(self, job_file, result):
        """A real write to a full device ends as a transient fault of the machine."""

        def fills(_job):
            with Path("/dev/full").open("wb", buffering=0) as handle:
                handle.write(b"x")

        assert _job.main(worker(fills), [job_file()]) == 1
        assert result()["failure_class"] == "INFRA_TRANSIENT"
        assert "No space left" in result()["error"]


class TestFiles:
    def test_companions_are_the_sources_own(self, source, tmp_path):
        """Tokenizer and generation settings come byte for byte; what only the toolkit wrote goes."""
        job = make_job(source, tmp_path / "out")
        (job.staging / "tokenizer.json").write_text('{"truncation": {"max_length": 64}}')
        (job.staging / "special_tokens_map.json").write_text("{}")
        (job.staging / "model.safetensors").write_bytes(b"new")
        _job.copy_companions(job)
        names = {path.name for path in job.staging.iterdir()}
        assert names == {"tokenizer.json", "generation_config.json", "model.safetensors"}
        assert (job.staging / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
        assert (job.staging / "model.safetensors").read_bytes() == b"new"
        assert any("special_tokens_map.json" in note for note in job.notes)

    def test_config_keeps_the_source(self, source, tmp_path):
        """Only the quantization and the dtype are the vendor's; any other change is put back and noted."""
        job = make_job(source, tmp_path / "out")
        vendor = {
            "model_type": "llama",
            "dtype": "bfloat16",
            "vocab_size": 9,
            "quantization_config": {"x": 1},
        }
        (job.staging / "config.json").write_text(json.dumps(vendor))
        _job.merge_config(job)
        merged = json.loads((job.staging / "config.json").read_text())
        assert merged == {**vendor, "vocab_size": 8}
        assert "vocab_size" in job.notes[0]

    def test_quantized_source_is_refused(self, source, tmp_path):
        """A second quantization would be judged as the first."""
        (source / "config.json").write_text('{"quantization_config": {"quant_method": "modelopt"}}')
        with pytest.raises(_job.JobError, match=r"quantized already .modelopt."):
            _job.require_unquantized(make_job(source, tmp_path / "out"))

    @pytest.mark.parametrize("line", ["not json", "[]", '{"prompt": "x"}', '{"messages": "x"}'])
    def test_wrong_calibration_row(self, tmp_path, line):
        """A row that is neither chat nor text is named by file and line."""
        path = tmp_path / "rows.jsonl"
        path.write_text('{"text": "good"}\n\n' + line + "\n")
        with pytest.raises(_job.JobError, match=r"rows.jsonl:3"):
            _job.read_rows(path, 10)

    def test_calibration_rows_stop_at_the_limit(self, tmp_path):
        """Only as many rows as asked for are read, from the first on."""
        path = tmp_path / "rows.jsonl"
        path.write_text('{"text": "a"}\n{"messages": []}\nnot json\n')
        assert _job.read_rows(path, 2) == [{"text": "a"}, {"messages": []}]
