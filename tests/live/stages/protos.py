"""``python -m tests.live.stages.protos [--release]``: the code of the protos anew; what of them was released."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sysconfig
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, FileDescriptor
from grpc_tools import protoc

ROOT = Path(__file__).parents[3]
PROTOS = sorted(path.relative_to(ROOT) for path in (ROOT / "live" / "wire").rglob("*.proto"))
RELEASED = Path(__file__).with_name("released.json")
"""What is deployed speaks this: it may be added to, and nothing of it may change."""


def generate(target: Path) -> None:
    """All that is checked in of generated code, below ``target``."""
    # protoc finds its plugins for types on the path
    os.environ["PATH"] = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    for proto in PROTOS:
        has_service = "\nservice " in (ROOT / proto).read_text()
        outputs = [f"--python_out={target}", f"--mypy_out=quiet:{target}"]
        if has_service:
            outputs += [f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}"]
        code = protoc.main(["protoc", f"-I{ROOT}", *outputs, str(ROOT / proto)])
        assert code == 0, proto


def generated(root: Path) -> dict[str, str]:
    """Path to content of all generated code below a root."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted((root / "live" / "wire").rglob("*_pb2*"))
        if path.suffix in (".py", ".pyi")
    }


def describe() -> dict[str, dict[str, str]]:
    """Fields by message and number, and methods by service."""
    described: dict[str, dict[str, str]] = {}
    for proto in PROTOS:
        file = importlib.import_module(f"{'.'.join(proto.with_suffix('').parts)}_pb2").DESCRIPTOR
        described |= _describe(file)
    return described


def _describe(file: FileDescriptor) -> dict[str, dict[str, str]]:
    messages = {
        message.full_name: {str(field.number): _field(field) for field in message.fields}
        for message in file.message_types_by_name.values()
    }
    services = {
        service.full_name: {method.name: _method(method) for method in service.methods}
        for service in file.services_by_name.values()
    }
    return messages | services


def _field(field: FieldDescriptor) -> str:
    kind = field.message_type.full_name if field.message_type else f"type {field.type}"
    place = f" of {field.containing_oneof.name}" if field.containing_oneof else ""
    return f"{'repeated ' if field.is_repeated else ''}{kind} {field.name}{place}"


def _method(method: Any) -> str:
    sides = (
        f"{'stream ' if streams else ''}{side.full_name}"
        for streams, side in (
            (method.client_streaming, method.input_type),
            (method.server_streaming, method.output_type),
        )
    )
    return " to ".join(sides)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", action="store_true", help="note that the protos are released as they are")
    generate(ROOT)
    if parser.parse_args().release:
        RELEASED.write_text(json.dumps(describe(), indent=2) + "\n")
