"""The page's networks against torch, step by step, and what a reader does with them: of the committed networks."""

import base64
import json
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from diffplast.core import params, seeds
from diffplast.core.exact.convolution import naive
from diffplast.page import portrait, report
from diffplast.report import results
from diffplast.tasks.maze.experiment.env import MazeEnv
from diffplast.tasks.omniglot.experiment.head import naive_logits
from diffplast.tasks.omniglot.page.lab import habits

from .browser import WIDTHS, opened
from .made_up import ROOT

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
SCALE = "laptop"


@pytest.fixture(scope="module")
def found():
    """The committed results."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return results.read_all(SCALE, params.read())


@pytest.fixture(scope="module")
def file(found, tmp_path_factory):
    """The page of the committed results."""
    path = tmp_path_factory.mktemp("page") / "index.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        path.write_text(report.page(SCALE, found, []), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(browser, file):
    """The page on a desk, one for all tests: what one leaves in a laboratory no other reads."""
    with opened(browser, file, WIDTHS["desktop"]) as page:
        yield page


def trained(found, task, arm):
    """The task of the committed run of an arm, and its network in torch."""
    results = found[task]
    (run,) = [run for run in results.finished(arm) if run.run.seed == 0]
    settings = getattr(results.block, SCALE)
    task = results.kind(results.block.experiment, settings, arm, torch.device("cpu"))
    network = task.network(seeds.generator(0, "init"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        network.load_state_dict({name: torch.from_numpy(value) for name, value in run.network().items()})
    return task, network


def numbers(text, *shape):
    """The float32 numbers that the page returned, as base64."""
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(shape)


# What passes between test and page is text: playwright takes long for lists of numbers.
RETURN = """
  const read = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const sent = (all) => {
    const bytes = new Uint8Array(Float32Array.from(all).buffer), parts = [];
    for (let i = 0; i < bytes.length; i += 8192) parts.push(String.fromCharCode(...bytes.subarray(i, i + 8192)));
    return btoa(parts.join(""));
  };"""

WALK = """(given) => {""" + RETURN + """
  const { arm, goal, moved, chance } = JSON.parse(given);
  const [networks, data] = laboratory.contents(document.querySelector(".lab.maze"));
  const walk = new laboratory.Walk(networks[arm], data.agents[arm].inputs, data), size = data.walls.length;
  const cell = (index) => [Math.floor(index / size), index % size], x = [], actions = [], rewards = [];
  goal.forEach((each, b) => {
    walk.start();
    chance.forEach((row, t) => {
      walk.step(cell(each), true, row[b], cell(moved[t][b]));
      x.push(...walk.neurons.x);
      actions.push(walk.action);
      rewards.push(walk.reward);
    });
  });
  return [x, actions, rewards].map(sent);
}"""


def test_nothing_is_computed_before_a_reader_comes_near(page):
    board, score = page.locator(".lab.maze .board"), page.locator(".lab.binary_small .score").first
    assert page.evaluate("[...document.querySelectorAll('.lab svg')].every((svg) => !svg.children.length)")
    board.scroll_into_view_if_needed()
    playwright.expect(board.locator(".goal")).to_have_count(1)
    score.scroll_into_view_if_needed()
    playwright.expect(score).not_to_be_empty()


@pytest.mark.parametrize(("place", "arm", "count"), [(0, "plastic", 20), (1, "nonplastic", 20), (2, "homogeneous", 2)])
def test_the_agents_act_as_in_torch(page, found, place, arm, count):
    task, network = trained(found, "maze", arm)
    e, episodes = task.experiment, task.episodes("test", seeds.generator(1, "evaluation"), count)
    mazes = MazeEnv(count, e.size, e.steps, e.goal_reward, e.bump_reward, task.settings.inputs)
    observation, _ = mazes.reset(options={"goal": episodes.goal, "moved_to": episodes.moved_to})
    neurons, states, actions, rewards = network.start(count), [], [], []
    with torch.no_grad():
        for chance in episodes.chance:
            states.append(neurons.step(network.sense(torch.from_numpy(observation))).numpy().copy())
            shares = torch.softmax(network.act(torch.from_numpy(states[-1]))[:, :-1], -1).cumsum(-1)[:, :-1]
            actions.append((shares.numpy() <= chance[:, None]).sum(axis=1))
            observation, reward, *_ = mazes.step(actions[-1])
            rewards.append(reward)
    given = {"goal": episodes.goal, "moved": episodes.moved_to, "chance": episodes.chance.astype(float)}
    given = {key: value.tolist() for key, value in given.items()} | {"arm": place}
    x, acted, got = page.evaluate(WALK, json.dumps(given))
    assert np.array_equal(numbers(acted, count, -1).T, actions)
    np.testing.assert_allclose(numbers(got, count, -1).T, rewards, atol=1e-5)
    difference = numbers(x, count, e.steps, e.neurons).swapaxes(0, 1) - states
    assert np.abs(difference).max() < 1e-3, np.abs(difference).max()


RESTORE = """(given) => {""" + RETURN + """
  const { place, patterns, order, cues } = JSON.parse(given);
  const [networks, data] = laboratory.contents(document.querySelector(".lab.binary_small"));
  const completion = new laboratory.Completion(networks[place], data.networks[place].times, data.bits);
  return sent(patterns.flatMap((pair, b) => completion.run(pair, order[b], cues[b]).flatMap((x) => [...x])));
}"""


@pytest.mark.parametrize(("place", "arm"), [(0, "plastic_long"), (1, "plastic")])
def test_patterns_are_restored_as_in_torch(page, found, place, arm):
    task, network = trained(found, "binary_small", arm)
    e, count = task.experiment, 20
    times = e.long_times if arm == "plastic_long" else e.times
    episodes = task.episodes("test", seeds.generator(1, "evaluation"), count)
    with torch.no_grad():
        states = network(episodes.inputs, episodes.clamped).numpy()
    # The patterns, and the order they are shown in: from the inputs, which begin with the first one.
    slots = episodes.inputs[:, :, :-1].numpy()[: -times.test : times.shown + times.gap].swapaxes(0, 1)
    order = (slots != slots[:, :1]).any(axis=-1).astype(int)
    patterns = [[slots[b, 0], slots[b, order[b].argmax()]] for b in range(count)]
    given = {"patterns": patterns, "order": order, "cues": episodes.inputs[-1, :, :-1]}
    given = {key: np.asarray(value).tolist() for key, value in given.items()} | {"place": place}
    x = page.evaluate(RESTORE, json.dumps(given))
    x = numbers(x, count, times.steps, e.bits + 1).swapaxes(0, 1)
    assert np.abs(x - states).max() < 1e-3, np.abs(x - states).max()
    assert np.array_equal(np.sign(x[-1, :, :-1]), np.sign(states[-1, :, :-1]))


NAME = """(given) => {""" + RETURN + """
  const [[network], data] = laboratory.contents(document.querySelector(".lab.omniglot"));
  const naming = new laboratory.Naming(network, data.ways, data.label_strength);
  const found = JSON.parse(given).map(({ drawings, labels }) => {
    const pixels = Float32Array.from(read(drawings), (ink) => ink / 255), count = data.side ** 2;
    const features = [0, 1, 2, 3, 4, 5].map((k) => naming.features(pixels.subarray(k * count, (k + 1) * count)));
    naming.forget();
    labels.forEach((label, k) => naming.show(features[k], label));
    return [features.flatMap((each) => [...each]), naming.name(features.at(-1))];
  });
  return [0, 1].map((k) => sent(found.flatMap((each) => each[k])));
}"""


def test_drawings_are_named_as_in_torch(page, found):
    _, network = trained(found, "omniglot", "plastic")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        kept = [run.examples() for run in found["omniglot"].finished("plastic")]
    characters = np.concatenate([np.concatenate(each["shown"]) for each in kept])  # (C, side, side)
    rng, count = np.random.default_rng(0), 20
    episodes = []
    for _ in range(count):
        shown = characters[rng.choice(len(characters), 5, replace=False)]
        asked = np.rot90(shown[rng.integers(5)], rng.integers(2))
        episodes.append((np.concatenate([shown, asked[None]]), rng.permutation(5)))
    drawings, labels = (torch.from_numpy(np.stack(part)) for part in zip(*episodes, strict=True))
    with torch.no_grad():
        pixels = drawings.flatten(0, 1).float() / 255
        features = naive(pixels, list(network.weights), list(network.biases)).unflatten(0, (count, 6))
        logits = naive_logits(
            features[:, :5], labels, features[:, 5:], network.weight, network.alpha, network.eta, network.strength
        )
        probabilities = logits[:, 0].softmax(-1).numpy()
    given = [
        {"drawings": base64.b64encode(each.numpy().tobytes()).decode(), "labels": label.tolist()}
        for each, label in zip(drawings, labels, strict=True)
    ]
    theirs, named = page.evaluate(NAME, json.dumps(given))
    assert np.abs(numbers(theirs, count, 6, -1) - features.numpy()).max() < 1e-3
    named = numbers(named, count, 5)
    assert np.abs(named - probabilities).max() < 1e-3
    assert np.array_equal(named.argmax(-1), probabilities.argmax(-1))


def squares(locator):
    """Where the rectangles of a class are, (row, column) each."""
    return locator.evaluate_all("all => all.map((each) => ['y', 'x'].map((name) => Number(each.getAttribute(name))))")


def test_a_reader_makes_the_agents_search_for_another_goal(page):
    lab = page.locator(".lab.maze")
    board, play, steps = lab.locator(".board"), lab.locator(".play"), lab.locator(".sums text")
    board.scroll_into_view_if_needed()
    playwright.expect(lab.locator(".goal")).to_have_count(1)
    box = board.bounding_box()
    page.mouse.click(box["x"] + 0.05 * box["width"] + 2, box["y"] + 0.05 * box["height"] + 2)  # beside the corner
    playwright.expect(play).to_have_text("Pause")
    assert squares(lab.locator(".goal")) == [[1, 1]]
    lab.locator(".speed").fill("5")
    playwright.expect(steps).to_contain_text("step 250 of 250", timeout=30_000)
    playwright.expect(play).to_have_text("Play")
    found, total = lab.locator(".found span").first.text_content(), lab.locator(".big").first.text_content()
    assert found.startswith("found") == (float(total.replace("−", "-")) > 5)
    # By keyboard, the reward in the middle of an episode.
    lab.locator(".again").press("Enter")
    lab.locator(".step").press("Enter")
    assert "step 1 of 250" in steps.text_content()
    board.focus()
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert squares(lab.locator(".goal")) == [[3, 1]] and play.text_content() == "Pause"
    play.press("Enter")
    assert play.text_content() == "Play"
    lab.locator(".agent").first.select_option("plastic, before training")
    assert "step 0 of 250" in steps.text_content()


def test_a_reader_draws_a_character_and_it_is_recognised(page):
    lab = page.locator(".lab.omniglot")
    lab.scroll_into_view_if_needed()
    answer = lab.locator(".answer")
    playwright.expect(answer).not_to_be_empty()

    def draw(canvas, *lines):
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        for line in lines:
            points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in line]
            page.mouse.move(*points[0])
            page.mouse.down()
            for point in points[1:]:
                page.mouse.move(*point, steps=2)
            page.mouse.up()

    ring = [(0.5 + 0.3 * np.cos(t), 0.5 + 0.3 * np.sin(t)) for t in np.linspace(0, 6.2, 9)]
    own = [[[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]], [ring]]
    for place, lines in enumerate(own):
        lab.locator(".fields .clear").nth(place).click()
        draw(lab.locator(".fields canvas").nth(place), *lines)
    for place, lines in enumerate(own):
        lab.locator(".ask .clear").click()
        playwright.expect(lab.locator(".mark")).to_be_visible()
        smaller = [[(0.45 + 0.6 * (x - 0.5), 0.5 + 0.7 * (y - 0.5)) for x, y in line] for line in lines]
        draw(lab.locator(".ask canvas"), *smaller)
        playwright.expect(answer).to_have_text(f"It is number {place + 1}")
    lab.locator(".five").press("Enter")
    lab.locator(".another").press("Enter")
    playwright.expect(lab.locator(".named")).to_have_count(1)
    sure = lab.locator(".named output").text_content()
    lab.locator(".learns").press("Space")  # without plasticity it can only guess
    playwright.expect(lab.locator(".named output")).not_to_have_text(sure)


def test_a_reader_restores_a_pattern(page):
    lab = page.locator(".lab.binary_small")
    lab.scroll_into_view_if_needed()
    score, without = lab.locator(".score").first, lab.locator(".score").nth(1)
    playwright.expect(score).not_to_be_empty()
    pattern, cue = lab.locator(".pattern").first, lab.locator(".cue")
    before = pattern.locator("g").inner_html()
    pattern.click(position={"x": 5, "y": 5})
    assert pattern.locator("g").inner_html() != before
    given = cue.locator(".blank").count()
    assert given == 25
    cue.focus()
    page.keyboard.press("Enter")
    assert cue.locator(".blank").count() in (24, 26)

    def wrong(text):
        return 0 if text.startswith("all") else int(text.split()[0])

    counts = []
    for _ in range(5):
        lab.locator(".other").click()
        counts.append((wrong(score.text_content()), wrong(without.text_content())))
    restored, guessed = np.sum(counts, axis=0)
    assert restored <= 10 < 30 < guessed
    lab.locator(".time").press("ArrowLeft")
    assert score.text_content() == "" and "step 83 of 84" in lab.locator(".phase").text_content()
    lab.locator(".play").click()
    playwright.expect(lab.locator(".phase")).not_to_contain_text("step 83")


def test_answers_come_fast(page):
    naming = page.evaluate("""() => {
      const [[network], data] = laboratory.contents(document.querySelector(".lab.omniglot"));
      const naming = new laboratory.Naming(network, data.ways, data.label_strength);
      const drawing = new Float32Array(data.side ** 2).fill(0.5);
      return Math.min(...Array.from({ length: 12 }, () => {
        const begin = performance.now();
        naming.name(naming.features(drawing));
        return performance.now() - begin;
      }));
    }""")
    walking = page.evaluate("""() => {
      const [networks, data] = laboratory.contents(document.querySelector(".lab.maze"));
      const walk = new laboratory.Walk(networks[0], data.agents[0].inputs, data), begin = performance.now();
      for (let t = 0; t < data.steps; t++) walk.step([1, 1]);
      return data.steps / (performance.now() - begin) * 1000;
    }""")
    assert naming < 50 and walking > 2 * 60, (naming, walking)


@pytest.mark.parametrize(("width", "scheme"), [("phone", "dark"), ("desktop", "light")])
def test_no_serious_fault_of_accessibility(page, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page.set_viewport_size({"width": WIDTHS[width], "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.locator(".lab.omniglot .another").click()
    assert page.evaluate("document.documentElement.scrollWidth") == WIDTHS[width]
    parts = {"include": [[".lab"], [".intro"]]}
    faults = axe.Axe().run(page, context=parts, options={"resultTypes": ["violations"]}).response["violations"]
    serious = [fault for fault in faults if fault["impact"] in ("serious", "critical")]
    assert not serious, [(fault["help"], fault["nodes"][0]["html"]) for fault in serious]


def test_the_pictures_of_the_introduction_begin_with_an_empty_trace():
    weight, alpha = np.diag([1.0, -1.0, 0.0]), np.full((3, 3), 0.5)
    traces = np.linspace(0, 1, 10)[1:, None, None] * np.eye(3)
    tiles = portrait.tiles(portrait.Portrait(weight, alpha, traces, "nothing happens", "no run"))
    assert [(tile.sign, tile.frames) for tile in tiles] == [("", 1), ("+", 1), ("×", 26), ("=", 26)]
    pictures = [Image.open(BytesIO(base64.b64decode(tile.source.partition(",")[2]))).convert("RGBA") for tile in tiles]
    w, _, h, total = (np.asarray(picture) for picture in pictures)
    assert tuple(w[0, 0, :3]) == portrait.ABOVE and tuple(w[1, 1, :3]) == portrait.BELOW
    assert w[0, 0, 3] == w[1, 1, 3] > 0 == w[2, 2, 3] == w[0, 1, 3]
    assert h.shape == (78, 3, 4) and not h[:3, :, 3].any() and (h[-3:, :, 3] == 255 * np.eye(3)).all()
    assert (total[:3] == w).all() and total[-1, 2, 3] > 0


def test_how_drawings_look_is_measured_of_their_lines():
    drawing = np.zeros((1, 31, 31), np.uint8)
    drawing[0, 10:13, 4:26] = 255  # 3 wide, 22 long, 4 above the middle and half a pixel to the left
    found = habits(drawing)
    assert found["stroke"] == pytest.approx(3, abs=0.4)
    assert found["least"] == found["most"] == 22 and 3 < found["aside"] <= 4
