"""Readiness: what counts as the right model and a real token."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import ComponentFailed
from assay.core.vocabulary import FailureClass
from assay.runtime import ready

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "text", "data", "id", "model"]), inner
        )
    ),
    max_leaves=12,
)
PROBE = ready.Probe(root="http://test", model="m", accepted=frozenset({"m@main"}))


def prove(answer: Callable[[httpx.Request], httpx.Response], probe: ready.Probe = PROBE) -> ready.Ready:
    """Run the proof against a function instead of a server."""
    with httpx.Client(base_url=probe.root, transport=httpx.MockTransport(answer)) as http:
        return ready.prove(http, probe)


def server(
    models: object, chat: object, completions: object = None
) -> Callable[[httpx.Request], httpx.Response]:
    """A server that gives these documents; an int is a status without a document."""
    documents = {"/v1/models": models, "/v1/chat/completions": chat, "/v1/completions": completions}

    def answer(request: httpx.Request) -> httpx.Response:
        document = documents[request.url.path]
        return httpx.Response(document) if isinstance(document, int) else httpx.Response(200, json=document)

    return answer


def chat(text: str | None, model: str | None = "m") -> dict[str, object]:
    """A chat completion."""
    return {"model": model, "choices": [{"message": {"role": "assistant", "content": text}}]}


LISTED = {"data": [{"id": "m"}]}


def test_the_listed_model_and_one_token_are_enough() -> None:
    """The usual server."""
    assert prove(server(LISTED, chat("Hi"))) == ready.Ready("m", "Hi")


def test_a_server_that_cannot_list_is_known_by_its_completion() -> None:
    """Transformers serve answers 500 to /v1/models and names the model with its revision."""
    assert prove(server(500, chat("Hi", "m@main"))).answered_model == "m@main"


def test_another_listed_model_is_refused_with_both_names() -> None:
    """A stale server of another model must not be measured."""
    with pytest.raises(ComponentFailed, match="it serves 'other', not 'm'") as caught:
        prove(server({"data": [{"id": "other"}]}, chat("Hi")))
    assert caught.value.failure_class is FailureClass.DEPLOYMENT_HEALTH_FAILED


def test_another_model_in_the_completion_is_refused_even_if_listed() -> None:
    """The list is what a server claims, the completion what it used."""
    with pytest.raises(ComponentFailed, match="'other', not 'm'"):
        prove(server(LISTED, chat("Hi", "other")))


def test_a_model_that_nothing_names_is_not_known() -> None:
    """Without a list and without the field, nothing says which model answered."""
    with pytest.raises(ComponentFailed, match="nothing in its answers names the model"):
        prove(server(404, chat("Hi", None)))


def test_a_dated_version_counts_only_where_the_model_is_listed() -> None:
    """Hosted endpoints answer with the dated name of what was asked for."""
    lenient = ready.Probe(root="http://test", model="m", lenient_prefix=True)
    assert prove(server(LISTED, chat("Hi", "m-2026-01-01")), lenient).answered_model == "m-2026-01-01"
    with pytest.raises(ComponentFailed, match="not 'm'"):
        prove(server(404, chat("Hi", "m-2026-01-01")), lenient)


def test_a_model_without_chat_template_is_asked_for_a_plain_completion() -> None:
    """A 400 on the chat route is no failure of the server."""
    plain = {"model": "m", "choices": [{"text": " world"}]}
    assert prove(server(LISTED, 400, plain)).text == " world"


def test_thinking_counts_as_text() -> None:
    """The first tokens of a reasoning model stand in another field."""
    document = {"model": "m", "choices": [{"message": {"content": None, "reasoning_content": "Hm"}}]}
    assert prove(server(LISTED, document)).text == "Hm"


@pytest.mark.parametrize("mute", [chat(""), chat(None), {"model": "m", "choices": []}, {"model": "m"}])
def test_no_text_is_no_token(mute: object) -> None:
    """200 without text is not readiness."""
    with pytest.raises(ready.Mute, match="without any text"):
        prove(server(LISTED, mute, mute))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_the_users_to_mend(status: int) -> None:
    """Trying again cannot help."""
    with pytest.raises(ComponentFailed, match="refuses the API key") as caught:
        prove(server(status, chat("Hi")))
    assert caught.value.failure_class is FailureClass.USER_CONFIG_ERROR


@given(models=JSON, completion=JSON)
def test_any_json_gives_a_proof_or_a_named_failure(models: object, completion: object) -> None:
    """No shape of an answer makes the proof itself fail."""

    def answer(request: httpx.Request) -> httpx.Response:
        document = models if request.url.path == "/v1/models" else completion
        return httpx.Response(200, content=json.dumps(document))

    with contextlib.suppress(ready.Mute, ComponentFailed):
        assert prove(answer).text


@given(body=st.binary(max_size=40), status=st.integers(200, 599))
def test_any_bytes_are_an_answer(body: bytes, status: int) -> None:
    """A body that is no JSON, in any encoding, is reported and not raised."""
    with contextlib.suppress(ready.Mute, ComponentFailed):
        assert prove(lambda _: httpx.Response(status, content=body)).text
