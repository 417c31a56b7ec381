"""Hooks of mkdocs.yml: pages that ask the network for nothing.

Formulas become MathML, which browsers draw themselves: `$...$` and `$$...$$` in a page are LaTeX,
and what cannot be converted ends the build, as a broken link does. An interval in a table stays on
one line. The one script that the theme would load from elsewhere, for search in pages that are
opened from a disk, is taken from docs/assets. A page that would load anything else from another
host ends the build.
"""

import html
import re
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.utils import get_relative_url

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
PARTS = {"mfrac": 2, "mover": 2, "mroot": 2, "msub": 2, "msup": 2, "msubsup": 3, "munder": 2}
CELL = re.compile(r"<td[^>]*>[^<]*</td>")
INTERVAL = re.compile(r"(\[-?[\d.,]*\d), (-?[\d.,]*\d\])")
SHIM, OURS = "https://unpkg.com/iframe-worker/shim", "assets/iframe-worker.js"
LOADED = re.compile(
    r"<(?:script|img|iframe|link|source|video)\b[^>]*?\b(?:src|href)=\"?(https?:[^\" >]+)"
)


def on_page_content(content: str, **_: Any) -> str:
    """Called with the HTML of each page before it goes into the template."""
    content = CELL.sub(lambda cell: INTERVAL.sub(r"\1,&nbsp;\2", cell[0]), content)
    return FORMULA.sub(_mathml, content)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Called with each whole page."""
    return _at_home(output, page.url)


def on_post_template(output: str, template_name: str, **_: Any) -> str:
    """Called with each page that has no source, such as 404.html."""
    return _at_home(output, template_name) if template_name.endswith(".html") else output


def _mathml(found: re.Match[str]) -> str:
    element, bracket, latex = found.groups()
    formula = convert(html.unescape(latex), display="block" if bracket == "[" else "inline")
    for node in ElementTree.fromstring(formula).iter():  # the converter itself takes anything
        kind = node.tag.rpartition("}")[2]
        if "\\" in (node.text or "") or len(node) != PARTS.get(kind, len(node)):
            raise PluginError(f"this formula is not understood: {latex}")
    return f'<{element} class="formula">{formula}</{element}>'


def _at_home(output: str, url: str) -> str:
    output = output.replace(SHIM, get_relative_url(OURS, url))
    if elsewhere := LOADED.findall(output):
        raise PluginError(f"{url} would load {', '.join(elsewhere)}")
    return output
