"""Coverage: every module of the source is there, in the precision promised, and no other is touched."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from assay.core.checkpoint import Checkpoint, Module, ModuleKind
from assay.core.vocabulary import FailureClass
from assay.gates._checkpoint.findings import Finding, bad, good, some
from assay.gates._checkpoint.intent import FLOATS, QUANTIZABLE, Intent

_BUFFERS = ("inv_freq", "masked_bias", "rope_freqs", "position_ids", "attn.bias")
"""Constants that a loader makes itself: they may come and go."""
_PREFIXES = (
    ("", ""),
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("model.", "model.language_model."),
    ("model.", "language_model.model."),
    ("", "model."),
    ("model.", ""),
)


def align(source: Checkpoint, candidate: Checkpoint) -> dict[str, Module]:
    """The candidate's modules under the source's names: exports add and drop prefixes."""
    names = {m.name for m in source.modules}
    best: dict[str, Module] = {}
    score = -1
    for old, new in _PREFIXES:
        renamed = {_rename(m.name, old, new): m for m in candidate.modules}
        hits = len(names & set(renamed))
        if hits > score and len(renamed) == len(candidate.modules):
            best, score = renamed, hits
    return best or {m.name: m for m in candidate.modules}


def check(intent: Intent, source: Checkpoint, aligned: Mapping[str, Module]) -> list[Finding]:
    """Compare each linear with the promise; name what differs."""
    if intent.from_declaration:
        return _by_declaration(aligned)
    wanted = {m.name: intent.wants(m) for m in source.modules}
    aimed = [n for n, schemes in wanted.items() if schemes]
    findings: list[Finding] = []
    if intent.schemes and not aimed:
        text = f"recipe {intent.recipe} aims at {', '.join(intent.targets)}: the model has no such module"
        return [bad(text, FailureClass.MODEL_UNSUPPORTED, measured=0, limit=1, unit="modules")]
    covered, missed, touched = _sort(wanted, source, aligned)
    if intent.schemes:
        findings.append(_bucket(intent, aimed, covered))
    findings += [_missed(scheme, names, intent) for scheme, names in sorted(missed.items())]
    findings += [_touched(scheme, kind, names) for (scheme, kind), names in sorted(touched.items())]
    return [*findings, *_casts(intent, source, aligned)]


def _sort(
    wanted: Mapping[str, tuple[str, ...] | None], source: Checkpoint, aligned: Mapping[str, Module]
) -> tuple[list[str], dict[str, list[str]], dict[tuple[str, str], list[str]]]:
    covered: list[str] = []
    missed: dict[str, list[str]] = defaultdict(list)
    touched: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module in source.modules:
        found, schemes = aligned.get(module.name), wanted[module.name]
        if found is None or schemes is None:
            continue
        if schemes and found.scheme in schemes:
            covered.append(module.name)
        elif schemes:
            missed[found.scheme].append(module.name)
        elif found.scheme not in FLOATS and found.scheme != module.scheme:
            touched[(found.scheme, found.kind.value)].append(module.name)
    return covered, missed, touched


def _bucket(intent: Intent, aimed: list[str], covered: list[str]) -> Finding:
    aim = "/".join(intent.schemes[:3])
    numbers: dict[str, Any] = {"measured": len(covered), "limit": len(aimed), "unit": "modules"}
    if not covered:
        text = f"recipe {intent.recipe} aims at {aim} and 0 of {len(aimed)} modules are"
        return bad(text, FailureClass.MODEL_UNSUPPORTED, **numbers)
    return good(f"{len(covered)} of {len(aimed)} targeted modules are {aim}", **numbers)


def _missed(scheme: str, names: list[str], intent: Intent) -> Finding:
    what = "left unquantized" if scheme in FLOATS else "in another precision than promised"
    text = f"{len(names)} targeted modules are {scheme}, {what}: {some(names)}"
    return bad(text, where=min(names), measured=scheme, limit="/".join(intent.schemes[:3]))


def _touched(scheme: str, kind: str, names: list[str]) -> Finding:
    if kind == ModuleKind.HEAD.value:
        text = f"the output head {some(names)} is {scheme}: quantized unasked, the recipe leaves it alone"
    else:
        text = f"{len(names)} modules that the recipe leaves alone are {scheme}, quantized unasked: {some(names)}"
    return bad(text, where=min(names), measured=scheme, limit="unquantized")


def _casts(intent: Intent, source: Checkpoint, aligned: Mapping[str, Module]) -> list[Finding]:
    cast: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module in source.modules:
        found = aligned.get(module.name)
        if found is None or {module.scheme, found.scheme} - FLOATS or found.scheme == module.scheme:
            continue
        if found.weight_bits <= module.weight_bits:
            cast[module.scheme, found.scheme].append(module.name)
    texts = [
        (f"{len(names)} unquantized modules were cast from {old} to {new}: {some(names)}", names[0])
        for (old, new), names in sorted(cast.items())
    ]
    say = good if intent.may_cast else bad
    return [say(text, where=where) for text, where in texts]


def _by_declaration(aligned: Mapping[str, Module]) -> list[Finding]:
    claimed = [m for m in aligned.values() if m.declared is not None]
    quantized = [m for m in aligned.values() if m.kind in QUANTIZABLE and m.scheme not in FLOATS]
    if not quantized:
        text = (
            "nothing is quantized, and nothing was promised: name the recipe (`none` for an unquantized one)"
        )
        return [bad(text, FailureClass.MODEL_UNSUPPORTED, measured=0, limit=1, unit="modules")]
    counts = Counter(m.scheme for m in quantized)
    shown = ", ".join(f"{n} {s}" for s, n in sorted(counts.items()))
    return [good(f"judged by its own declaration ({len(claimed)} modules declared): {shown}", measured=shown)]


def declaration(aligned: Mapping[str, Module]) -> list[Finding]:
    """Compare the bytes with what the checkpoint declares about them."""
    wrong: dict[str, list[str]] = defaultdict(list)
    for name, module in sorted(aligned.items()):
        if module.declared is not None and module.declared != module.scheme:
            wrong[f"declared {module.declared}, stored as {module.scheme}"].append(name)
        elif module.ignored and module.scheme not in FLOATS and module.kind in QUANTIZABLE:
            wrong[f"declared as not quantized, stored as {module.scheme}"].append(name)
        elif _undeclared(module, aligned):
            wrong[f"stored as {module.scheme} without being declared"].append(name)
    if not wrong:
        return [good("every module is stored as declared")]
    return [bad(f"{len(n)} modules {what}: {some(n)}", where=n[0]) for what, n in sorted(wrong.items())]


def _undeclared(module: Module, aligned: Mapping[str, Module]) -> bool:
    if module.declared is not None or module.ignored or module.scheme in FLOATS:
        return False
    # A format without declarations per module (GGUF) declares none at all.
    return module.kind in QUANTIZABLE and any(m.declared is not None for m in aligned.values())


def stored(candidate: Checkpoint) -> list[Finding]:
    """What the reader found wrong with container and tensors."""
    findings = [bad(f"checkpoint: {problem}") for problem in candidate.problems]
    by_problem: dict[str, list[str]] = defaultdict(list)
    for module in candidate.modules:
        for problem in module.problems:
            by_problem[problem].append(module.name)
    findings += [bad(f"{some(n)}: {what}", where=min(n)) for what, n in sorted(by_problem.items())]
    return findings


def modules(source: Checkpoint, aligned: Mapping[str, Module], *, tied: bool) -> list[Finding]:
    """Lost, invented and reshaped modules."""
    ours = {m.name: m for m in source.modules}
    lost = [n for n, m in ours.items() if n not in aligned and not _may_go(m, tied=tied)]
    invented = [n for n, m in aligned.items() if n not in ours and not _may_go(m, tied=tied)]
    shapes = [n for n in sorted(set(ours) & set(aligned)) if not _same_shape(ours[n], aligned[n])]
    biases = [n for n in sorted(set(ours) & set(aligned)) if _has_bias(ours[n]) and not _has_bias(aligned[n])]
    findings = []
    if lost:
        text = f"{len(lost)} modules of the source are missing: {some(lost)}"
        findings.append(bad(text, where=min(lost), measured=len(lost), limit=0, unit="modules"))
    if invented:
        text = f"{len(invented)} modules are not in the source: {some(invented)}"
        findings.append(bad(text, where=min(invented), measured=len(invented), limit=0, unit="modules"))
    for name in shapes[:5]:
        text = f"{name} has shape {list(aligned[name].shape)}, the source {list(ours[name].shape)}"
        findings.append(
            bad(text, where=name, measured=str(list(aligned[name].shape)), limit=str(list(ours[name].shape)))
        )
    if biases:
        findings.append(bad(f"{len(biases)} modules lost their bias: {some(biases)}", where=biases[0]))
    return findings or [
        good(f"all {len(ours)} modules of the source are there", measured=len(ours), unit="modules")
    ]


def _may_go(module: Module, *, tied: bool) -> bool:
    return module.name.endswith(_BUFFERS) or (tied and module.kind is ModuleKind.HEAD)


def _same_shape(ours: Module, theirs: Module) -> bool:
    return not ours.shape or not theirs.shape or ours.shape == theirs.shape


def _has_bias(module: Module) -> bool:
    return any(t.endswith(".bias") for t in module.tensors)


def _rename(name: str, old: str, new: str) -> str:
    return new + name[len(old) :] if name.startswith(old) else name
