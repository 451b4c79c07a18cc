"""The model card as pages for people: `docs/README.md` and `docs/card.html`."""

from __future__ import annotations

import html
from typing import Any

from segpipe.bundle.guide import MISSING, sections
from segpipe.bundle.scores import unscored
from segpipe.bundle.standing import HEADING, score_text, standing, warnings

_WARNING = "Not a medical device. Look at every label map before it is used."
_SHEET = (
    "body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}th,td{border:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top}"
    ".missing{color:#a00}.warning{border:1px solid #a00;padding:.5em}"
)
_ESCAPED = str.maketrans({letter: f"\\{letter}" for letter in "\\`*[]|#"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})
Table = tuple[str, list[str], list[list[str]]]


def markdown_card(document: dict[str, Any]) -> str:
    """The card in Markdown, everything that somebody typed escaped."""
    lines = [f"# {_md(document['card']['title'])}", "", f"`{document['name']}@{document['version']}`", "", f"**{_WARNING}**", ""]
    lines += [
        f"## {HEADING}",
        "",
        *(f"- {_md(line)}" for line in standing(document)),
        *(f"- **{_md(line)}**" for line in warnings(document)),
        "",
    ]
    for heading, columns, rows in tables(document):
        lines += [
            f"## {heading}",
            "",
            _row(columns),
            _row(["---"] * len(columns)),
            *(_row([_md(cell) for cell in row]) for row in rows),
            "",
        ]
    for section in sections(document):
        lines += [f"## {section.heading}", ""]
        lines += [f"- **{item.name}.** {f'**{MISSING}**' if item.text is None else _md(item.text)}" for item in section.items]
        lines.append("")
    return "\n".join(lines)


def html_card(document: dict[str, Any]) -> str:
    """The card as one page without scripts, pictures or anything from elsewhere."""
    title = html.escape(document["card"]["title"])
    parts = [f"<h1>{title}</h1>", f"<p><code>{document['name']}@{document['version']}</code></p>", f'<p class="warning">{_WARNING}</p>']
    told = [*(f"<li>{html.escape(line)}</li>" for line in standing(document)), *(_warned(line) for line in warnings(document))]
    parts.append(f"<h2>{HEADING}</h2><ul>{''.join(told)}</ul>")
    for heading, columns, rows in tables(document):
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
        parts.append(f"<h2>{heading}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    for section in sections(document):
        items = "".join(f"<tr><th>{html.escape(item.name)}</th>{_told(item.text)}</tr>" for item in section.items)
        parts.append(f"<h2>{section.heading}</h2><table><tbody>{items}</tbody></table>")
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_SHEET}</style>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def tables(document: dict[str, Any]) -> list[Table]:
    """What is best read as tables: labels, scores, and the scans that the model knows; heading, columns, rows."""
    labels = [
        [str(label["value"]), label["name"], _codes(label), "#{:02x}{:02x}{:02x}".format(*label["colour"])] for label in document["labels"]
    ]
    scores = [[name, score_text(score)] for name, score in document["metrics"]["dice"].items()]
    scores += [[name, MISSING] for name in unscored(document)]
    return [
        ("Labels", ["value", "name", "codes", "colour"], labels),
        ("Scores", ["label", "Dice (95 % interval)"], scores),
        ("Valid input", ["property", "of the scans of the data set"], envelope_rows(document)),
    ]


def envelope_rows(document: dict[str, Any]) -> list[list[str]]:
    """What scans the model knows, one property a row."""
    envelope = document["envelope"]
    rows = [["modality", envelope["modality"]], ["body part", envelope["body_part"]]]
    for name, key in (("spacing along x, y, z", "spacing_mm"), ("field of view along x, y, z", "field_of_view_mm")):
        if not envelope["pictures"]:
            told = envelope[key]
            pairs = zip(told["lowest"], told["highest"], strict=True) if told else ()
            rows.append([name, ", ".join(_span(low, high) for low, high in pairs) + " mm" if told else MISSING])
    for channel in envelope["channels"] or []:
        low, high = channel["low"], channel["high"]
        rows.append([f"intensities of {channel['name']}", f"0.5 % at {_span(*low)}, 99.5 % at {_span(*high)}"])
    if not envelope["channels"]:
        rows.append(["intensities", MISSING])
    names = {str(label["value"]): label["name"] for label in document["labels"]}
    for value, (low, high) in (envelope["label_ml"] or {}).items():
        if value != str(document["labels"][0]["value"]):
            rows.append([f"volume of {names.get(value, value)}", f"{_span(low, high)} ml"])
    return rows


def _span(low: float, high: float) -> str:
    return f"{low:.4g} to {high:.4g}" if low != high else f"{low:.4g}"


def _codes(label: dict[str, Any]) -> str:
    codes = [label[key] for key in ("type", "modifier") if label[key]]
    return ", ".join(f"{code['scheme']} {code['value']} {code['meaning']}" for code in codes)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md(text: str) -> str:
    return " ".join(text.split()).translate(_ESCAPED).replace("](", "]\\(")  # which would be a link, whatever stands before the bracket


def _cell(text: str) -> str:
    return f'<td class="missing">{html.escape(text)}</td>' if text == MISSING else f"<td>{html.escape(text)}</td>"


def _warned(line: str) -> str:
    return f'<li class="missing"><strong>{html.escape(line)}</strong></li>'


def _told(text: str | None) -> str:
    return _cell(MISSING if text is None else text)
