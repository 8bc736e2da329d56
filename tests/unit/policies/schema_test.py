"""The JSON Schema and the loader must agree: on good documents, on bad ones, and on which keys there are.

usage: schema_test.py LOAD_POLICIES SCHEMA EXAMPLES
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

try:
    import jsonschema
    import yaml
except ImportError as missing:
    print(f"skipped: {missing}; install python3-jsonschema and python3-yaml")
    sys.exit(77)

SERVICE = "version: 1\nservices: {{ s: {{ image: /srv/x, mode: inline, per: flow, {} }} }}\ndefault: s\n"
BUILTIN = "version: 1\nservices: {{ s: {{ image: 'builtin:{}', mode: {}, per: flow, config: {} }} }}\ndefault: s\n"
MATCH = "version: 1\nrules: [{{ name: r, action: drop, match: {{ {} }} }}]\n"
LIMITS = "version: 1\nlimits: {{ {} }}\n"

GOOD = [
    "version: 1\n",
    "version: 1\nrules: []\nservices: {}\ndefault: reset\n",
    "version: 1\nrules: [{ name: 7, match: {}, action: bypass }]\n",
    *(SERVICE.format(field) for field in [
        "memory: 512KiB", "memory: 65536", "memory: '131072'", "idle_timeout: 500ms", "answer_timeout: 1h",
        "pool: {}", "pool: { min: 1 }", "pool: { min: 0, max: 5 }", "on_failure: drop", "config: { a: b, c: [1, d] }"]),
    BUILTIN.format("responder", "terminate", "{ body: hello }"),
    BUILTIN.format("passthrough", "inline", "{}"),
    BUILTIN.format("firewall", "inline", "{ block_hosts: [a.example, '*.b.example', C.example.] }"),
    BUILTIN.format("firewall", "inline", "{ block_hosts: a }"),
    *(MATCH.format(field) for field in [
        "", "subscribers: 10.0.0.0/8", "subscribers: ['::/0', 0.0.0.0/0]", "dst: [192.0.2.1, '2001:db8::1']",
        "dst_ports: 80", "dst_ports: [80, '443', 8000-8100]", "vlan: 0", "vlan: 100-199", "vlan: [any, 5]"]),
    *(LIMITS.format(field) for field in [
        "max_vms: 1", "spawn_rate: 5/s", "spawn_rate: 20/10s", "held_packets: 256", "hold_time: 2s",
        "on_table_full: drop", "per_subscriber: { spawn_rate: 1/m, max_vms: 3, ipv6_prefix: 56 }"]),
]

BAD = [
    "[]", "1", "version: 2\n", "default: drop\n", "version: 1\nrule: []\n", "version: 1\nrules: {}\n",
    "version: 1\nservices: []\n", "version: 1\nlimits: []\n", "version: 1\ndefault: [drop]\n",
    "version: 1\nservices: { s: { mode: inline, per: flow } }\n",
    "version: 1\nservices: { s: { image: x, per: flow } }\n",
    "version: 1\nservices: { s: { image: x, mode: inline } }\n",
    "version: 1\nservices: { s: { image: 'builtin:x', mode: inline, per: flow } }\n",
    "version: 1\nservices: { drop: { image: x, mode: inline, per: flow } }\n",
    "version: 1\nservices: { 'a b': { image: x, mode: inline, per: flow } }\n",
    "version: 1\nrules: [x]\n", "version: 1\nrules: [{ name: r, match: {} }]\n",
    "version: 1\nrules: [{ match: {}, action: drop }]\n", "version: 1\nrules: [{ name: r, action: drop }]\n",
    "version: 1\nrules: [{ name: r, match: {}, action: refuse }]\n",
    "version: 1\nservices: { s: { image: x, mode: inline, per: flow } }\n"
    "rules: [{ name: r, match: {}, action: drop, service: s }]\n",
    *(SERVICE.format(field) for field in [
        "memory: 512K", "memory: 4095", "idle_timeout: 10", "idle_timeout: 10 s", "pool: 3", "pool: { mn: 1 }",
        "pool: { min: -1 }", "pool: { max: 40000 }", "on_failure: retry", "config: 3", "config: { a: { b: c } }",
        "config: { a: [] }", "colour: red"]),
    BUILTIN.format("responder", "inline", "{}"), BUILTIN.format("firewall", "terminate", "{}"),
    BUILTIN.format("responder", "terminate", "{ body: [x] }"), BUILTIN.format("responder", "terminate", "{ text: x }"),
    BUILTIN.format("passthrough", "inline", "{ a: b }"),
    BUILTIN.format("firewall", "inline", "{ block_hosts: [] }"),
    BUILTIN.format("firewall", "inline", "{ block_hosts: 'http://x' }"),
    *(MATCH.format(field) for field in [
        "src: 10.0.0.0/8", "subscribers: []", "subscribers: everybody", "dst: { a: b }", "dst_ports: http",
        "dst_ports: 65536", "dst_ports: -1", "vlan: 4095", "vlan: [1]", "vlan: [1, 2, 3]", "vlan: all"]),
    *(LIMITS.format(field) for field in [
        "max_vms: 0", "max_vms: 40000", "max_vms: many", "spawn_rate: 5", "spawn_rate: 5/x", "held_packets: 0",
        "hold_time: 1", "on_table_full: reset", "per_subscriber: 5", "per_subscriber: { ipv6_prefix: 8 }",
        "burst: 3"]),
]

# Where the loader lists the keys of a map, and where the schema does.
KEYS = {
    "version: 1\nzz: 1\n": ["properties"],
    SERVICE.format("zz: 1"): ["definitions", "service", "properties"],
    SERVICE.format("pool: { zz: 1 }"): ["definitions", "service", "properties", "pool", "properties"],
    "version: 1\nrules: [{ name: r, match: {}, action: drop, zz: 1 }]\n": ["definitions", "rule", "properties"],
    MATCH.format("zz: 1"): ["definitions", "rule", "properties", "match", "properties"],
    LIMITS.format("zz: 1"): ["definitions", "limits", "properties"],
    LIMITS.format("per_subscriber: { zz: 1 }"): ["definitions", "limits", "properties", "per_subscriber", "properties"],
}


def ask_loader(program, texts):
    """What the loader says about each text: (good, diagnostics)."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, text in enumerate(texts):
            paths.append(pathlib.Path(folder) / f"{number}.yaml")
            paths[-1].write_text(text)
        out = subprocess.run([program, *paths], check=True, capture_output=True, text=True).stdout
    blocks = [block.split("\n", 1) for block in re.split(r"\n\n(?=good\n|bad\n|$)", out) if block]
    assert len(blocks) == len(texts), f"{len(blocks)} answers for {len(texts)} files"
    return [(block[0] == "good", block[1] if len(block) > 1 else "") for block in blocks]


def differences(program, schema, texts, wanted):
    """Sentences about each text that the loader or the schema takes otherwise than wanted."""
    for text, (good, said) in zip(texts, ask_loader(program, texts)):
        faults = [error.message for error in schema.iter_errors(yaml.safe_load(text))]
        if good != wanted:
            yield f"loader: expected {'good' if wanted else 'bad'}:\n{text}{said}"
        if (not faults) != wanted:
            yield f"schema: expected {'good' if wanted else 'bad'}:\n{text}{faults}"


def key_differences(program, schema):
    """Sentences about maps for which the two know different keys."""
    for (text, path), (_, said) in zip(KEYS.items(), ask_loader(program, list(KEYS))):
        listed = re.search(r"'zz' is no key of .*allowed: (.*)", said)
        loader = set(listed.group(1).split(", ")) if listed else set()
        node = schema.schema
        for step in path:
            node = node[step]
        if loader != set(node):
            yield f"{'.'.join(path)}: loader has {sorted(loader)}, schema has {sorted(node)}"


def main():
    program, schema_path, examples = sys.argv[1:]
    loaded = json.loads(pathlib.Path(schema_path).read_text())
    jsonschema.Draft7Validator.check_schema(loaded)
    schema = jsonschema.Draft7Validator(loaded)
    good = GOOD + [path.read_text() for path in sorted(pathlib.Path(examples).glob("*.yaml"))]
    faults = [
        *differences(program, schema, good, True),
        *differences(program, schema, BAD, False),
        *key_differences(program, schema),
    ]
    for fault in faults:
        print(fault)
    print(f"{len(good)} good and {len(BAD)} bad documents, {len(KEYS)} maps: {len(faults)} differences")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
