"""The page's networks against torch, step by step, and what a reader does with them: of the committed networks."""

import base64

import numpy as np
import pytest
import torch

from diffplast.core import params, seeds
from diffplast.core.exact.convolution import naive
from diffplast.report import page as report
from diffplast.report import results
from diffplast.tasks.maze.experiment.env import MazeEnv
from diffplast.tasks.omniglot.experiment.head import naive_logits

from .browser import WIDTHS, opened
from .made_up import ROOT

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


@pytest.fixture
def page(browser, file):
    """The page on a desk."""
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


RETURN = """
  const sent = (all) => {
    const bytes = new Uint8Array(Float32Array.from(all).buffer), parts = [];
    for (let i = 0; i < bytes.length; i += 8192) parts.push(String.fromCharCode(...bytes.subarray(i, i + 8192)));
    return btoa(parts.join(""));
  };"""

WALK = """({ arm, goal, moved, chance }) => {""" + RETURN + """
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
  return [sent(x), actions, rewards];
}"""


@pytest.mark.parametrize(("place", "arm", "count"), [(0, "plastic", 20), (1, "nonplastic", 20), (2, "homogeneous", 4)])
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
    x, acted, got = page.evaluate(WALK, {key: value.tolist() for key, value in given.items()} | {"arm": place})
    assert np.array_equal(np.reshape(acted, (count, -1)).T, actions)
    np.testing.assert_allclose(np.reshape(got, (count, -1)).T, rewards, atol=1e-5)
    difference = numbers(x, count, e.steps, e.neurons).swapaxes(0, 1) - states
    assert np.abs(difference).max() < 1e-3, np.abs(difference).max()


RESTORE = """({ place, patterns, order, cues, learns }) => {""" + RETURN + """
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
    x = page.evaluate(RESTORE, {key: np.asarray(value).tolist() for key, value in given.items()} | {"place": place})
    x = numbers(x, count, times.steps, e.bits + 1).swapaxes(0, 1)
    assert np.abs(x - states).max() < 1e-3, np.abs(x - states).max()
    assert np.array_equal(np.sign(x[-1, :, :-1]), np.sign(states[-1, :, :-1]))


NAME = """({ episodes }) => {""" + RETURN + """
  const [[network], data] = laboratory.contents(document.querySelector(".lab.omniglot"));
  const naming = new laboratory.Naming(network, data.ways, data.label_strength);
  const found = episodes.map(({ drawings, labels }) => {
    const features = drawings.map((drawing) => naming.features(Float32Array.from(drawing, (ink) => ink / 255)));
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
    given = [{"drawings": d.flatten(1).tolist(), "labels": k.tolist()} for d, k in zip(drawings, labels, strict=True)]
    theirs, named = page.evaluate(NAME, {"episodes": given})
    assert np.abs(numbers(theirs, count, 6, -1) - features.numpy()).max() < 1e-3
    named = numbers(named, count, 5)
    assert np.abs(named - probabilities).max() < 1e-3
    assert np.array_equal(named.argmax(-1), probabilities.argmax(-1))
