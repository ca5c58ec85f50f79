"""Coverage: every module of the source is there, in the precision promised, and no other is touched."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from assay.core.checkpoint import Checkpoint, Module, ModuleKind
from assay.core.vocabulary import FailureClass
from assay.gates._checkpoint.findings import Finding, bad, good, some, visible
from assay.gates._checkpoint.intent import FLOATS, QUANTIZABLE, Intent, matches

_BUFFERS = ("inv_freq", "masked_bias", "rope_freqs", "position_ids", "attn.bias")
"""Constants that a loader makes itself: they may come and go."""
_TOWER = r"(^|\.)(visual|vision_\w+|audio_\w+|embed_vision|mm_projector|multi_modal_projector)\b"
_MTP = r"(^|\.)mtp\b|(^|\.)(eh_proj|enorm|hnorm|shared_head)\b|\.nextn\."
_LABELS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("the vision or audio tower", re.compile(_TOWER)),
    ("multi-token prediction (MTP), which speculative decoding needs", re.compile(_MTP)),
    ("experts", re.compile(r"\.experts\b")),
    ("the output head", re.compile(r"(^|\.)lm_head$")),
)
"""What a missing module belongs to, by its name."""
SILENT = frozenset({None, "gguf"})
"""quant_methods that declare nothing about single modules."""
TOWER, ROUTER = "tower", "router"
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def check(
    intent: Intent, source: Checkpoint, aligned: Mapping[str, Module], method: str | None = None
) -> list[Finding]:
    """Compare each linear with the promise; name what differs.

    Args:
        intent: the promise.
        source: what the modules were.
        aligned: the candidate's modules, under the source's names.
        method: the candidate's quant_method.
    """
    if intent.from_declaration:
        return [*_by_declaration(aligned), *_unasked(intent, source, aligned, method)]
    wanted = {m.name: intent.wants(m) for m in source.modules}
    aimed = [n for n, schemes in wanted.items() if schemes]
    findings: list[Finding] = []
    if intent.schemes and not aimed:
        text = f"recipe {intent.recipe} aims at {', '.join(intent.targets)}: the model has no such module"
        return [bad(text, FailureClass.MODEL_UNSUPPORTED, measured=0, limit=1, unit="modules")]
    covered, missed, touched = _sort(wanted, source, aligned, intent.free_kinds)
    if intent.schemes:
        findings.append(_bucket(intent, aimed, covered))
    findings += [_missed(scheme, names, intent) for scheme, names in sorted(missed.items())]
    findings += [_touched(scheme, kind, names) for (scheme, kind), names in sorted(touched.items())]
    return [*findings, *_casts(intent, source, aligned)]


def _unasked(
    intent: Intent, source: Checkpoint, aligned: Mapping[str, Module], method: str | None
) -> list[Finding]:
    """No declaration makes it right to quantize a tower or a router. MLX gives routers eight bits by design."""
    touched: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module in source.modules:
        found = aligned.get(module.name)
        if found is None or found.scheme in FLOATS or module.scheme not in FLOATS:
            continue
        what = _what(found, module.name)
        if matches(intent.protect, module) and not (what == ROUTER and method == "mlx"):
            touched[found.scheme, what].append(module.name)
    return [_touched(scheme, what, names) for (scheme, what), names in sorted(touched.items())]


def _sort(
    wanted: Mapping[str, tuple[str, ...] | None],
    source: Checkpoint,
    aligned: Mapping[str, Module],
    free: tuple[ModuleKind, ...],
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
            touched[(found.scheme, _what(found, module.name))].append(module.name)
    known = {m.name for m in source.modules}
    for name, found in aligned.items():
        added = name not in known and found.kind is ModuleKind.HEAD and ModuleKind.HEAD not in free
        if added and found.scheme not in FLOATS:
            touched[(found.scheme, found.kind.value)].append(name)
    return covered, missed, touched


def _what(found: Module, name: str) -> str:
    """Its kind, or a more telling word."""
    if _LABELS[0][1].search(name):
        return TOWER
    last = name.rpartition(".")[2]
    return (
        ROUTER
        if last == "router" or name.endswith(("mlp.gate", "block_sparse_moe.gate"))
        else found.kind.value
    )


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
    elif kind == TOWER:
        text = f"{len(names)} modules of the vision or audio tower are {scheme}, quantized unasked: {some(names)}"
    elif kind == ROUTER:
        text = f"{len(names)} routers are {scheme}, quantized unasked: {some(names)}"
    else:
        text = f"{len(names)} modules that the recipe leaves alone are {scheme}, quantized unasked: {some(names)}"
    return bad(text, where=min(names), measured=scheme, limit="unquantized")


def _casts(intent: Intent, source: Checkpoint, aligned: Mapping[str, Module]) -> list[Finding]:
    cast: dict[tuple[str, str], list[str]] = defaultdict(list)
    restored: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module in source.modules:
        found = aligned.get(module.name)
        if found is not None and found.scheme in FLOATS and module.scheme not in FLOATS:
            restored[module.scheme, found.scheme].append(module.name)
        if found is None or {module.scheme, found.scheme} - FLOATS or found.scheme == module.scheme:
            continue
        if found.weight_bits <= module.weight_bits:
            cast[module.scheme, found.scheme].append(module.name)
    texts = [
        (f"{len(names)} unquantized modules were cast from {old} to {new}: {some(names)}", names[0])
        for (old, new), names in sorted(cast.items())
    ]
    texts += [
        (f"{len(names)} modules went from {old} to {new}, quantized in the source: {some(names)}", names[0])
        for (old, new), names in sorted(restored.items())
        if len(aligned[names[0]].shape) >= 2
    ]
    say = good if intent.may_cast else bad
    partial = _partial(cast, source, aligned)
    return [*partial, *[say(text, where=where) for text, where in texts]]


def _partial(
    cast: Mapping[tuple[str, str], list[str]], source: Checkpoint, aligned: Mapping[str, Module]
) -> list[Finding]:
    """Toolkits cast between the two 16-bit types everywhere or nowhere: some is a dtype that the bytes do not have."""
    findings = []
    for (old, new), names in sorted(cast.items()):
        kept = [m.name for m in source.modules if m.scheme == old and aligned.get(m.name, m).scheme == old]
        if {old, new} == {"BF16", "F16"} and kept:
            text = f"{len(names)} modules are {new} while {len(kept)} others stayed {old}: {some(names)}"
            findings.append(bad(text, where=names[0], measured=new, limit=old))
    return findings


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


def declaration(aligned: Mapping[str, Module], method: str | None = None) -> list[Finding]:
    """Compare the bytes with what the checkpoint declares about them.

    Args:
        aligned: the candidate's modules.
        method: its quant_method; one that declares modules must name each that is quantized.
    """
    declares = any(m.declared is not None for m in aligned.values()) or method not in SILENT
    wrong: dict[str, list[str]] = defaultdict(list)
    for name, module in sorted(aligned.items()):
        if module.declared is not None and module.declared != module.scheme:
            wrong[f"declared {module.declared}, stored as {module.scheme}"].append(name)
        elif module.ignored and module.scheme not in FLOATS and module.kind in QUANTIZABLE:
            wrong[f"declared as not quantized, stored as {module.scheme}"].append(name)
        elif declares and _undeclared(module):
            wrong[f"stored as {module.scheme} without being declared"].append(name)
    if not wrong:
        return [good("every module is stored as declared")]
    return [bad(f"{len(n)} modules {what}: {some(n)}", where=n[0]) for what, n in sorted(wrong.items())]


def _undeclared(module: Module) -> bool:
    if module.declared is not None or module.ignored or module.scheme in FLOATS:
        return False
    return module.kind in QUANTIZABLE


def stored(candidate: Checkpoint) -> list[Finding]:
    """What the reader found wrong with container and tensors."""
    findings = [bad(f"checkpoint: {problem}") for problem in candidate.problems]
    by_problem: dict[str, list[str]] = defaultdict(list)
    for module in candidate.modules:
        for problem in module.problems:
            by_problem[problem].append(module.name)
    findings += [bad(f"{some(n)}: {what}", where=min(n)) for what, n in sorted(by_problem.items())]
    return findings


def modules(
    source: Checkpoint, aligned: Mapping[str, Module], *, tied: bool, may_lose: tuple[str, ...] = ()
) -> list[Finding]:
    """Lost, invented and reshaped modules.

    Args:
        source: its modules must be there.
        aligned: the candidate's, under the source's names.
        tied: the head may be stored once, with the embedding.
        may_lose: patterns of modules that the release leaves out on purpose.
    """
    ours = {m.name: m for m in source.modules}
    gone = [n for n, m in ours.items() if n not in aligned and not _may_go(m, tied=tied)]
    lost = [n for n in gone if not matches(may_lose, ours[n])]
    invented = [n for n, m in aligned.items() if n not in ours and not _may_go(m, tied=tied)]
    both = sorted(set(ours) & set(aligned))
    shapes = [n for n in both if not _same_shape(ours[n], aligned[n])]
    biases = [n for n in both if _has_bias(ours[n]) and not _has_bias(aligned[n])]
    findings = _lost(lost, source)
    if len(lost) < len(gone):
        left = [n for n in gone if n not in set(lost)]
        findings.append(good(f"note: {len(left)} modules are left out, as the policy allows: {some(left)}"))
    if invented:
        text = f"{len(invented)} modules are not in the source: {some(invented)}"
        findings.append(bad(text, where=min(invented), measured=len(invented), limit=0, unit="modules"))
    for name in shapes[:5]:
        text = f"{visible(name)} has shape {list(aligned[name].shape)}, the source {list(ours[name].shape)}"
        findings.append(
            bad(text, where=name, measured=str(list(aligned[name].shape)), limit=str(list(ours[name].shape)))
        )
    if biases:
        findings.append(bad(f"{len(biases)} modules lost their bias: {some(biases)}", where=biases[0]))
    return findings or [
        good(f"all {len(ours)} modules of the source are there", measured=len(ours), unit="modules")
    ]


def _lost(names: list[str], source: Checkpoint) -> list[Finding]:
    """Lost modules by what they belong to: a lost tower and a lost layer are different mistakes."""
    config = source.metadata.get("config")
    depth = config.get("num_hidden_layers") if isinstance(config, Mapping) else None
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        layer = _LAYER.search(name)
        beyond = layer is not None and isinstance(depth, int) and int(layer[1]) >= depth > 0
        label = next((text for text, pattern in _LABELS if pattern.search(name)), "")
        groups[_LABELS[1][0] if beyond else label].append(name)
    return [
        bad(
            f"{len(found)} modules of the source are missing{f' ({label})' if label else ''}: {some(found)}",
            where=min(found),
            measured=len(found),
            limit=0,
            unit="modules",
        )
        for label, found in sorted(groups.items())
    ]


def fused_groups(aligned: Mapping[str, Module], *, strict: bool) -> list[Finding]:
    """Projections that engines compute as one, and the experts of a layer, must share a precision.

    Args:
        aligned: the candidate's modules.
        strict: the engine that will load them is known to fuse them.
    """
    groups: dict[str, set[str]] = defaultdict(set)
    for name, module in aligned.items():
        if module.kind is ModuleKind.LINEAR:
            key = _group_of(name)
            if key:
                groups[key].add(module.scheme)
    mixed = {name: schemes for name, schemes in groups.items() if len(schemes) > 1}
    if not mixed:
        return []
    first = min(mixed)
    text = (
        f"{len(mixed)} fused groups mix precisions: {some(list(mixed))} ({', '.join(sorted(mixed[first]))}); "
        "vLLM and SGLang load q/k/v, gate/up and the experts of a layer as one"
    )
    return (
        [bad(text, FailureClass.MODEL_UNSUPPORTED, where=first)]
        if strict
        else [good(f"note: {text}", where=first)]
    )


def fused_scales(candidate: Checkpoint, *, strict: bool) -> list[Finding]:
    """Fused projections must share their second-level scale, or all but one of them are computed with a wrong one.

    Args:
        candidate: its reader compared them.
        strict: the engine that will load them is known to fuse them.
    """
    found = candidate.facts.get("unequal_scales")
    names = [str(n) for n in found] if isinstance(found, list | tuple) else []
    if not names:
        return []
    text = (
        f"{len(names)} fused groups have different second-level scales: {some(names)}; vLLM and SGLang use the "
        "first for all of a group"
    )
    if strict:
        return [bad(text, where=min(names), measured=len(names), limit=0, unit="groups")]
    return [good(f"note: {text}", where=min(names))]


def _group_of(name: str) -> str | None:
    head, _, last = name.rpartition(".")
    if ".experts." in name:
        return name[: name.index(".experts.")] + ".experts"
    if last in {"q_proj", "k_proj", "v_proj"}:
        return f"{head}.qkv"
    return f"{head}.gate_up" if last in {"gate_proj", "up_proj"} else None


def _may_go(module: Module, *, tied: bool) -> bool:
    return module.name.endswith(_BUFFERS) or (tied and module.kind is ModuleKind.HEAD)


def _same_shape(ours: Module, theirs: Module) -> bool:
    if not ours.shape or not theirs.shape or ours.shape == theirs.shape:
        return True
    if (
        len(ours.shape) == len(theirs.shape) == 3
    ):  # experts are stored [E, in, out] by some, [E, out, in] by others
        return theirs.shape == (ours.shape[0], ours.shape[2], ours.shape[1])
    # quanto flattens weights to [groups, group] and stores their shape nowhere.
    grouped = theirs.group_size is not None and theirs.shape[-1] == theirs.group_size
    return grouped and math.prod(ours.shape) == math.prod(theirs.shape)


def _has_bias(module: Module) -> bool:
    return any(t.endswith("bias") for t in module.tensors)
