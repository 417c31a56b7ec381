"""The hooks of mkdocs.yml: formulas are drawn by the browser, and nothing comes from elsewhere."""

from types import SimpleNamespace

import pytest

pytest.importorskip("latex2mathml")
pytest.importorskip("mkdocs")

from mkdocs.exceptions import PluginError

from tools import docs_site


def formula(latex: str, element: str = "span", brackets: str = "()") -> str:
    opening, closing = brackets
    return f'<{element} class="arithmatex">\\{opening}{latex}\\{closing}</{element}>'


def test_formulas_become_mathml():
    inline = docs_site.on_page_content(f"<p>so {formula('q_i &lt; 1')}</p>")
    assert "<msub><mi>q</mi><mi>i</mi></msub><mo>&#x0003C;</mo>" in inline
    assert 'display="inline"' in inline
    block = docs_site.on_page_content(formula(r"\frac{1}{K}", "div", "[]"))
    assert 'display="block"' in block
    assert "arithmatex" not in inline + block


@pytest.mark.parametrize("latex", [r"\frac{1}", r"\nosuchcommand{x}"])
def test_formulas_that_are_not_understood_are_refused(latex):
    with pytest.raises(PluginError, match="not understood"):
        docs_site.on_page_content(formula(latex))


def test_an_interval_in_a_table_stays_on_one_line_and_a_command_is_left_alone():
    page = "<td>0.58 [0.52, 0.63]</td><td>a, b</td><td><code>[0.7, 0.3]</code></td>"
    kept = page.replace("[0.52, 0.63]", "[0.52,&nbsp;0.63]")
    assert docs_site.on_page_content(page) == kept


def test_a_link_to_elsewhere_is_not_a_request():
    page = '<a href="https://example.org">there</a>'
    assert docs_site.on_post_page(page, SimpleNamespace(url="a/b.html")) == page


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://example.org/a.js"></script>',
        '<link rel="stylesheet" href="https://example.org/a.css">',
        '<img alt="" src=http://example.org/a.png>',
    ],
)
def test_a_page_that_would_load_from_elsewhere_is_refused(tag):
    with pytest.raises(PluginError, match=r"b\.html would load https?://example\.org"):
        docs_site.on_post_page(tag, SimpleNamespace(url="a/b.html"))


def test_the_script_of_the_search_is_ours():
    page = f'<script src="{docs_site.SHIM}"></script>'
    served = docs_site.on_post_page(page, SimpleNamespace(url="a/b.html"))
    assert served == '<script src="../assets/iframe-worker.js"></script>'
