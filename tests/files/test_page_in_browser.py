"""The page in a browser: pointer and keyboard reach all of it, and it can be read on any screen and on paper."""

import math
from dataclasses import replace

import pytest

from browser import CONTROL, Browser, find_browser
from layer_decoding.files.page.page import render_page
from layer_decoding.files.page.shading import SHADES, shaded_tables
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.results.measures import long_percent
from pages import (
    HEAD,
    HOSTILE,
    cells_of,
    hostile_page,
    made_up,
    made_up_whys,
    parsed,
    pieces_of,
    shown_alone,
    two_lenses,
)

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
            long_percent(math.exp(row["logprob_nats"][step - 1])),
            f"{row['entropy_bits'][step - 1]:.2f}",
            f"{row['kl_to_final_bits'][step - 1]:.2f}",
            f"{row['final_token_rank'][step - 1]:,}",
            f"{row['surprise_bits'][step - 1]:.2f}",
        ],
        "candidates": [shown_alone(c["token"]) + long_percent(c["probability"]) for c in row["candidates"][step - 1]],
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
def test_pointing_at_a_cell_shows_what_lies_behind_it(real_page, visit):
    _, document, page = real_page
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
def test_the_table_by_keyboard_alone(real_page, visit):
    _, document, page = real_page
    browser = visit(page)
    stops = []
    for _ in range(5):
        browser.press("Tab")
        stops.append(browser.ask(f"{SELECTED}.id || {SELECTED}.value || {SELECTED}.tagName"))
    assert stops == ["SPAN", "shading", "numbered", "probability", "TD"]  # one for the text, one for the table
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
def test_another_measure(real_page, visit):
    decoding, _, page = real_page
    browser = visit(page, height=1200)
    table = "[...document.querySelectorAll('#layers tbody tr')].map((row) => [...row.querySelectorAll('td')].map("
    for name, measure in [*shaded_tables(decoding).items()][::-1]:
        browser.click(f"input[value={name}]")
        assert browser.ask(f"{table}(cell) => cell.querySelector('small').textContent))") == measure.texts
        assert browser.ask(f"{table}(cell) => Number(/\\bs(\\d)/.exec(cell.className)[1])))") == measure.levels
        for end in ("meaning", "low", "high"):
            assert browser.ask(f"document.getElementById('{end}').textContent") == getattr(measure, end)
    browser.press("ArrowRight")  # from the first, by keyboard
    assert browser.ask("document.querySelector('#switch :checked').value") == "entropy"
    entropies = shaded_tables(decoding)["entropy"].texts
    assert browser.ask(f"{table}(cell) => cell.querySelector('small').textContent))") == entropies


WORDS = "[...document.querySelectorAll('#text [title]')]"
COST = "document.getElementById('cost').textContent"


def numbers(row):
    return [f"{bits:.2f}" for bits in row["surprise_bits"]]


@needs_browser
def test_the_text_in_the_shades_of_any_layer(real_page, visit):
    _, document, page = real_page
    browser = visit(page)
    for layer in (12, 3):
        row = document["rows"][layer - 1]
        browser.ask(f"(document.getElementById('shading').value = 'layer {layer}', null)")
        browser.ask("document.getElementById('shading').dispatchEvent(new Event('change'))")
        assert browser.ask(f"{WORDS}.map((word) => word.title)") == [f"{number} bits" for number in numbers(row)]
        levels = [f"s{min(8, int(9 * bits / max(row['surprise_bits'])))}" for bits in row["surprise_bits"]]
        assert browser.ask(f"{WORDS}.map((word) => word.className)") == levels
        assert browser.ask("document.getElementById('most-surprised').textContent") == max(numbers(row), key=float)
        browser.point("#text [title]:nth-child(5)")
        word = shown_alone(document["rows"][-1]["tokens"][3]).strip()
        assert browser.ask(COST) == f"“{word}”: {numbers(row)[3]} bits to layer {layer}"


@needs_browser
def test_the_text_by_keyboard_alone_and_its_numbers_on_demand(real_page, visit):
    _, document, page = real_page
    wanted = numbers(document["rows"][-1])
    browser = visit(page)
    browser.press("Tab")
    for key, step in [(None, 0), ("ArrowRight", 1), ("End", 15), ("ArrowRight", 15), ("ArrowLeft", 14), ("Home", 0)]:
        if key:
            browser.press(key)
        assert f": {wanted[step]} bits to layer 12" in browser.ask(COST)
        assert browser.ask("document.getElementById('spoken').textContent") == browser.ask(COST)
        assert browser.ask(f"{WORDS}.indexOf({SELECTED})") == step
        assert browser.ask("document.querySelectorAll('#text [tabindex=\"0\"]').length") == 1
    visible = f"{WORDS}.map((word) => word.querySelector('small').checkVisibility())"
    assert not any(browser.ask(visible))
    browser.click("#numbered")
    assert all(browser.ask(visible))
    assert browser.ask(f"{WORDS}.map((word) => word.querySelector('small').textContent)") == wanted


def of_cells(expression):
    """What an expression of a `cell` is for each of the table's."""
    return f"""[...document.querySelectorAll('#layers tbody tr')].map((row) =>
        [...row.querySelectorAll('td')].map((cell) => {expression}))"""


TOKENS = of_cells("[...cell.childNodes].filter((n) => n.nodeName !== 'SMALL').map((n) => n.textContent).join('')")
BELOW = of_cells("cell.querySelector('small').textContent")
PARTED = of_cells("cell.classList.contains('parted')")


@needs_browser
def test_another_lens(visit):
    """The table, the details of a cell and the measures follow the switch, and come back."""
    both, page = two_lenses()
    browser = visit(page, height=1400)
    rows = [row for decoding in both for row in decoding.rows]
    for number in (1, 0):
        decoding, measures = both[number], shaded_tables(both[number], rows)
        browser.click(f"input[name=lens][value='{number}']")
        assert browser.ask(TOKENS) == [[shown_alone(HOSTILE[token]) for token in row.ids] for row in decoding.rows]
        browser.click("input[value=kl]")
        assert browser.ask(BELOW) == measures["kl"].texts
        browser.click("input[value=probability]")
        assert browser.ask(BELOW) == measures["probability"].texts
        browser.point(cell(2, 3))
        assert details(browser)["token"] == shown_alone(HOSTILE[decoding.rows[1].ids[2]])
        assert details(browser)["numbers"] == [measure.texts[1][2] for measure in measures.values()]
        assert browser.ask(f"{WORDS}.map((word) => word.title)") == [
            f"{bits:.2f} bits" for bits in decoding.final_row.surprise_bits
        ]
        browser.ask("(document.getElementById('shading').value = 'layer 2', null)")
        browser.ask("document.getElementById('shading').dispatchEvent(new Event('change'))")
        assert browser.ask(f"{WORDS}.map((word) => word.title)") == [
            f"{bits:.2f} bits" for bits in decoding.rows[1].surprise_bits
        ]
        browser.point("#text [title]")
        assert browser.ask(COST).endswith(f" bits to layer 2 through the {decoding.lens} lens")
        browser.ask("(document.getElementById('shading').value = 'layer 5', null)")
        footer = browser.ask("[...document.querySelectorAll('#layers tfoot td')].map((cell) => cell.textContent)")
        assert footer == list(map(str, decoding.settles_at))
        shown = browser.ask("[...document.querySelectorAll('[data-notes]')].map((notes) => notes.checkVisibility())")
        assert shown == [number == 0, number == 1, False]
        assert f"Read through the {decoding.lens} lens" in browser.ask("document.querySelector('main').innerText")


@needs_browser
def test_where_the_lenses_differ(visit):
    both, page = two_lenses()
    browser = visit(page, height=1400)
    before = browser.ask("document.getElementById('layers').outerHTML")
    browser.click("input[name=lens][value=all]")
    names = [[[shown_alone(HOSTILE[token]) for token in row.ids] for row in decoding.rows] for decoding in both]
    differ = [[one != other for one, other in zip(*rows, strict=True)] for rows in zip(*names, strict=True)]
    assert browser.ask(TOKENS) == names[0]
    assert browser.ask(PARTED) == differ
    below = [[b if d else "\xa0" for b, d in zip(*rows, strict=True)] for rows in zip(names[1], differ, strict=True)]
    assert browser.ask(BELOW) == below
    assert browser.ask("document.getElementById('switch').disabled") is True
    assert browser.ask("document.querySelectorAll('#layers .settles').length") == 0
    row, step = next((r, s) for r in range(4) for s in range(8) if differ[r][s])
    browser.ask(f"document.querySelector('{cell(row + 1, step + 1)}').focus()")
    said = f"plain: “{names[0][row][step]}”, linear: “{names[1][row][step]}”"
    assert browser.ask("document.getElementById('agreement').textContent") == said
    assert said in browser.ask("document.getElementById('spoken').textContent")
    assert all(" · " in number for number in details(browser)["numbers"])
    assert len(details(browser)["candidates"]) == 2 * (1 + 3)
    browser.ask(f"document.querySelector('{cell(1, 1)}').focus()")
    browser.click("input[name=lens][value='0']")
    assert browser.ask("document.getElementById('layers').outerHTML") == before


@needs_browser
def test_bars_of_the_column_pointed_at(visit):
    decoding = made_up(3, 4, 2, len(HOSTILE))
    whys = made_up_whys(decoding)
    browser = visit(render_page(decoding, "p", HEAD, pieces_of(HOSTILE), whys), height=1400)
    for step in (3, 2):
        browser.point(cell(2, step))
        why, most = whys[step - 1], max(abs(part.logit) for part in whys[step - 1].parts)
        said = browser.ask("document.getElementById('why-step').textContent")
        assert said.startswith(f"Step {step}: the logit of {shown_alone(HOSTILE[why.token])} less that of ")
        assert said.endswith(f"{shown_alone(HOSTILE[why.against])}, part by part: {why.difference:+.3f}.")
        lines = browser.ask("[...document.querySelectorAll('#parts div')].map((line) => line.textContent)")
        assert lines == [f"{part.name}{round(part.logit, 3) + 0.0:+.3f}" for part in why.parts]
        reach = """[...document.querySelectorAll('#parts .track')].map((track) => {
            const [all, bar] = [track, track.firstChild].map((each) => each.getBoundingClientRect());
            const middle = all.left + all.width / 2;
            return (bar.left < middle - 0.5 ? bar.left - middle : bar.right - middle) / all.width;
        })"""
        shares = [part.logit / most / 2 for part in why.parts]
        assert browser.ask(reach) == pytest.approx(shares, abs=0.02)


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
    chances = tuple(math.log((0.5 + i // 2) / 9) for i in range(18))
    row = LayerRow(1, (0,) * 18, False, chances, (0.0,) * 18, (0.0,) * 18, (1,) * 18, tuple(map(float, range(18))))
    last = replace(row, layer=2, ids=(0, 1) * 9)
    decoding = LayerDecoding("shared", 2, (0,), 18, (row, last), (1,) * 18)
    page = render_page(decoding, "p", HEAD, pieces_of(["a", "b"]), made_up_whys(decoding))
    assert {f"s{level}" for level in range(SHADES)} <= {c.get("class").split()[0] for c in cells_of(parsed(page))[0]}
    browser = visit(page, scheme=scheme)
    browser.click("#numbered")
    assert browser.ask("new Set([...document.querySelectorAll('#text [title]')].map((e) => e.className)).size") == 9
    contrasts = browser.ask(CONTRASTS)
    assert len(contrasts) > 15
    assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}


@needs_browser
def test_without_its_script_the_page_is_still_whole(real_page, visit):
    _, _, page = real_page
    browser = visit(page, script=False)
    assert browser.ask("document.getElementById('details').checkVisibility()") is False
    assert browser.ask("document.getElementById('switch').checkVisibility()") is False
    assert browser.ask("document.querySelectorAll('#layers tbody td small').length") == 12 * 16
    assert browser.ask("document.querySelector('.rows').checkVisibility()") is True
    assert browser.ask("document.getElementById('shading').checkVisibility()") is False
    assert browser.ask("document.querySelector('.shaded').nextElementSibling.innerText").startswith(
        "shaded by how surprised layer 12 is at each token, in bits"
    )


@needs_browser
def test_a_narrow_screen_scrolls_the_table_and_nothing_else(real_page, visit):
    browser = visit(real_page[2], width=400)
    assert browser.ask("document.documentElement.scrollWidth") <= 400
    edge = "document.querySelector('#layers tbody th').getBoundingClientRect().left"
    before = browser.ask(edge)
    browser.ask(f"document.querySelector('{cell(12, 16)}').focus()")
    assert browser.ask("document.getElementById('scroller').scrollLeft") > 0
    assert browser.ask(edge) == before


@needs_browser
@pytest.mark.parametrize("key, layer, step", [("ArrowLeft", 6, 8), ("ArrowDown", 7, 9)])
def test_nothing_lies_over_the_cell_that_has_the_focus(real_page, visit, key, layer, step):
    """WCAG 2.2, 2.4.11: the next cell, put under the row's label or under the details first, comes out of there."""
    browser = visit(real_page[2], width=400)
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
