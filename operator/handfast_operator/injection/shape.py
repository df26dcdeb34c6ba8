"""What is read of a review, and of which kind it has to be; whatever else is in it goes by.

Anybody in the cluster may send one, and the API server asks before it has looked at the pod itself.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..names import is_name


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Named(_Part):
    name: str


class _Reference(_Part):
    name: str | None = None


class _Port(_Part):
    number: int = Field(alias="containerPort")
    protocol: str | None = None


class _Container(_Named):
    ports: list[_Port] | None = None


class _Owner(_Named):
    api_version: str = Field(alias="apiVersion")
    kind: str
    controller: bool | None = None


class _Metadata(_Part):
    name: str | None = None
    generate_name: str | None = Field(None, alias="generateName")
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owners: list[_Owner] | None = Field(None, alias="ownerReferences")


class _Spec(_Part):
    init_containers: list[_Named] | None = Field(None, alias="initContainers")
    containers: list[_Container] | None = None
    volumes: list[_Named] | None = None
    pull_secrets: list[_Reference] | None = Field(None, alias="imagePullSecrets")
    grace: int = Field(0, alias="terminationGracePeriodSeconds")


class _Pod(_Part):
    metadata: _Metadata
    spec: _Spec


class _Request(_Part):
    uid: str
    namespace: str
    object: _Pod


class _Review(_Part):
    request: _Request


def complaint(review: Any) -> str | None:
    """Why it is no AdmissionReview of a pod."""
    try:
        request = _Review.model_validate(review).request
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return None if is_name(request.namespace) else "request.namespace: it is no namespace's name"
