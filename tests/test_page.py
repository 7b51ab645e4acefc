"""The page: its numbers are the document's, its text is only text, and pointer and keyboard reach all of it."""

import base64
import hashlib
import json
import math
import random
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree.ElementTree import TreeBuilder

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from browser import CONTROL, Browser, find_browser
from conftest import SOURCE
from layer_decoding.cells import alone
from layer_decoding.page import render_page
from layer_decoding.pieces import Pieces
from layer_decoding.results import Candidate, LayerDecoding, LayerRow
from layer_decoding.rows import notes, row_spans, visible
from layer_decoding.shading import SHADES, measures_of, percent
from layer_decoding.terminal import Glyphs
from layer_decoding.wrapping import merge
from make_goldens import StoredPieces

HOSTILE = [
    *("<script>document.title = 'owned'</script>", "</script><script>document.title = 'owned'</script>", "<!--", "]]>"),
    *('"', "'", "&lt;", "<img src=x onerror=\"document.title='owned'\">", "</td></table>", "`${1}`", "{{ 7 * 7 }}"),
    *("\n", "\r\n", "\u2028", "\x00", "\u202eevil\u202c", " שלום", "\ufeff", "  ", " 你好", "👩\u200d👧", "-" * 60),
]
HEAD = {
    "versions": {"program": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "revision": None},
    "model": "models/<b>\u202e",
    "device": "cpu",
    "dtype": "float32",
}
MEASURES = {
    "probability": "logprob_nats",
    "entropy": "entropy_bits",
    "kl": "kl_to_final_bits",
    "rank": "final_token_rank",
}


# ---------------------------------------------------------------- decodings to show


def made_up(layer_count=12, steps=64, candidates=5, vocabulary=None, context="shared", seed=0):
    """A decoding out of dice, with every measure its context has; no two candidates alike unless there are too few."""
    dice = random.Random(seed)
    vocabulary = vocabulary or layer_count * steps * candidates
    ids = list(range(vocabulary)) * (1 + layer_count * steps * candidates // vocabulary)
    dice.shuffle(ids)
    rows = []
    for layer in range(1, layer_count + 1):
        length = steps if context == "shared" else dice.randint(1, steps)
        chosen = [tuple(Candidate(ids.pop(), dice.random() ** 4) for _ in range(candidates)) for _ in range(length)]
        shared = context == "shared"
        row = LayerRow(
            layer,
            tuple(step[0].id for step in chosen),
            finished=False,
            logprob_nats=tuple(math.log(step[0].probability + 1e-12) for step in chosen),
            entropy_bits=tuple(dice.uniform(0, 12) for _ in chosen),
            kl_to_final_bits=tuple(dice.expovariate(0.2) for _ in chosen) if shared else None,
            final_token_rank=tuple(int(dice.paretovariate(0.4)) for _ in chosen) if shared else None,
            candidates=tuple(chosen),
        )
        rows.append(row)
    settles = tuple(dice.randint(1, layer_count) for _ in range(steps)) if context == "shared" else None
    return LayerDecoding(context, layer_count, (1, 2), steps, tuple(rows), settles)


def pieces_of(texts):
    """Pieces in which the id n stands for texts[n]."""
    return StoredPieces([text.encode() for text in texts])


def hostile_page(context="shared"):
    """A small decoding in which every token wants to be more than text."""
    decoding = made_up(5, 8, 3, len(HOSTILE), context)
    return decoding, render_page(decoding, "</p><script>document.title = 'owned'</script>", HEAD, pieces_of(HOSTILE))


@pytest.fixture(scope="module")
def real(mini):
    """What the bundled model says: (decoding, its JSON document, its page)."""
    from layer_decoding.documents import greedy_document, to_json
    from layer_decoding.greedy import decode_layers

    prompt, pieces = "A long long time ago,", Pieces(mini.tokenizer)
    decoding = decode_layers(mini.model, mini.tokenizer.encode(prompt), 16)
    document = json.loads(to_json(greedy_document(decoding, prompt, mini, pieces)))
    return decoding, document, render_page(decoding, prompt, document, pieces)


def shown_alone(text):
    """How a token looks in a cell of its own."""
    return alone(visible(text, Glyphs()))


# ---------------------------------------------------------------- reading a page


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tree = TreeBuilder()

    def handle_starttag(self, tag, attributes):
        self.tree.start(tag, {name: value or "" for name, value in attributes})
        if tag in ("meta", "link", "input"):
            self.tree.end(tag)

    def handle_endtag(self, tag):
        assert self.tree.end(tag).tag == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.tree.data(data)


def parsed(page):
    """The page's elements; every one closed in its turn."""
    reader = _Reader()
    reader.feed(page.removeprefix("<!DOCTYPE html>\n"))
    reader.close()
    return reader.tree.close()


def text_of(element):
    return "".join(element.itertext())


def by_id(root, name):
    (element,) = (element for element in root.iter() if element.get("id") == name)
    return element


def cells_of(root):
    """The table's cells [R][T]."""
    return [row.findall("td") for row in by_id(root, "layers").findall("tbody/tr")]


def token_and_number(cell):
    number = cell.find("small")
    return text_of(cell).removesuffix(number.text) if number is not None else text_of(cell), number


def data_of(root):
    return json.loads(by_id(root, "data").text)


# ---------------------------------------------------------------- numbers


def agrees_with(shown, value):
    """Whether a number as it is shown is the value, to half a unit of its last digit."""
    if shown in ("<0.01%", ">99.9%"):
        return 0 < value < 1e-4 if shown[0] == "<" else 0.999 < value < 1
    plain = shown.rstrip("%").replace(",", "")
    digits = len(plain.partition(".")[2])
    return abs(float(plain) - (100 * value if shown.endswith("%") else value)) <= 0.5000001 * 10**-digits


def test_the_numbers_are_the_documents(real):
    _, document, page = real
    root = parsed(page)
    data, table = data_of(root), cells_of(root)
    assert list(data["measures"]) == list(MEASURES)
    assert data["layers"] == [row["layer"] for row in document["rows"]] == list(range(1, 13))
    for number, row in enumerate(document["rows"]):
        values = {**row, "logprob_nats": [math.exp(value) for value in row["logprob_nats"]]}
        for name, key in MEASURES.items():
            texts = data["measures"][name]["texts"][number]
            assert len(texts) == len(row["ids"]) == 16
            assert all(map(agrees_with, texts, values[key])), (name, row["layer"])
        for step, cell in enumerate(table[number]):
            token, shown = token_and_number(cell)
            assert token == data["names"][data["tokens"][number][step]] == shown_alone(row["tokens"][step])
            assert shown.text == data["measures"]["probability"]["texts"][number][step]
            assert (cell.find("u") is None) == row["agrees"][step]
            candidates = [(data["names"][place], share) for place, share in data["candidates"][number][step]]
            assert [name for name, _ in candidates] == [shown_alone(c["token"]) for c in row["candidates"][step]]
            assert all(
                agrees_with(share, c["probability"])
                for (_, share), c in zip(candidates, row["candidates"][step], strict=True)
            )


def test_where_a_token_settles_is_marked(real):
    _, document, page = real
    root = parsed(page)
    table = cells_of(root)
    footer = [int(cell.text) for cell in by_id(root, "layers").findall("tfoot/tr/td")]
    assert footer == document["settles_at"]
    for step, layer in enumerate(footer):
        marked = [row + 1 for row, cells in enumerate(table) if "settles" in cells[step].get("class").split()]
        assert marked == [layer]
        assert all(cells[step].find("u") is None for cells in table[layer - 1 :])


def test_settling_is_marked_in_the_first_row_shown_from_there_on():
    rows = tuple(LayerRow(layer, (0, 0), finished=False) for layer in (0, 3, 8, 12))
    page = render_page(LayerDecoding("shared", 12, (1,), 2, rows, (1, 9)), "p", HEAD, pieces_of(["a"]))
    marked = [["settles" in cell.get("class") for cell in cells] for cells in cells_of(parsed(page))]
    assert marked == [[False, False], [True, False], [False, False], [False, True]]


def test_shades_by_hand():
    nan, inf = math.nan, math.inf
    first = LayerRow(
        1,
        (0,) * 4,
        False,
        (0.0, math.log(0.5), math.log(0.05), -800.0),
        (0.0, 4.0, 8.0, nan),
        (0.0, 0.5, 1.0, inf),
        (1, 10, 100, 10000),
    )
    last = LayerRow(2, (0,) * 4, False, (0.0,) * 4, (0.0,) * 4, (0.0,) * 4, (1,) * 4)
    measures = measures_of(LayerDecoding("shared", 2, (1,), 4, (first, last), (1,) * 4))
    shown = {
        name: (measure.texts[0], measure.levels[0], measure.low, measure.high) for name, measure in measures.items()
    }
    assert SHADES == 9
    assert shown == {
        "probability": (["100%", "50.0%", "5.00%", "0%"], [8, 4, 0, 0], "0%", "100%"),
        "entropy": (["0.00", "4.00", "8.00", "–"], [0, 4, 8, 0], "0.00", "8.00"),
        "kl": (["0.00", "0.50", "1.00", "–"], [0, 4, 8, 0], "0.00", "1.00"),
        "rank": (["1", "10", "100", "10,000"], [0, 2, 4, 8], "1", "10,000"),
    }
    assert measures["kl"].levels[1] == [0] * 4


@given(st.floats(0, 1))
def test_a_percentage_is_the_probability(probability):
    assert agrees_with(percent(probability), probability)


def test_what_own_context_cannot_know_is_absent():
    decoding, page = hostile_page("own")
    root = parsed(page)
    switch = [box.get("value") for box in by_id(root, "switch").iter("input")]
    assert switch == list(data_of(root)["measures"]) == ["probability", "entropy"]
    assert by_id(root, "layers").find("tfoot") is None
    assert [len(cells) for cells in cells_of(root)] == [len(row.ids) for row in decoding.rows]
    assert len(by_id(root, "layers").findall("thead/tr/th")) == 1 + max(len(row.ids) for row in decoding.rows)


def test_without_measures_there_is_no_switch():
    rows = tuple(LayerRow(layer, (0, layer % 2), finished=False) for layer in (1, 2))
    root = parsed(render_page(LayerDecoding("shared", 2, (1,), 2, rows, (1, 2)), "p", HEAD, pieces_of(["a", "b"])))
    assert root.find(".//fieldset") is None
    assert [[text_of(cell) for cell in cells] for cells in cells_of(root)] == [["a", "b"], ["a", "a"]]
    assert data_of(root)["measures"] == {}


# ---------------------------------------------------------------- text


@pytest.mark.parametrize("context", ["shared", "own"])
def test_rows_and_legend_are_the_terminals(context):
    decoding, page = hostile_page(context)
    root = parsed(page)
    (rows,) = (element for element in root.iter("dl") if element.get("class") == "rows")
    for row, line in zip(decoding.rows, rows, strict=True):
        spans = merge(row_spans(row, decoding, pieces_of(HOSTILE), Glyphs()))
        assert text_of(line) == f"Layer {row.layer}" + "".join(span.text for span in spans)
        differing = [element.text for element in line.iter("em")]
        assert differing == [span.text for span in spans if span.role == "differs"]
    paragraphs = [text_of(paragraph) for paragraph in root.iter("p")]
    for note in notes(decoding, Glyphs()):
        assert "".join(span.text for span in note) in paragraphs


def skeleton(root):
    """Everything but the text: tags with their attributes, in order."""
    return [(element.tag, element.attrib) for element in root.iter() if element.tag != "meta"]


@given(
    st.lists(st.text(min_size=1, max_size=6) | st.sampled_from(HOSTILE), min_size=6, max_size=6), st.text(max_size=9)
)
@settings(max_examples=60, deadline=None)
def test_no_token_changes_the_page(texts, prompt):
    """Whatever the tokens are, the same elements stand there, and read back as the tokens."""
    decoding = made_up(3, 4, 2, len(texts))
    page = render_page(decoding, prompt, HEAD, pieces_of(texts))
    root = parsed(page)
    assert skeleton(root) == skeleton(parsed(render_page(decoding, "p", HEAD, pieces_of(["a"] * len(texts)))))
    for row, cells in zip(decoding.rows, cells_of(root), strict=True):
        assert [token_and_number(cell)[0] for cell in cells] == [shown_alone(texts[token]) for token in row.ids]
    assert set(data_of(root)["names"]) >= {shown_alone(texts[token]) for token in decoding.final_row.ids}
    assert not {"\u202e", "\u2028", "\u2029", "\x00", "\r"} & set(page)


def test_a_prompt_that_is_not_utf8_can_still_be_written():
    decoding = made_up(2, 2, 2)
    page = render_page(decoding, "caf\udce9", HEAD, pieces_of(["a"] * 8))
    assert "caf\\udce9" in page
    page.encode()


# ---------------------------------------------------------------- one file, alone


def test_nothing_else_is_fetched_or_run():
    root = parsed(hostile_page()[1])
    (policy,) = (e.get("content") for e in root.iter("meta") if e.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    (style,) = root.iter("style")
    (script,) = (element for element in root.iter("script") if element.get("type") is None)
    for rule, element in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    addresses = [value for e in root.iter() for name, value in e.attrib.items() if name in ("src", "href", "srcset")]
    assert addresses == ["data:,"]
    assert not any(name.startswith("on") or name == "style" for e in root.iter() for name in e.attrib)
    for word in ("url(", "@import", "http:", "https:", "transition", "animation", "innerHTML"):
        assert word not in style.text + script.text


def test_head_says_where_the_numbers_come_from():
    header = text_of(parsed(hostile_page()[1]).find(".//header"))
    for fact in (r"models/<b>\u202e", "cpu, float32", "torch 2.13.0", "transformers 5.23.0", "document.title"):
        assert fact in header


def test_the_tables_headers_have_a_scope():
    for table in parsed(hostile_page()[1]).iter("table"):
        assert table.find("caption").text
        assert {header.get("scope") for header in table.iter("th")} <= {"row", "col"}


@pytest.mark.parametrize("alphabet", ["etaoin shrdlu", "的一是不了人我在"])
def test_a_long_page_is_small(alphabet):
    """12 layers, 64 tokens, 5 candidates, no two of them the same token."""
    decoding, dice = made_up(12, 64, 5), random.Random(0)
    texts = [" " + "".join(dice.choices(alphabet, k=7 if alphabet.isascii() else 2)) for _ in range(12 * 64 * 5)]
    assert len(render_page(decoding, "p", HEAD, pieces_of(texts)).encode()) < 300_000


def test_making_a_page_imports_no_torch():
    code = "import layer_decoding.page, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SOURCE, check=False).returncode == 0


# ---------------------------------------------------------------- in a browser

needs_browser = pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on the PATH")
SELECTED = "document.activeElement"
PLACE = "document.getElementById('place').textContent"


@pytest.fixture(scope="module")
def browser():
    """A browser for all tests of this file; each opens its own page."""
    opened = Browser(find_browser())
    yield opened
    opened.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Open a page; at the end nothing may have been complained about."""
    browser.complaints.clear()

    def opened(page, **how):
        file = tmp_path / "page.html"
        file.write_text(page, encoding="utf-8")
        browser.open(file, **how)
        return browser

    yield opened
    assert browser.complaints == []


def cell(row, step):
    """The selector of a cell, both from 1."""
    return f"#layers tbody tr:nth-child({row}) td:nth-child({step + 1})"


def expected_details(document, layer, step):
    row = document["rows"][layer - 1]
    return {
        "place": f"Layer {layer}, token {step}",
        "token": shown_alone(row["tokens"][step - 1]),
        "numbers": [
            percent(math.exp(row["logprob_nats"][step - 1])),
            f"{row['entropy_bits'][step - 1]:.2f}",
            f"{row['kl_to_final_bits'][step - 1]:.2f}",
            str(row["final_token_rank"][step - 1]),
        ],
        "candidates": [shown_alone(c["token"]) + percent(c["probability"]) for c in row["candidates"][step - 1]],
    }


def details(browser):
    return browser.ask(
        """({
            place: document.getElementById("place").textContent,
            token: document.getElementById("token").textContent,
            numbers: [...document.querySelectorAll("#numbers dd")].map((number) => number.textContent),
            candidates: [...document.querySelectorAll("#candidates tbody tr")].map((row) => row.textContent),
        })"""
    )


@needs_browser
def test_pointing_at_a_cell_shows_what_lies_behind_it(real, visit):
    _, document, page = real
    browser = visit(page, height=1200)
    assert details(browser) == expected_details(document, 1, 1)
    for layer, step in ((3, 7), (12, 2), (1, 11)):
        browser.point(cell(layer, step))
        assert details(browser) == expected_details(document, layer, step)
    assert browser.ask("document.getElementById('spoken').textContent") == ""  # only the keyboard's way is spoken
    browser.point("h1")
    assert details(browser) == expected_details(document, 1, 1)
    browser.click(cell(5, 5))
    browser.point("h1")
    assert details(browser) == expected_details(document, 5, 5)


@needs_browser
def test_the_table_by_keyboard_alone(real, visit):
    _, document, page = real
    browser = visit(page)
    browser.press("Tab")
    assert browser.ask(f"{SELECTED}.value") == "probability"
    browser.press("Tab")
    assert browser.ask(f"{SELECTED}.tagName") == "TD"
    steps = [
        ("ArrowRight", 0, (1, 2)),
        ("ArrowDown", 0, (2, 2)),
        ("End", 0, (2, 16)),
        ("ArrowRight", 0, (2, 16)),
        ("ArrowLeft", 0, (2, 15)),
        ("Home", 0, (2, 1)),
        ("ArrowLeft", 0, (2, 1)),
        ("ArrowUp", 0, (1, 1)),
        ("ArrowUp", 0, (1, 1)),
        ("End", CONTROL, (12, 16)),
        ("ArrowDown", 0, (12, 16)),
        ("Home", CONTROL, (1, 1)),
        ("ArrowDown", 0, (2, 1)),
    ]
    for key, modifiers, (layer, step) in steps:
        browser.press(key, modifiers)
        assert details(browser) == expected_details(document, layer, step), key
        assert browser.ask(f"{SELECTED} === document.querySelector('{cell(layer, step)}')")
    spoken = browser.ask("document.getElementById('spoken').textContent")
    wanted = expected_details(document, 2, 1)
    for part in (wanted["place"], f"“{wanted['token']}”", *wanted["numbers"]):
        assert part in spoken
    browser.press("Tab")  # one stop for the whole table
    assert browser.ask(f"document.getElementById('layers').contains({SELECTED})") is False
    assert browser.ask("document.querySelectorAll('#layers [tabindex=\"0\"]').length") == 1


@needs_browser
def test_a_resting_pointer_does_not_disturb_the_keyboard(visit):
    decoding = made_up(3, 60, 1, 20)
    browser = visit(render_page(decoding, "p", HEAD, pieces_of([f" token{number}" for number in range(20)])))
    browser.point(cell(2, 3))
    assert browser.ask(PLACE) == "Layer 2, token 3"
    browser.ask(f"document.querySelector('{cell(1, 1)}').focus()")
    browser.press("End")  # scrolls another cell under the pointer
    browser.ask("document.getElementById('scroller').scrollLeft")
    browser.picture()
    assert browser.ask(PLACE) == "Layer 1, token 60"


@needs_browser
def test_arrows_between_rows_of_different_length(visit):
    decoding, page = hostile_page("own")
    lengths = [len(row.ids) for row in decoding.rows]
    assert len(set(lengths)) > 1
    browser = visit(page)
    longest = lengths.index(max(lengths)) + 1
    browser.ask(f"document.querySelector('{cell(longest, max(lengths))}').focus()")
    for row in range(longest + 1, len(lengths) + 1):
        browser.press("ArrowDown")
        assert browser.ask(PLACE) == f"Layer {row}, token {min(lengths[longest - 1 : row])}"


@needs_browser
def test_another_measure(real, visit):
    decoding, _, page = real
    browser = visit(page, height=1200)
    table = "[...document.querySelectorAll('#layers tbody tr')].map((row) => [...row.querySelectorAll('td')].map("
    for name, measure in [*measures_of(decoding).items()][::-1]:
        browser.click(f"input[value={name}]")
        assert browser.ask(f"{table}(cell) => cell.querySelector('small').textContent))") == measure.texts
        assert browser.ask(f"{table}(cell) => Number(/\\bs(\\d)/.exec(cell.className)[1])))") == measure.levels
        for end in ("meaning", "low", "high"):
            assert browser.ask(f"document.getElementById('{end}').textContent") == getattr(measure, end)
    browser.press("ArrowRight")  # from the first, by keyboard
    assert browser.ask("document.querySelector('#switch :checked').value") == "entropy"
    entropies = measures_of(decoding)["entropy"].texts
    assert browser.ask(f"{table}(cell) => cell.querySelector('small').textContent))") == entropies


@needs_browser
def test_hostile_tokens_are_shown_as_text(visit):
    decoding, page = hostile_page()
    browser = visit(page, height=1200)
    for number, row in enumerate(decoding.rows, 1):
        for step, token in enumerate(row.ids, 1):
            browser.ask(f"document.querySelector('{cell(number, step)}').focus()")
            assert details(browser)["token"] == shown_alone(HOSTILE[token])
    assert browser.ask("document.title") == r"What every layer of <b>\u202e would have said"
    assert browser.ask("document.images.length + document.scripts.length") == 2  # the data and the page's own
    assert "<script>document.title" in browser.ask("document.querySelector('.prompt').textContent")


@needs_browser
def test_an_injected_script_would_not_run(visit, browser):
    _, page = hostile_page()
    visit(page.replace("<main>", "<main><script>document.title = 'owned'</script>", 1))
    assert browser.ask("document.title") != "owned"
    assert "Content Security Policy" in browser.complaints.pop()["text"]


CONTRASTS = """(() => {
    const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const painted = (...colours) => {
        for (const colour of colours) { brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1); }
        return [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const linear = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const behind = (element) =>
        element ? [...behind(element.parentElement), getComputedStyle(element).backgroundColor] : ["white"];
    const text = [...document.body.querySelectorAll("*")].filter((element) =>
        element.checkVisibility() && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
    const seen = {};
    for (const element of text) {
        const back = behind(element);
        const [a, b] = [luminance(painted(...back)), luminance(painted(...back, getComputedStyle(element).color))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const name = `${element.tagName}.${element.className} ${element.parentElement.className}`;
        seen[name] = Math.min(seen[name] ?? 99, ratio);
    }
    return seen;
})()"""


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_every_shade(visit, scheme):
    """WCAG 2.2, 1.4.3 (AA): 4.5 to 1, for all text of a page that has every shade under both kinds of token."""
    row = LayerRow(
        1, (0,) * 18, False, tuple(math.log((0.5 + i // 2) / 9) for i in range(18)), (0.0,) * 18, (0.0,) * 18, (1,) * 18
    )
    last = LayerRow(
        2, (0, 1) * 9, False, *(row.logprob_nats, row.entropy_bits, row.kl_to_final_bits, row.final_token_rank)
    )
    page = render_page(LayerDecoding("shared", 2, (0,), 18, (row, last), (1,) * 18), "p", HEAD, pieces_of(["a", "b"]))
    assert {f"s{level}" for level in range(SHADES)} <= {c.get("class").split()[0] for c in cells_of(parsed(page))[0]}
    contrasts = visit(page, scheme=scheme).ask(CONTRASTS)
    assert len(contrasts) > 15
    assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}


@needs_browser
def test_without_its_script_the_page_is_still_whole(real, visit):
    _, _, page = real
    browser = visit(page, script=False)
    assert browser.ask("document.getElementById('details').checkVisibility()") is False
    assert browser.ask("document.getElementById('switch').checkVisibility()") is False
    assert browser.ask("document.querySelectorAll('#layers tbody td small').length") == 12 * 16
    assert browser.ask("document.querySelector('.rows').checkVisibility()") is True


@needs_browser
def test_a_narrow_screen_scrolls_the_table_and_nothing_else(real, visit):
    browser = visit(real[2], width=400)
    assert browser.ask("document.documentElement.scrollWidth") <= 400
    edge = "document.querySelector('#layers tbody th').getBoundingClientRect().left"
    before = browser.ask(edge)
    browser.ask(f"document.querySelector('{cell(12, 16)}').focus()")
    assert browser.ask("document.getElementById('scroller').scrollLeft") > 0
    assert browser.ask(edge) == before


@needs_browser
@pytest.mark.parametrize("key, layer, step", [("ArrowLeft", 6, 8), ("ArrowDown", 7, 9)])
def test_nothing_lies_over_the_cell_that_has_the_focus(real, visit, key, layer, step):
    """WCAG 2.2, 2.4.11: the next cell, put under the row's label or under the details first, comes out of there."""
    browser = visit(real[2], width=400)
    browser.ask(f"document.querySelector('{cell(6, 9)}').focus()")
    browser.ask(
        f"""(() => {{
            const scroller = document.getElementById("scroller");
            const box = document.querySelector("{cell(layer, step)}").getBoundingClientRect();
            if ("{key}" === "ArrowLeft") scroller.scrollLeft += box.left - scroller.getBoundingClientRect().left - 5;
            else scrollBy(0, box.bottom - innerHeight + 30);
        }})()"""
    )
    assert not browser.ask(uncovered(cell(layer, step)))
    browser.press(key)
    assert browser.ask(f"{SELECTED} === document.querySelector('{cell(layer, step)}')")
    assert browser.ask(uncovered(cell(layer, step)))


def uncovered(selector):
    """An expression: whether an element is on top at two of its corners."""
    return f"""(() => {{
        const element = document.querySelector("{selector}"), box = element.getBoundingClientRect();
        return [[box.left + 4, box.top + 4], [box.right - 4, box.bottom - 4]].every(
            ([x, y]) => element.contains(document.elementFromPoint(x, y)));
    }})()"""


@needs_browser
def test_on_paper_every_column_is_there_once(visit):
    decoding = made_up(12, 40, 2, 50)
    texts = [f" token{number}" if number % 3 else "," for number in range(50)]
    browser = visit(render_page(decoding, "p", HEAD, pieces_of(texts)))
    browser.ask("dispatchEvent(new Event('beforeprint'))")
    headings = "[...document.querySelectorAll('.panels thead small')].map((step) => Number(step.textContent))"
    assert browser.ask(headings) == list(range(1, 41))
    assert browser.ask("document.querySelectorAll('.panels tbody tr').length") % 12 == 0
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.call("Emulation.setDeviceMetricsOverride", width=680, height=1000, deviceScaleFactor=1, mobile=False)
    assert browser.ask("Math.max(...[...document.querySelectorAll('.panels table')].map((t) => t.offsetWidth))") <= 680
    browser.call("Emulation.setEmulatedMedia", media="")
    browser.ask("dispatchEvent(new Event('afterprint'))")
    assert browser.ask("document.querySelector('.panels')") is None
    assert browser.paper().startswith(b"%PDF")
