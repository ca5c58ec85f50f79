"""The four parts of an estimate, each with a sound lower bound, an estimate and an upper end, in bytes."""

from __future__ import annotations

from fractions import Fraction

from assay.core.fit import Keeps, LayerGroup, MemoryPart, ModelShape, Part, Serving, WeightBytes
from assay.gates._fit.engines import ELEMENT_BYTES, Engine

_PAD = 256
"""llama.cpp rounds the context of a slot up to this."""
_CHECKPOINTS, _CHECKPOINT_TOKENS = 32, 8192
"""llama.cpp keeps at most so many copies of a slot's windows and states, one each so many tokens of a prompt."""
_SCAN = Fraction(13, 2)
"""transformers without its kernels scans a state-space layer in so many arrays of tokens x state (one model)."""


def rounded(count: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-count // step) * step


def weights(shape: ModelShape, serving: Serving, found: WeightBytes) -> MemoryPart:
    """The model's own tensors as this engine holds them."""
    if shape.format == "gguf":
        return _gguf_weights(serving, found)
    if found.quantized:
        return MemoryPart(
            name=Part.WEIGHTS,
            lower=found.needed,
            estimate=found.total,
            upper=found.total * 9 // 2,
            detail="as stored; an engine without a kernel for the format expands it",
        )
    wanted = "float16" if serving.engine == "llama_cpp" else "bfloat16"
    dtype = (serving.dtype if serving.dtype != "auto" else shape.dtype or wanted).lower()
    if serving.engine == "llama_cpp":
        width = ELEMENT_BYTES.get(serving.dtype.lower(), Fraction(2))
        total = int((found.elements - found.vectors) * width) + 4 * found.vectors
        detail = f"written as GGUF {serving.dtype if serving.dtype != 'auto' else 'F16'}, vectors F32"
    else:
        total = int(found.elements * ELEMENT_BYTES.get(dtype, Fraction(2)))
        detail = f"{found.elements:,} elements as {dtype}"
    # By itself an engine may load F32 as 16 bits: the bound may not rely on the config's word.
    free = serving.dtype == "auto" and serving.engine != "llama_cpp"
    least = min(total, 2 * found.elements) if free else total
    lower = least * found.needed // found.total if found.total else 0
    estimate = upper = total
    joined = _experts(shape, total) if serving.engine == "transformers" else 0
    if joined:
        estimate, upper = total + joined, total + 2 * joined
        detail += f", {joined:,} bytes of experts joined beside the mapped file"
    return MemoryPart(name=Part.WEIGHTS, lower=lower, estimate=estimate, upper=upper, detail=detail)


def converted(shape: ModelShape, serving: Serving, found: list[MemoryPart]) -> list[MemoryPart]:
    """Of transformers: until all weights are converted the mapped file lies beside them; only then a cache grows.

    The peak is the larger of the two, so that what the file exceeds cache and activations by is added to the weights.
    """
    stored = shape.weights
    wanted = serving.dtype if serving.dtype != "auto" else shape.dtype
    width = ELEMENT_BYTES.get(wanted.lower(), Fraction(2))
    if serving.engine != "transformers" or stored is None or stored.quantized or not stored.elements:
        return found
    if stored.total == stored.elements * width:
        return found
    later = sum(p.estimate for p in found if p.name in {Part.KV_CACHE, Part.ACTIVATIONS})
    more = max(0, stored.total - later)
    return [
        p.model_copy(
            update={
                "estimate": p.estimate + more,
                "upper": p.upper + stored.total,
                "detail": f"{p.detail}, the file beside them while they are converted",
            }
        )
        if p.name is Part.WEIGHTS
        else p
        for p in found
    ]


def _experts(shape: ModelShape, total: int) -> int:
    """Bytes of the experts: transformers joins those of a layer when it loads them (three models measured)."""
    if not shape.experts or shape.weights is None or not shape.weights.elements:
        return 0
    layers = sum(g.count for g in shape.layers if g.keeps is not Keeps.STATE)
    elements = layers * shape.experts * 3 * (shape.hidden or 0) * (shape.feed_forward or 0)
    return min(total, elements * total // shape.weights.elements)


def _gguf_weights(serving: Serving, found: WeightBytes) -> MemoryPart:
    vision = found.aside.get("vision", 0)
    estimate, detail = found.total - vision, "tensors of the file"
    if found.repacked and serving.device == "cpu":
        estimate = found.mapped + found.repacked
        detail = f"{found.mapped:,} mapped and {found.repacked:,} repacked for the CPU"
    return MemoryPart(
        name=Part.WEIGHTS,
        lower=found.needed,
        estimate=estimate,
        upper=max(estimate, found.total + (found.repacked if serving.device == "cpu" else 0)),
        detail=detail,
    )


def kv_cache(shape: ModelShape, serving: Serving, engine: Engine, kv_type: str) -> MemoryPart:
    """What is kept of the tokens before: keys and values, compressed vectors, recurrent states."""
    width = ELEMENT_BYTES[kv_type]
    by_itself = serving.kv_type == "auto" and serving.dtype == "auto" and not engine.kv_types[0]
    tightest = min(width, Fraction(2)) if by_itself else width
    least = sum(_least(g, serving, tightest) for g in shape.layers)
    least *= serving.concurrency if engine.reserves == "slots" else 1
    if serving.engine == "llama_cpp":
        held, copies, most = _slots(shape, serving, width)
        detail = f"{kv_type}, {serving.concurrency} x {rounded(serving.context_tokens, _PAD)} tokens"
        if copies:
            detail += ", with copies of windows and states"
        return MemoryPart(
            name=Part.KV_CACHE, lower=least, estimate=held + copies, upper=held + most, detail=detail
        )
    context = rounded(serving.context_tokens, engine.kv_block_tokens)
    tokens = context * serving.concurrency
    pool = serving.pool_tokens or tokens
    estimate = sum(_pooled(g, serving, engine, width, _held(g, serving, engine, pool)) for g in shape.layers)
    # No engine that shares a pool promises to drop what slid out of a window.
    upper = sum(_pooled(g, serving, engine, width, max(pool, context)) for g in shape.layers)
    return MemoryPart(
        name=Part.KV_CACHE,
        lower=min(least, estimate),
        estimate=estimate,
        upper=max(estimate, upper),
        detail=f"{kv_type}, {min(tokens, pool)} tokens",
    )


def _bytes(count: int, width: Fraction) -> int:
    return int(count * width)


def _least(group: LayerGroup, serving: Serving, width: Fraction) -> int:
    """One sequence in the tightest form that the architecture allows."""
    tokens = serving.context_tokens
    match group.keeps:
        case Keeps.FULL:
            one = _bytes(tokens * group.elements_per_token, width)
        case Keeps.WINDOW:
            one = _bytes(min(tokens, group.window_tokens or tokens) * group.elements_per_token, width)
        case Keeps.LATENT:
            one = _bytes(tokens * min(group.latent_elements, group.elements_per_token), width)
        case Keeps.STATE:
            one = 2 * group.state_elements
        case Keeps.NOTHING:
            one = 0
    return group.count * one


def _slots(shape: ModelShape, serving: Serving, width: Fraction) -> tuple[int, int, int]:
    """llama.cpp: what the slots hold, the copies that it keeps by itself, and the most of those."""
    context = rounded(serving.context_tokens, _PAD)
    held = windows = states = 0
    for g in shape.layers:
        if g.keeps is Keeps.STATE:
            held += g.count * 4 * g.state_elements
            states += g.count * 4 * g.state_elements
        elif g.keeps is Keeps.WINDOW and g.window_tokens:
            cells = min(context, rounded(g.window_tokens + serving.batch_tokens, _PAD))
            held += g.count * _bytes(cells * g.elements_per_token, width)
            tokens = min(serving.context_tokens, g.window_tokens)
            windows += g.count * _bytes(tokens * g.elements_per_token, width)
        elif g.keeps in {Keeps.FULL, Keeps.LATENT}:
            held += g.count * _bytes(context * g.elements_per_token, width)
    n = serving.concurrency
    most = min(_CHECKPOINTS, 2 + serving.context_tokens // _CHECKPOINT_TOKENS)
    return n * held, 2 * n * (windows + states), n * most * (windows + states)


def _held(group: LayerGroup, serving: Serving, engine: Engine, pool: int) -> int:
    """Tokens that a layer of a pooled engine holds for all requests together."""
    tokens = rounded(serving.context_tokens, engine.kv_block_tokens)
    if group.keeps is Keeps.WINDOW and group.window_tokens:
        tokens = min(tokens, rounded(group.window_tokens, engine.kv_block_tokens))
    return min(pool, tokens * serving.concurrency)


def _pooled(group: LayerGroup, serving: Serving, engine: Engine, width: Fraction, tokens: int) -> int:
    if group.keeps is Keeps.STATE:
        return group.count * engine.state_bytes * group.state_elements * serving.concurrency
    elements = group.elements_per_token
    if group.keeps is Keeps.LATENT and not engine.expands_latent:
        elements = group.latent_elements
    return group.count * _bytes(tokens * elements, width)


def activations(shape: ModelShape, serving: Serving, engine: Engine) -> MemoryPart | None:
    """What one batch needs while it is worked on; None where a width is not known."""
    if shape.hidden is None or (shape.feed_forward is None and shape.head_elements):
        return None
    if serving.engine == "llama_cpp":
        estimate = _graph(shape, serving)
        detail = f"graph of {serving.batch_tokens} tokens (fitted to the server's log)"
    else:
        estimate, detail = _batch(shape, serving), f"batch of {serving.batch_tokens} tokens (fitted)"
    upper = int(estimate * engine.activation_upper) + 4 * serving.batch_tokens * (shape.vocabulary or 0)
    return MemoryPart(name=Part.ACTIVATIONS, lower=0, estimate=estimate, upper=upper, detail=detail)


def _width(shape: ModelShape) -> int:
    """Floats a token at the peak: of the feed-forward part or of attention, whichever is wider."""
    hidden, queries = shape.hidden or 0, shape.head_elements or 0
    inner = (shape.feed_forward or 0) * max(1, shape.experts_used or 1)
    widest = 5 * hidden + (3 if inner > hidden else 2) * inner
    if any(g.keeps is Keeps.STATE for g in shape.layers):
        widest = max(widest, 15 * hidden)
    return max(widest, 2 * hidden + 3 * queries)


def _graph(shape: ModelShape, serving: Serving) -> int:
    """llama.cpp's compute and output buffers, and the copy of a batch in which it quantizes activations."""
    context = rounded(serving.context_tokens, _PAD)
    tokens = min(serving.batch_tokens, context * serving.concurrency)
    windows = {g.window_tokens for g in shape.layers if g.keeps is Keeps.WINDOW and g.window_tokens}
    attends = any(g.keeps in {Keeps.FULL, Keeps.WINDOW, Keeps.LATENT} for g in shape.layers)
    cells = context if attends else 0
    cells += sum(min(context, rounded(w + serving.batch_tokens, _PAD)) for w in windows)
    inner = (shape.feed_forward or 0) * max(1, shape.experts_used or 1)
    logits = 8 * serving.concurrency * (shape.vocabulary or 0)
    work = tokens * max(inner, shape.hidden or 0) * 34 // 32
    if serving.flash_attention:
        return 4 * tokens * _width(shape) + 2 * tokens * cells + logits + work
    keys = max((g.key_elements for g in shape.layers), default=0)
    attention = 3 * (shape.hidden or 0) + 5 * (shape.head_elements or 0) // 2 + 3 * keys
    # The scores of all heads in F32, and once more in F16 for the product with the values.
    scores = 6 * tokens * context * (shape.heads or 0) if attends else 0
    return 4 * tokens * max(attention, 0 if attends else _width(shape)) + scores + 4 * tokens * cells + logits


def _batch(shape: ModelShape, serving: Serving) -> int:
    """Masks over the pool of transformers' continuous batching, and a batch in single precision."""
    wanted = serving.dtype if serving.dtype != "auto" else shape.dtype
    width = int(ELEMENT_BYTES.get(wanted.lower(), Fraction(2)))
    pool = serving.pool_tokens or rounded(serving.context_tokens, 128) * serving.concurrency
    windows = any(g.keeps is Keeps.WINDOW for g in shape.layers)
    masks = (2 if windows else 1) * serving.batch_tokens * (pool + serving.batch_tokens) * width
    states = sum(g.count * g.state_elements for g in shape.layers if g.keeps is Keeps.STATE)
    layers = sum(g.count for g in shape.layers if g.keeps is Keeps.STATE)
    scan = int(_SCAN * 4 * serving.context_tokens * (states // layers)) if layers else 0
    used = max(1, shape.experts_used or 1) if shape.experts else 0
    routed = 20 * serving.batch_tokens * used * ((shape.hidden or 0) + 3 * (shape.feed_forward or 0))
    return 4 * serving.batch_tokens * _width(shape) + masks + scan + routed


def process(shape: ModelShape, serving: Serving, engine: Engine) -> MemoryPart:
    """The engine itself."""
    found = engine.process[serving.device]
    tokens = shape.vocabulary or 0
    merges = shape.merges if shape.merges is not None else tokens
    tables = engine.bytes_per_token_of_vocabulary * tokens + engine.bytes_per_merge * merges
    tables += engine.bytes_per_prompt_token * serving.context_tokens * serving.concurrency
    routing = engine.experts_bytes if shape.experts else 0
    return MemoryPart(
        name=Part.ENGINE,
        lower=0,
        estimate=found.estimate + tables + routing,
        upper=found.upper + 2 * (tables + routing),
        detail=found.source,
    )
