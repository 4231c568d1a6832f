"""Omniglot: what an episode is made of, and the head against the paper's equations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diffplast.core.errors import UserError
from diffplast.core.task import HeldOut
from diffplast.core.training import new_network, train
from diffplast.evaluation import evaluate
from diffplast.tasks.omniglot.experiment.task import Omniglot, PlasticHead
from tests.helpers import no_checkpoint

CLASSES, PER_CLASS = 22, 6
ARMS = list(Omniglot.arms)
EXPERIMENT = {
    "ways": 5, "shots": 1, "side": 31, "features": 8, "label_strength": 1000.0, "init_weight": 0.01,
    "init_alpha": 1.0, "eta": 0.1, "lstm_hidden": 16,
}  # fmt: skip
SETTINGS = {
    "episodes": 30, "batch": 15, "lr": 1e-3, "adam_eps": 1e-8, "decay": None, "clip": None, "stop_below": None,
    "curve_every": 12, "groupings": None, "precision": "float32",
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """The networks here are too small for two threads, which wait for each other where other work runs beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tagged_data():
    """Drawings whose pixels tell what they are: class and number in two pixels, the turn by their corner."""
    drawings = np.zeros((CLASSES, PER_CLASS, 31, 31), np.uint8)
    drawings[..., 0, 0] = 100 + np.arange(CLASSES)[:, None]
    drawings[..., 0, 1] = 200 + np.arange(PER_CLASS)
    return {"drawings": drawings, "train_classes": np.arange(0, 16), "test_classes": np.arange(16, CLASSES)}


def random_data():
    """Drawings of which those of one class resemble each other."""
    rng = np.random.default_rng(1)
    prototypes = rng.random((CLASSES, 1, 31, 31)) < 0.2
    drawings = np.where(rng.random((CLASSES, PER_CLASS, 31, 31)) < 0.9, prototypes, False)
    return {**tagged_data(), "drawings": (255 * drawings).astype(np.uint8)}


def make(arm="plastic", data=random_data, experiment=(), **settings):
    """A task small enough for a test."""
    return Omniglot(
        Omniglot.Experiment(**EXPERIMENT | dict(experiment)),
        Omniglot.Settings(**SETTINGS | settings),
        arm,
        torch.device("cpu"),
        data(),
    )


def tags(pixels):
    """(class, drawing, turn) of each tagged drawing in pixels (..., 31, 31)."""
    codes = (pixels * 255).round().int().numpy()
    found = np.empty((*codes.shape[:-2], 3), int)
    for where in np.ndindex(codes.shape[:-2]):
        turns = [np.rot90(codes[where], -turn) for turn in range(4)]
        (turn,) = [turn for turn in range(4) if turns[turn][0, 0] >= 100 and turns[turn][0, 1] >= 200]
        found[where] = turns[turn][0, 0] - 100, turns[turn][0, 1] - 200, turn
    return found


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("groupings, shots", [(None, 1), (None, 2), (1, 1), (3, 1), (10, 2)])
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_episode_is_what_the_paper_says(split, groupings, shots):
    task = make(data=tagged_data, experiment={"shots": shots}, groupings=groupings)
    drawn = task.episodes(split, generator(), 15)
    grouped = groupings is not None and split == "train"
    presentations, questions = (3 * groupings, 5) if grouped else (15, 1)
    assert drawn.tested.shape == (15, 31, 31) and drawn.shown.shape == (shots * (15 if grouped else 75), 31, 31)
    assert drawn.presented.shape == drawn.label.shape == (presentations, 5 * shots)
    assert drawn.asked.shape == drawn.answer.shape == (presentations, questions)
    shown_tags, tested_tags = tags(drawn.shown)[drawn.presented], tags(drawn.tested)[drawn.asked]
    assert set(shown_tags[..., 0].flat) <= set(task.data[f"{split}_classes"])
    for p in range(presentations):
        by_label = {}
        for (character, drawing, turn), label in zip(shown_tags[p], drawn.label[p].tolist(), strict=True):
            by_label.setdefault(label, []).append((character, drawing, turn))
        assert set(by_label) == set(range(5))
        assert len({rows[0][0] for rows in by_label.values()}) == 5, "five different characters"
        for rows in by_label.values():
            assert len({(character, turn) for character, _, turn in rows}) == 1, "one character, one turn"
        every = [tuple(row) for row in np.concatenate([shown_tags[p], tested_tags[p]])]
        assert len(set(every)) == len(every), "no drawing twice"
        for (character, _, turn), answer in zip(tested_tags[p], drawn.answer[p].tolist(), strict=True):
            assert (character, turn) == (by_label[answer][0][0], by_label[answer][0][2])


@pytest.mark.parametrize("groupings", [None, 1, 4])
def test_turns_labels_orders_and_answers_vary(groupings):
    task = make(data=tagged_data, groupings=groupings)
    counted = {name: 0 for name in ("turn", "answer", "character", "drawing", "place", "pair")}
    rng = generator()
    for _ in range(40 if groupings is None else 200):
        drawn = task.episodes("train", rng, 15)
        found = tags(drawn.shown)
        place = (drawn.label[:, None] == drawn.answer[..., None]).int().argmax(dim=2)  # when the tested one was shown
        pair = drawn.label * 16 + torch.from_numpy(found[drawn.presented, 0])
        for name, values, kinds in (
            ("turn", found[:, 2], 4), ("answer", drawn.answer, 5), ("character", found[:, 0], 16),
            ("drawing", found[:, 1], 6), ("place", place, 5), ("pair", pair[:, 0], 80),
        ):  # fmt: skip
            counted[name] += np.bincount(np.asarray(values).ravel(), minlength=kinds)
    assert counted.pop("pair").min() >= 1, "no character goes with a label"
    for name, counts in counted.items():
        assert counts.min() > 0.7 * counts.mean(), name


def test_groupings_are_different_ones():
    """Every tested drawing is asked for once in each grouping, among other characters."""
    drawn = make(groupings=8).episodes("train", generator(), 15)
    companions = [set() for _ in range(15)]
    for grouping in drawn.asked.split(3):
        assert sorted(grouping.flatten().tolist()) == list(range(15))
        for group in grouping.tolist():
            for member in group:
                companions[member] |= set(group) - {member}
    assert min(len(others) for others in companions) > 8


def test_pixels_are_ink_one_paper_zero():
    drawn = make().episodes("test", generator(), 4)
    assert set(drawn.shown.unique().tolist()) == {0.0, 1.0} and drawn.shown.dtype == torch.float32


def reference_episode(head, shown, label, tested):
    """One episode by the paper's equations, entry by entry: the softmax outputs for `tested` (F,)."""
    features, ways = head.weight.shape
    trace = [[torch.zeros((), dtype=shown.dtype) for _ in range(ways)] for _ in range(features)]

    def outputs(x, inputs):
        alpha = head.alpha.expand(features, ways)
        total = [
            sum((head.weight[i, j] + alpha[i, j] * trace[i][j]) * x[i] for i in range(features)) + inputs[j]
            for j in range(ways)
        ]
        return torch.softmax(torch.stack(total), dim=0)

    for x, k in zip(shown, label, strict=True):
        y = outputs(x, [head.label_strength * (j == k) for j in range(ways)])
        trace = [
            [trace[i][j] + head.eta * y[j] * (x[i] - y[j] * trace[i][j]) for j in range(ways)] for i in range(features)
        ]
    return outputs(tested, [0] * ways)


@pytest.mark.parametrize("arm", ["plastic", "homogeneous"])
@pytest.mark.parametrize("strength", [1000.0, 1.5], ids=["clamping", "weak"])
def test_head_equals_the_equations(arm, strength):
    """Also with labels too weak to clamp, where the trace depends on the weights."""
    torch.manual_seed(0)
    experiment = Omniglot.Experiment(
        **EXPERIMENT | {"features": 4, "label_strength": strength, "init_weight": 0.5, "eta": 0.3}
    )
    head = PlasticHead(arm, experiment).double()
    shown, tested = (torch.randn(2, n, 4, dtype=torch.float64, requires_grad=True) for n in (7, 2))
    label = torch.randint(5, (2, 7))
    ours = head(shown, F.one_hot(label, 5).double(), tested)
    theirs = torch.stack(
        [
            torch.stack([reference_episode(head, shown[p], label[p].tolist(), tested[p, q]) for q in range(2)])
            for p in range(2)
        ]
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn_like(ours)
    wanted = [*head.parameters(), shown, tested]
    for mine, other in zip(
        torch.autograd.grad(ours, wanted, cotangent), torch.autograd.grad(theirs, wanted, cotangent), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


def test_label_decides_the_output_and_so_the_trace():
    """With weights far above the usual, the trace of a class is still eta times the features shown with it."""
    experiment = Omniglot.Experiment(**EXPERIMENT | {"init_weight": 5.0})
    head = PlasticHead("plastic", experiment)
    shown, tested = torch.rand(2, 5, 8) * 2 - 1, torch.rand(2, 3, 8) * 2 - 1
    label = torch.stack([torch.randperm(5) for _ in range(2)])
    by_class = shown.gather(1, label.argsort(dim=1)[..., None].expand(-1, -1, 8))
    total = tested @ (head.weight + head.alpha * (head.eta * by_class).mT)
    torch.testing.assert_close(head(shown, F.one_hot(label, 5).float(), tested), torch.softmax(total, dim=-1))


@pytest.mark.parametrize("arm", ARMS)
def test_groupings_equal_presentations_of_their_own(arm):
    """Loss, its gradient and accuracy are those of the same presentations passed one by one."""
    task = make(arm, groupings=4)
    network = new_network(task, 0)
    drawn = task.episodes("train", generator(), 15)
    together = task.step(network, drawn)
    losses, correct = [], torch.zeros(15)
    for presented, label, asked, answer in zip(drawn.presented, drawn.label, drawn.asked, drawn.answer, strict=True):
        for number, right in zip(asked, answer, strict=True):
            single = replace(
                drawn, shown=drawn.shown[presented], presented=torch.arange(5)[None], label=label[None],
                tested=drawn.tested[number][None], asked=torch.zeros(1, 1, dtype=torch.long), answer=right.view(1, 1),
            )  # fmt: skip
            alone = task.step(network, single)
            losses.append(alone.loss)
            correct[number] += alone.metrics["accuracy"].item() / 4
    loss = torch.stack(losses).mean()
    torch.testing.assert_close(together.loss, loss)
    torch.testing.assert_close(together.metrics["accuracy"], correct)
    parameters = list(network.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(together.loss, parameters), torch.autograd.grad(loss, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_nonplastic_network_answers_alike_whatever_was_shown():
    """Alpha is 0: no trace, so the labels carry no information and accuracy stays at chance, trained or not."""
    task = make("nonplastic")
    network = new_network(task, 0)
    drawn = task.episodes("test", generator(), 6)
    answers = network(drawn)
    others = network(replace(drawn, presented=drawn.presented.flip(0), label=drawn.label.flip(1)))
    torch.testing.assert_close(answers, others)
    accuracy = evaluate(task, network, HeldOut(episodes=2000, batch=500), seed=0)["accuracy"]
    assert abs(accuracy - 0.2) < 0.04


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != "nonplastic"])
def test_other_networks_see_the_labels(arm):
    task = make(arm)
    network = new_network(task, 0)
    drawn = task.episodes("test", generator(), 6)
    assert not torch.equal(network(drawn), network(replace(drawn, label=4 - drawn.label)))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_same_seed_same_bits(precision):
    results = []
    for _ in range(2):
        trained = train(make(groupings=6, precision=precision), 3, no_checkpoint(), 1e9, "test")
        results.append((trained.curve, torch.cat([p.flatten() for p in trained.network.parameters()])))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_bf16_is_close_to_float32():
    features = []
    for precision in ("float32", "bf16"):
        task = make(precision=precision)
        drawn = task.episodes("train", generator(), 15)
        features.append(new_network(task, 0).features(drawn.shown))
    assert features[1].dtype == torch.float32
    torch.testing.assert_close(features[1], features[0], atol=2e-2, rtol=0)
    assert not torch.equal(*features)


def test_learns_training_characters():
    task = make(episodes=3600, batch=15, lr=3e-3, groupings=4, curve_every=600)
    accuracy = [v for _, name, v in train(task, 0, no_checkpoint(), 1e9, "test").curve if name == "accuracy"]
    assert accuracy[-1] > 0.6


@pytest.mark.parametrize("batch", [1, 4, 5, 6, 13])
def test_any_number_of_episodes_can_be_drawn(batch):
    """A last group that is not full has others of the batch; all are asked, and one value is given of each."""
    task = make(groupings=3, data=tagged_data)
    drawn = task.episodes("train", generator(), batch)
    assert len(drawn.tested) == batch and set(drawn.asked.flatten().tolist()) == set(range(batch))
    for characters in tags(drawn.shown)[drawn.presented, 0]:
        assert len(set(characters)) == 5
    assert task.step(new_network(task, 0), drawn).metrics["accuracy"].shape == (batch,)
    assert len(task.episodes("test", generator(), batch).tested) == batch


def test_a_batch_of_more_characters_than_there_are_is_named():
    with pytest.raises(UserError, match="a batch of 20 needs as many characters, and there are 16"):
        make(groupings=2, batch=20)
    make(groupings=None, batch=20)
