"""A server that speaks vLLM's wire, and fails in every way that servers do.

The shapes are those of vLLM's documentation and sources: a chat completion with ``logprobs``, ``/v1/models`` with
``max_model_len``, errors as ``{"error": {"message", "type", "param", "code"}}`` with the status as the code
(``vllm/entrypoints/openai/engine/protocol.py``), transcriptions with ``usage`` in seconds. Like the model's own
chat template it knows system messages as context, and drops every other text.
"""

from __future__ import annotations

import base64
import contextlib
import email
import email.policy
import http.server
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from speech.audio import flac
from speech.engines import Samples

MODEL = "Qwen/Qwen3-ASR-0.6B"
SAID = "language English<asr_text>We met on Monday."

Behaviour = Callable[["Handler"], bool]
"""Answers a request badly; False leaves it to be answered well."""


@dataclass
class Asked:
    """One request, as the server understood it."""

    path: str
    headers: dict[str, str]
    context: str = ""
    forced: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    samples: Samples | None = None
    told: str = ""
    """The user's messages of a chat without audio; the system's are the ``context``."""
    schema: dict[str, Any] | None = None
    format: str | None = None
    """The type of a chat's ``response_format``."""
    most: int | None = None
    """Tokens that the answer may have."""


@dataclass
class VllmServer:
    """``say`` is what the model writes to a request."""

    port: int = 0
    models: list[str] = field(default_factory=lambda: [MODEL])
    say: Callable[[Asked], str] = lambda asked: SAID
    words: Callable[[Asked], list[dict[str, Any]]] | None = None
    align: Callable[[Asked], list[dict[str, Any]]] | None = None
    behaviour: Behaviour = lambda handler: False
    list_models: Behaviour = lambda handler: False
    key: str | None = None
    asked: list[Asked] = field(default_factory=list)
    looks: int = 0
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: VllmServer

    def do_GET(self) -> None:
        self.server_of.looks += 1
        if not self._authorised():
            return
        if self.path != "/v1/models":
            self.error(404, "NotFoundError", "Not Found")
            return
        if self.server_of.list_models(self):
            return
        cards: list[dict[str, Any]] = [
            {
                "id": name,
                "object": "model",
                "created": 1_767_225_600,
                "owned_by": "vllm",
                "root": name,
                "parent": None,
                "max_model_len": 65536,
                "permission": [],
            }
            for name in self.server_of.models
        ]
        self.answer(200, {"object": "list", "data": cards})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        own = self.server_of
        with own.lock:
            own.under_way += 1
            own.most_under_way = max(own.most_under_way, own.under_way)
        try:
            # the other side may have had enough
            with contextlib.suppress(OSError):
                self._respond(body)
        finally:
            with own.lock:
                own.under_way -= 1

    def _respond(self, body: bytes) -> None:
        own = self.server_of
        if not self._authorised():
            return
        asked = self._understand(body)
        own.asked.append(asked)
        if own.behaviour(self):
            return
        name = asked.fields["model"]
        if name not in own.models:
            self.error(404, "NotFoundError", f"The model `{name}` does not exist.", "model")
        elif self.path == "/v1/chat/completions":
            self.answer(200, completion(own.say(asked), name, most=asked.most))
        elif self.path == "/v1/audio/transcriptions":
            self.answer(200, self._transcription(asked))
        elif self.path == "/v1/audio/alignments" and own.align is not None:
            self.answer(200, {"words": own.align(asked)})
        else:
            self.error(404, "NotFoundError", "Not Found")

    def _authorised(self) -> bool:
        key = self.server_of.key
        if key is not None and self.headers.get("Authorization") != f"Bearer {key}":
            self.close_connection = True
            self.answer(401, {"error": "Unauthorized"})
            return False
        return True

    def _transcription(self, asked: Asked) -> dict[str, Any]:
        text = self.server_of.say(asked).rpartition("<asr_text>")[2]
        assert asked.samples is not None
        seconds = math.ceil(len(asked.samples) / 16_000)
        if asked.fields["response_format"] == "json":
            return {"text": text, "usage": {"type": "duration", "seconds": seconds}}
        answer: dict[str, Any] = {"duration": str(seconds), "language": "english", "text": text, "segments": []}
        return answer | ({"words": self.server_of.words(asked)} if self.server_of.words else {})

    def _understand(self, body: bytes) -> Asked:
        headers = dict(self.headers)
        if self.headers["Content-Type"].startswith("application/json"):
            return self._understand_chat(json.loads(body), headers)
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
        asked = Asked(self.path, headers)
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            if name == "file":
                asked.samples = flac.decode(content)
            else:
                asked.fields[str(name)] = content.decode()
        asked.context = asked.fields.get("prompt", "")
        return asked

    def _understand_chat(self, body: dict[str, Any], headers: dict[str, str]) -> Asked:
        wanted = body.get("response_format", {})
        asked = Asked(self.path, headers, fields={"model": body["model"]})
        asked.format, asked.most = wanted.get("type"), body.get("max_tokens")
        asked.schema = wanted.get("json_schema", wanted).get("schema")
        for message in body["messages"]:
            match message["role"], message["content"]:
                case "system", text:
                    asked.context += text
                case "assistant", text:
                    assert body["continue_final_message"]
                    assert not body["add_generation_prompt"]
                    asked.forced = text
                case "user", [{"type": "audio_url", "audio_url": {"url": url}}]:
                    asked.samples = flac.decode(_fetch(url))
                case "user", str(text):
                    asked.told += text
        return asked

    def answer(self, status: int, body: Any, **headers: str) -> None:
        self.send(status, json.dumps(body).encode(), **headers)

    def send(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def error(self, status: int, kind: str, message: str, param: str | None = None, **headers: str) -> None:
        body = {"error": {"message": message, "type": kind, "param": param, "code": status}}
        self.answer(status, body, **headers)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _fetch(url: str) -> bytes:
    if url.startswith("data:audio/flac;base64,"):
        return base64.b64decode(url.partition(",")[2])
    return httpx.get(url).raise_for_status().content


def completion(text: str, model: str = MODEL, logprob: float = -0.1, most: int | None = None) -> dict[str, Any]:
    """As vLLM answers: a token for every three characters, ``most`` at most."""
    pieces = [text[i : i + 3] for i in range(0, len(text), 3)]
    cut = most is not None and len(pieces) > most
    pieces = pieces[:most]
    tokens = [
        {"token": piece, "logprob": logprob, "bytes": list(piece.encode()), "top_logprobs": []} for piece in pieces
    ]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_767_225_600,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "".join(pieces), "refusal": None, "tool_calls": []},
                "logprobs": {"content": tokens},
                "finish_reason": "length" if cut else "stop",
                "stop_reason": None,
            }
        ],
        "usage": {"prompt_tokens": 400, "total_tokens": 420, "completion_tokens": len(tokens)},
    }


@contextlib.contextmanager
def vllm(port: int = 0, **values: Any) -> Iterator[VllmServer]:
    """``port``: where it listens, as one that was stopped comes back."""
    own = VllmServer(**values)
    handler = type("Bound", (Handler,), {"server_of": own})
    listening = _Listening(("127.0.0.1", port), handler)
    own.port = listening.server_port
    threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield own
    finally:
        listening.shutdown()
        listening.close_all()


class _Listening(http.server.ThreadingHTTPServer):
    """Dies as a process does, with its connections."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    def close_all(self) -> None:
        self.server_close_without_waiting()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def server_close_without_waiting(self) -> None:
        self.socket.close()


def slow(seconds: float) -> Behaviour:
    def behave(handler: Handler) -> bool:
        time.sleep(seconds)
        return False

    return behave


def erring(status: int, times: float = math.inf, **headers: str) -> Behaviour:
    """So many times, then no more."""
    left = [times]

    def behave(handler: Handler) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        handler.error(status, "Error", "not now", **headers)
        return True

    return behave


def cut(handler: Handler) -> bool:
    """The connection breaks amid the answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"mess')
    handler.close_connection = True
    return True


def nonsense(body: Any) -> Behaviour:
    def behave(handler: Handler) -> bool:
        handler.answer(200, body)
        return True

    return behave


def raw(content: bytes, **headers: str) -> Behaviour:
    def behave(handler: Handler) -> bool:
        handler.send(200, content, **headers)
        return True

    return behave
