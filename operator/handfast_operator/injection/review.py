"""What the API server asks about a pod, and the answer: a patch, or a refusal with its reason."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import ValidationError

from .. import names
from ..resources import API_VERSION, TunnelSpec
from ..settings import Settings
from .origin import Once, Reader, origin_of
from .others import others_with
from .pod import injected, noted
from .refusals import Asked, refusal
from .shape import complaint

Object = dict[str, Any]

READ_SECONDS: Final = 3.0
"""For all that is read meanwhile: the API server waits for 5 s (`timeoutSeconds` in the chart)."""

logger = logging.getLogger(__name__)


class Refusal(Exception):
    """The pod is not admitted; the text says why, and what to do."""


class Unreadable(Exception):
    """It is not what an API server sends."""


def read(text: bytes) -> Any:
    """What it says as JSON; raises Unreadable."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"this is no JSON: {error}") from None


async def answer(review: Any, reader: Reader, settings: Settings) -> Object:
    """An AdmissionReview for one; raises Unreadable."""
    if why := complaint(review):
        raise Unreadable(f"this is no AdmissionReview of a pod: {why}")
    request = review["request"]
    namespace, pod = request["namespace"], request["object"]
    label = (pod["metadata"].get("labels") or {}).get(names.TUNNEL_LABEL)
    response: Object = {"uid": request["uid"], "allowed": True}
    if label is not None:
        try:
            response |= _patch(await _changes(pod, namespace, label, reader, settings))
        except Refusal as reason:
            name = pod["metadata"].get("name") or pod["metadata"].get("generateName", "")
            logger.info("%s/%s is refused: %s", namespace, name, reason)
            response |= {
                "allowed": False,
                "status": {"code": HTTPStatus.FORBIDDEN, "reason": "Forbidden", "message": str(reason)},
            }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


async def _changes(
    pod: Mapping[str, Any], namespace: str, tunnel: str, reader: Reader, settings: Settings
) -> list[Object]:
    """What `add` has to put where, which also replaces what is there; raises Refusal."""
    asked = await _look(pod, namespace, tunnel, reader)
    if reason := refusal(asked):
        raise Refusal(f"handfast: {reason}")
    assert asked.spec is not None
    spec, notes = injected(pod, tunnel, asked.spec, settings), noted(pod)
    wanted = [(f"/spec/{name}", pod["spec"].get(name), value) for name, value in spec.items()]
    wanted.append(("/metadata/annotations", pod["metadata"].get("annotations") or {}, notes))
    return [{"op": "add", "path": path, "value": new} for path, old, new in wanted if old != new]


async def _look(pod: Mapping[str, Any], namespace: str, tunnel: str, reader: Reader) -> Asked:
    if not names.is_name(tunnel):
        return Asked(pod, namespace, {}, tunnel, None)
    reader = Once(reader)
    try:
        async with asyncio.timeout(READ_SECONDS):
            found, where, origin, others = await asyncio.gather(
                reader.get(API_VERSION, "Tunnel", namespace, tunnel),
                reader.get("v1", "Namespace", None, namespace),
                origin_of(pod, namespace, reader),
                others_with(tunnel, pod, namespace, reader),
            )
        spec = TunnelSpec.model_validate(found["spec"]) if found is not None else None
    except ValidationError as error:
        raise Refusal(f"handfast: this injector cannot read the Tunnel {tunnel}: {error}") from None
    except Exception as error:
        # Whatever it is, the pod is tried again by what makes it.
        why = str(error) or type(error).__name__
        raise Refusal(f"handfast: the injector cannot ask the API server about this pod: {why}") from error
    labels = (where or {}).get("metadata", {}).get("labels") or {}
    return Asked(pod, namespace, labels, tunnel, spec, origin, others)


def _patch(changes: list[Object]) -> Object:
    if not changes:
        return {}
    return {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(changes).encode()).decode()}
