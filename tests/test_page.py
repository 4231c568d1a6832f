"""The page in a browser: it draws, answers, asks nothing of any network, and can be used without a mouse or eyes."""

import pytest

from diffplast.core import params, registry
from diffplast.page import report
from diffplast.report import curves, figures, results

from .browser import WIDTHS, opened
from .made_up import Tree

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Results of every task, with the page made from them."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made = Tree(folder, seeds=(0, 1, 2))
        for name in registry.names():
            figures.write(made.read(name), folder / "reports" / made.scale)
        report.write(made.scale, results.read_all(made.scale, params.read()))
    return made


@pytest.fixture(autouse=True)
def inside(tree, monkeypatch):
    """The tests run in the project's folder."""
    monkeypatch.chdir(tree.folder)


def index(tree):
    """The file of the page."""
    return tree.folder / "reports" / tree.scale / "index.html"


@pytest.fixture(params=WIDTHS.values(), ids=WIDTHS)
def page(browser, tree, request):
    """The page, as wide as a phone and as a desk."""
    with opened(browser, index(tree), request.param) as page:
        yield page


def test_nothing_sticks_out_and_every_figure_is_drawn(page, tree):
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    pictures = page.locator("img")
    assert pictures.count() == 1 + sum(len(figures.names(name)) for name in registry.names())
    assert all(pictures.evaluate_all("all => all.map(img => img.complete && img.naturalWidth)"))
    for name in registry.names():
        seeds = page.locator(f"#{name} .curves .seed").count()
        assert seeds == 3 * page.locator(f"#{name} .curves .line").count()
        theirs = [arm for arm in curves.points(tree.read(name))["arms"] if arm["paper"]]
        assert page.locator(f"#{name} .curves .paper").count() == len(theirs)
        arms = page.locator(f"#{name} .curves .arm").count()
        assert page.locator(f"#{name} .curves .line").count() == arms > 0
        assert page.locator(f"#{name} .curves .still").is_hidden()


def test_curves_show_their_values(page, tree):
    found = tree.read("maze")
    curve = found.curves("plastic").median(axis=1)
    chart = page.locator("#maze .curves")
    cells, cursor, episode = chart.locator(".value"), chart.locator(".cursor"), chart.locator("output")

    cursor.focus()
    page.keyboard.press("End")
    assert episode.text_content() == f"{curve.index[-1]:,}"
    assert cells.first.text_content().startswith(report.numbers.number(float(curve.iloc[-1])))
    picture = chart.locator("svg[role=img]")
    picture.hover(position={"x": 60, "y": 50})
    assert episode.text_content() == f"{curve.index[0]:,}"
    assert cells.first.text_content().startswith(report.numbers.number(float(curve.iloc[0])))

    chart.locator(".arm").first.uncheck()
    assert chart.locator(".line").count() == len(found.arms) - 1
    assert cells.first.text_content() == "–" != cells.nth(1).text_content()
    line = chart.locator(".line").first
    linear = line.get_attribute("d")
    chart.locator(".log").check()
    assert line.get_attribute("d") != linear


def test_the_maze_plays_pauses_and_steps(page, tree):
    shown = tree.read("maze").finished("plastic")[0].examples()
    player = page.locator("figure.maze")
    now, late = player.locator("output.now"), player.locator(".panels output").nth(1)
    player.locator(".which").select_option("2")
    player.locator(".step").click()
    assert now.text_content() == "1"
    player.locator(".back").click()
    assert now.text_content() == "0"

    player.locator(".play").click()
    assert player.locator(".play").text_content() == "Pause"
    playwright.expect(now).not_to_have_text("0")
    player.locator(".play").click()
    stopped = now.text_content()
    page.wait_for_timeout(300)
    assert (now.text_content(), player.locator(".play").text_content()) == (stopped, "Play")

    player.locator(".time").focus()
    page.keyboard.press("End")
    rewards = shown["late_reward"][1].astype(float)
    assert late.text_content() == f"{(rewards > 0).sum()} times, reward {rewards.sum():.1f}"
    row, column = shown["late_path"][1][-1]
    agent = player.locator(".panels circle").nth(1)
    assert (float(agent.get_attribute("cy")), float(agent.get_attribute("cx"))) == (10 * row + 5, 10 * column + 5)


def test_runs_are_sorted_by_what_is_clicked(page):
    table = page.locator("table.sortable", has=page.get_by_role("columnheader", name="Episodes")).first
    head = table.get_by_role("columnheader", name="Episodes")

    def episodes():
        return [int(text.replace(",", "")) for text in table.locator("tbody td:nth-child(4)").all_text_contents()]

    unsorted = episodes()
    head.get_by_role("button").click()
    assert episodes() == sorted(unsorted) != unsorted
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert episodes() == sorted(unsorted, reverse=True)
    table.get_by_role("button", name="Arm").click()
    arms = table.locator("tbody td:nth-child(2)").all_text_contents()
    assert arms[0] == "homogeneous α" and arms[-1].startswith("plastic") and head.get_attribute("aria-sort") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault_of_accessibility(page, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page.emulate_media(color_scheme=scheme)
    page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    faults = axe.Axe().run(page).response["violations"]
    serious = [fault for fault in faults if fault["impact"] in ("serious", "critical")]
    assert not serious, [(fault["help"], fault["nodes"][0]["html"]) for fault in serious]


def test_failed_runs_leave_a_page_that_works(browser, tree):
    kept = {run.results / "metrics.json": (run.results / "metrics.json").read_text() for run in tree.runs("maze")}
    for run in tree.runs("maze"):
        tree.fail(run)
    report.write(tree.scale, results.read_all(tree.scale, params.read()))
    with opened(browser, index(tree), WIDTHS["desktop"]) as page:
        assert page.locator("#maze .curves .line").count() == 0
        assert "plastic (3/3 failed)" in page.locator("#maze .curves tbody th").first.inner_text()
        assert page.locator("#binary .curves .line").count() == 3 and page.locator("figure.maze").count() == 0
    for path, text in kept.items():
        path.write_text(text)
    report.write(tree.scale, results.read_all(tree.scale, params.read()))


def test_on_paper_and_without_scripts_the_still_figures_are_there(browser, page, tree):
    page.emulate_media(media="print")
    assert page.locator(".curves .still").first.is_visible() and page.locator(".curves .live").first.is_hidden()
    assert page.locator("figure.maze").is_hidden()
    assert page.locator(".lab").count() == 0  # no network is kept of these runs
    plain = browser.new_page(java_script_enabled=False)
    plain.goto(page.url)
    assert plain.locator(".curves .still").first.is_visible() and plain.locator("figure.maze").is_hidden()
    plain.close()
