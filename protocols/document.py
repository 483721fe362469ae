"""Makes docs/protocols.md from the declarations.

python -m protocols.document > docs/protocols.md
"""

from labctl.protocol import Protocol, discover


def document() -> str:
    """The reference of all protocols: what they do, parameters, columns."""
    parts = [
        "# Protocols\n",
        "Made from the declarations: `python -m protocols.document`. `labctl run NAME --PARAM VALUE` runs one; numbers"
        " take SI prefixes, lists take commas and `start:stop:step`.\n",
    ]
    return "\n".join([*parts, *(_protocol(protocol) for protocol in discover().values())]).rstrip() + "\n"


def _protocol(protocol: Protocol) -> str:
    lines = [
        f"## {protocol.name}\n",
        protocol.doc + "\n",
        "| parameter | default | limits | meaning |",
        "|---|---|---|---|",
    ]
    for parameter in protocol.parameters.values():
        limits = " \\| ".join(parameter.choices) or ("yes, no" if parameter.kind is bool else parameter.q.range())
        many = " (list)" if parameter.many else ""
        default = parameter.show(parameter.default) or "–"
        lines.append(f"| `{parameter.name}`{many} | {default} | {limits} | {parameter.q.meaning} |")
    for table in protocol.tables:
        lines += [f"\nTable `{table.name}`: {table.doc}\n", "| column | unit | meaning |", "|---|---|---|"]
        lines += [f"| `{column.name}` | {column.q.unit} | {column.q.meaning} |" for column in table.columns]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(document(), end="")
