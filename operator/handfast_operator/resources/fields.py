"""What both kinds are made of: the base of all models, rules in CEL, and types of fields.

A rule is checked by the API server, so that a wrong object is refused with a sentence before it exists.
Limits on
lengths are there because the API server estimates what a rule costs, and refuses a CRD whose rules could take
long.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

RULES = "x-kubernetes-validations"


class Model(BaseModel):
    """Frozen, and camelCase outside; what is not known is ignored: an older operator may read a newer
    object."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Pairs of a CEL expression that must hold, and the sentence for when it does not."""
    return {RULES: [{"rule": rule, "message": message} for rule, message in pairs]}


def described(*pairs: tuple[str, str], **schema: Any) -> dict[str, Any]:
    """Rules, and other keywords of the OpenAPI schema (`x_kubernetes_list_type` for its dashed name)."""
    extra = {name.replace("_", "-"): value for name, value in schema.items()}
    return {**(rules(*pairs) if pairs else {}), **extra}


_NOT_MASKED = "write the network's first address: bits behind the prefix must be zero"

Network = Annotated[
    str,
    Field(
        max_length=49,
        json_schema_extra=rules(
            ("isCIDR(self)", "is not a network such as 10.8.0.0/24 or fd00:8::/64"),
            ("!isCIDR(self) || cidr(self).masked() == cidr(self)", _NOT_MASKED),
        ),
    ),
]
InterfaceAddress = Annotated[
    str,
    Field(
        max_length=49,
        json_schema_extra=rules(
            ("isCIDR(self)", "is not an address with its prefix, such as 10.8.0.1/24"),
        ),
    ),
]
_IS_HOST = (
    "isIP(self) || (isCIDR(self) && cidr(self).prefixLength() == (cidr(self).ip().family() == 4 ? 32 : 128))"
)
HostAddress = Annotated[
    str,
    Field(
        max_length=49,
        json_schema_extra=rules(
            (
                _IS_HOST,
                "is not one address, such as 10.8.0.7, 10.8.0.7/32 or fd00:8::7",
            ),
        ),
    ),
]
Resolver = Annotated[
    str, Field(max_length=45, json_schema_extra=rules(("isIP(self)", "is not the address of a DNS server")))
]
# One of the last character's sixteen values that leave the two spare bits of 44 characters zero.
PublicKey = Annotated[
    str,
    Field(
        max_length=44,
        json_schema_extra=rules(
            (
                "self.matches('^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$')",
                "is not a WireGuard public key: 32 bytes in base64, as `wg pubkey` prints them",
            ),
            (
                "self != 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='",
                "is the zero key, which no peer can have",
            ),
        ),
    ),
]
_HOST = r"(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)"
_IS_ENDPOINT = f"self.matches('^{_HOST}:[0-9]{{1,5}}$')"
_PORT = "int(self.substring(self.lastIndexOf(':') + 1))"
_LITERAL = "isIP(self.substring(0, self.lastIndexOf(':')).replace('[', '').replace(']', ''))"
_PORT_RULE = (
    f"!{_IS_ENDPOINT} || ({_PORT} >= 1 && {_PORT} <= 65535)",
    "has a port that is not between 1 and 65535",
)
Endpoint = Annotated[
    str,
    Field(
        max_length=260,
        json_schema_extra=rules(
            (
                _IS_ENDPOINT,
                "is not HOST:PORT, such as vpn.example.com:51820, 203.0.113.5:51820 or [2001:db8::5]:51820",
            ),
            _PORT_RULE,
        ),
    ),
]
AddressAndPort = Annotated[
    str,
    Field(
        max_length=60,
        json_schema_extra=rules(
            (
                f"{_IS_ENDPOINT} && {_LITERAL}",
                "is not ADDRESS:PORT, such as 203.0.113.5:51820 or [2001:db8::5]:51820 (no name)",
            ),
            _PORT_RULE,
        ),
    ),
]
Domain = Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")]
Keepalive = Annotated[int, Field(ge=0, le=65535)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253)]


class SecretKey(Model):
    """A value in a Secret of the same namespace."""

    name: ObjectName
    """The Secret."""
    key: Annotated[str, Field(min_length=1, max_length=253)]
    """The name of the value in it."""


class LocalReference(Model):
    """An object of the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """Its name."""


class Condition(Model):
    """One aspect of the state, in the form that all of Kubernetes uses."""

    type: Annotated[str, Field(max_length=316)]
    """What is said something about."""
    status: Annotated[str, Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})]
    """True, False or Unknown."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why, in one word for programs."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Why, and what to do about it, in a sentence for people."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When the status last changed."""
    observed_generation: int = 0
    """Of the object, when this was said."""


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=32,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
