"""Shortens Envoy's words about a configuration that it refuses, which quote all of the configuration."""

import re

LONGEST = 300
_WHOLE = re.compile(r"error `(?P<why>.*)` initializing config '", re.DOTALL)
# Envoy puts a varying number of spaces into its messages, so that nobody relies on them.
_FIELD = re.compile(
    r" @ (?P<field>\S+): message \S+, near [0-9:]+ \(offset [0-9]+\): (?P<problem>.*?)\)"
    r"(?: has unknown fields|: \{.*)?$"
)
_CONSTRAINT = re.compile(r"Proto constraint validation failed \((?P<problem>.*)\)$")
_OTHER = re.compile(r"INVALID_ARGUMENT: (?P<problem>[^{]*?)\)(?:: \{|$| has)")


def reason_in(message: str) -> str | None:
    """Return why Envoy refuses its configuration, and which field if it names one; None if the message is another."""
    found = _WHOLE.search(message)
    if found is None:
        return None
    why = re.sub(r"(?:\\n|\s)+", " ", found["why"])
    if field := _FIELD.search(why):
        return f"{field['field'].replace('.<any>', '')}: {field['problem']}"
    short = _CONSTRAINT.search(why) or _OTHER.search(why)
    return (short["problem"] if short else why).strip()[:LONGEST]
