"""Omniglot: what an episode is made of, and the head against the paper's equations."""

import ast
import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from diffplast.core import params, seeds
from diffplast.core.errors import UserError
from diffplast.core.task import HeldOut
from diffplast.core.training import new_network
from diffplast.tasks.omniglot.experiment.head import logits, naive_logits, probabilities
from diffplast.tasks.omniglot.experiment.loss import loss, naive_loss
from diffplast.tasks.omniglot.experiment.task import Omniglot
from stages.evaluate import evaluate
from tests.conftest import ROOT
from tests.helpers import trained
from tests.other_machines import printed_by

CLASSES, PER_CLASS = 28, 6
ARMS = [arm for arm in Omniglot.arms if arm != "text"]  # which is "homogeneous", with other settings
EXPERIMENT = {
    "ways": 5, "shots": 1, "side": 31, "features": 8, "label_strength": 1000.0, "init_weight": 0.01,
    "init_alpha": 1.0, "eta": 0.1,
}  # fmt: skip
SETTINGS = {"episodes": 30, "batch": 15, "lr": 1e-3, "curve_every": 12, "groupings": None}


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
    classes = {"train": np.arange(16), "test": np.arange(16, 22), "final": np.arange(22, CLASSES)}
    return {"drawings": drawings, **{f"{split}_classes": numbers for split, numbers in classes.items()}}


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


def test_the_released_protocol_is_what_its_program_does():
    """Most of the characters asked were trained on, none is a final one, and the drawing asked may be one shown."""
    task = make(data=tagged_data)
    drawn = task.episodes("released", generator(), 2000)
    shown, tested = tags(drawn.shown)[drawn.presented], tags(drawn.tested)
    characters = set(shown[..., 0].flat)
    assert len(characters) == len(task.data["test_classes"]) and len(characters & set(task.data["train_classes"])) > 1
    assert not characters & set(task.data["final_classes"])
    same = (shown == tested[:, None]).all(axis=-1)
    assert abs(same.any(axis=1).mean() - 1 / PER_CLASS) < 0.03, "one drawing in as many as a character has"
    answer = np.take_along_axis(shown[..., 0], (drawn.label == drawn.answer).int().argmax(dim=1)[:, None].numpy(), 1)
    assert (answer[:, 0] == tested[:, 0]).all()


def test_final_characters_are_the_final_ones():
    task = make(data=tagged_data)
    assert set(tags(task.episodes("final", generator(), 50).shown)[:, 0]) == set(task.data["final_classes"])


def reference_episode(layer, shown, label, tested):
    """One episode by the paper's equations, entry by entry: the logits for `tested` (F,)."""
    weight, alpha, eta, strength = layer
    features, ways = weight.shape
    trace = [[torch.zeros((), dtype=shown.dtype) for _ in range(ways)] for _ in range(features)]
    alpha = alpha.expand(features, ways)

    def totals(x, inputs):
        return torch.stack(
            [
                sum((weight[i, j] + alpha[i, j] * trace[i][j]) * x[i] for i in range(features)) + inputs[j]
                for j in range(ways)
            ]
        )

    for x, k in zip(shown, label, strict=True):
        y = torch.softmax(totals(x, [strength * (j == k) for j in range(ways)]), dim=0)
        trace = [[trace[i][j] + eta * y[j] * (x[i] - y[j] * trace[i][j]) for j in range(ways)] for i in range(features)]
    return totals(tested, [0] * ways)


def layer(shared, features=4, ways=5, dtype=torch.float64):
    """weight, alpha, eta with random values, their gradients wanted."""
    torch.manual_seed(0)
    values = 0.5 * torch.randn(features, ways), torch.rand(()) if shared else torch.rand(features, ways)
    return [value.to(dtype).requires_grad_() for value in (*values, torch.tensor(0.3))]


@pytest.mark.parametrize("shared", [False, True], ids=["plastic", "homogeneous"])
@pytest.mark.parametrize("strength", [1000.0, 1.5], ids=["clamping", "weak"])
def test_head_equals_the_equations(shared, strength):
    """Also with labels too weak to clamp, where the trace depends on the weights."""
    parameters = layer(shared)
    shown, tested = (torch.randn(2, n, 4, dtype=torch.float64, requires_grad=True) for n in (7, 2))
    label = torch.randint(5, (2, 7))
    ours = naive_logits(shown, label, tested, *parameters, strength)
    every = [
        reference_episode((*parameters, strength), shown[p], label[p].tolist(), x) for p in range(2) for x in tested[p]
    ]
    theirs = torch.stack(every).view(2, 2, 5)
    assert_same_gradients(ours, theirs, [*parameters, shown, tested], rtol=1e-9)


def assert_same_gradients(ours, theirs, wanted, rtol):
    """Equal values, and equal gradients under a random cotangent, to a tolerance relative to the largest number."""
    for mine, other in [(ours, theirs), *zip(*gradients(ours, theirs, wanted), strict=True)]:
        torch.testing.assert_close(mine.double(), other.double(), rtol=0, atol=rtol * float(other.detach().abs().max()))


def gradients(ours, theirs, wanted):
    cotangent = torch.randn_like(ours)
    return (torch.autograd.grad(result, wanted, cotangent.to(result.dtype)) for result in (ours, theirs))


@pytest.mark.parametrize("shared", [False, True], ids=["plastic", "homogeneous"])
@pytest.mark.parametrize("strength", [1000.0, 1.5], ids=["clamping", "weak"])
@pytest.mark.parametrize("features, ways, presentations", [(8, 5, 3), (64, 5, 40), (5, 17, 18), (3, 2, 1)])
def test_compiled_head_equals_the_naive_one(features, ways, presentations, strength, shared):
    parameters = layer(shared, features, ways, torch.float32)
    shown, tested = (torch.randn(9, features, requires_grad=True) for _ in range(2))
    presented, label = torch.randint(9, (presentations, ways)), torch.randint(ways, (presentations, ways))
    asked = torch.randint(9, (presentations, 4))
    ours = logits(shown, presented, label, tested, asked, *parameters, strength)
    wide = [value.double() for value in parameters]
    theirs = naive_logits(shown[presented].double(), label, tested[asked].double(), *wide, strength)
    assert_same_gradients(ours, theirs, [*parameters, shown, tested], rtol=2e-5)


@pytest.mark.parametrize("spread", [1, 8])
def test_loss_is_the_binary_cross_entropy_of_the_softmax(spread):
    torch.manual_seed(0)
    found = (spread * torch.randn(7, 3, 5)).requires_grad_()
    answer = torch.randint(5, (7, 3))
    for ours, rtol in ((loss(found, answer), 1e-5), (naive_loss(found.double(), answer), 1e-6)):
        expected = F.binary_cross_entropy(torch.softmax(found.double(), -1), F.one_hot(answer, 5).double())
        assert_same_gradients(ours, expected, [found], rtol)
    torch.testing.assert_close(probabilities(found), torch.softmax(found.detach(), -1), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("gap", [10.0, 17.0, 20.0, 60.0, 1000.0])
def test_gradient_where_the_network_is_sure_of_a_wrong_answer(gap):
    """From probabilities in float32 the gradient is 20,000 times too large at a gap of 17: 1 - p rounds to 0."""
    found = torch.tensor([[[gap, 0.0, -1.0, -2.0, -3.0]]], requires_grad=True)
    answer = torch.tensor([[1]])
    wide = found.detach().double().requires_grad_()
    (ours,) = torch.autograd.grad(loss(found, answer), found)
    (theirs,) = torch.autograd.grad(naive_loss(wide, answer), wide)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-7)
    assert float(ours.abs().max()) < 1


def test_label_decides_the_output_and_so_the_trace():
    """With weights far above the usual, the trace of a class is still eta times the features shown with it."""
    weight, alpha, eta = layer(False, 8, 5, torch.float32)
    weight, features = 10 * weight, torch.rand(10, 8) * 2 - 1
    label = torch.stack([torch.randperm(5) for _ in range(2)])
    presented, asked = torch.arange(10).view(2, 5), torch.tensor([[0, 3], [7, 9]])
    by_class = features[presented].gather(1, label.argsort(dim=1)[..., None].expand(-1, -1, 8))
    expected = features[asked] @ (weight + alpha * (eta * by_class).mT)
    ours = logits(features, presented, label, features, asked, weight, alpha, eta, 1000.0)
    torch.testing.assert_close(ours, expected)


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
    mean = torch.stack(losses).mean()
    torch.testing.assert_close(together.loss, mean)
    torch.testing.assert_close(together.metrics["accuracy"], correct)
    parameters = list(network.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(together.loss, parameters), torch.autograd.grad(mean, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_initial_values_are_the_programs():
    """Convolutions as torch's, coefficients uniform from 0, a shared one at its bound, all from the generator."""
    plastic, shared = (make(arm, experiment={"init_alpha": 0.01}).network(generator()) for arm in ARMS[:2])
    assert shared.alpha.shape == () and shared.alpha.item() == np.float32(0.01)
    assert plastic.alpha.shape == (8, 5) and plastic.alpha.min() >= 0 and plastic.alpha.max() < 0.01
    for ours, channels in zip(plastic.weights, (1, 8, 8, 8), strict=True):
        assert ours.shape == (3, 3, channels, 8)
        bound = 1 / (9 * channels) ** 0.5
        assert 0.8 * bound < ours.abs().max() <= bound and abs(ours.mean()) < 0.2 * bound
    assert torch.equal(plastic.weights[3], shared.weights[3]) and torch.equal(plastic.weight, shared.weight)


def test_the_texts_own_settings_can_be_run():
    """One shared coefficient, Adam 3e-4, one episode an update, 1,000,000 of them (text, section 4.4)."""
    settings = params.load("omniglot", ROOT / "params.yaml").omniglot.study.for_arm("text")
    assert (settings.episodes, settings.batch, settings.lr, settings.groupings) == (1_000_000, 1, 3e-4, None)
    assert settings.decay.every >= settings.episodes and settings.clip is None
    assert make("text").network(generator()).alpha.shape == ()


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


def digests(threads=1):
    """Of all that a short training of each arm gives."""
    torch.set_num_threads(threads)
    found = {}
    for arm in ARMS:
        result = trained(make(arm, groupings=6), 3)
        parameters = [p.detach().numpy().tobytes() for p in result.network.parameters()]
        found[arm] = hashlib.sha256(repr(result.curve).encode() + b"".join(parameters)).hexdigest()
    return found


def test_bits_depend_on_neither_threads_nor_processor():
    found = digests(1)
    assert all(digests(threads) == found for threads in (2, 3, 4))
    assert ast.literal_eval(printed_by("digests()", "from tests.test_omniglot import digests")) == found


def test_learns_training_characters():
    task = make(episodes=3600, batch=15, lr=3e-3, groupings=4, curve_every=600)
    accuracy = [value for _, name, value in trained(task, 0).curve if name == "accuracy"]
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


@pytest.mark.parametrize("side", [1, 30, 32])
def test_a_side_that_the_convolutions_do_not_halve_to_a_pixel_is_named(side):
    with pytest.raises(ValidationError, match="expected 3, 7, 15, 31 or the like"):
        make(experiment={"side": side})


def test_evaluation_measures_all_three_protocols():
    task = make()
    network = new_network(task, 0)
    found = evaluate(task, network, HeldOut(episodes=150, batch=40), seed=1)
    assert [found[f"{split}_episodes"] for split in ("test", "final", "released")] == [150, 150, 100]
    for ending in ("", "_final", "_released"):
        assert 0 < found[f"accuracy{ending}"] < 1 and 0 < found[f"accuracy{ending}_sem"] < 0.1
    draws = seeds.generator(1, "evaluation")
    parts = [task.step(network, task.episodes("final", draws, size)).metrics["accuracy"] for size in (40, 40, 40, 30)]
    final = torch.cat(parts).double()
    assert abs(found["accuracy_final"] - float(final.mean())) < 1e-12
    assert abs(found["accuracy_final_sem"] - float(final.std()) / 150**0.5) < 1e-12


def test_a_batch_of_more_characters_than_there_are_is_named():
    with pytest.raises(UserError, match="a batch of 20 needs as many characters, and there are 16"):
        make(groupings=2, batch=20)
    make(groupings=None, batch=20)


@pytest.mark.parametrize(
    "experiment, said",
    [
        ({"side": 15}, "side is 15, but the prepared drawings have 31 pixels a side"),
        ({"shots": PER_CLASS}, f"shots is {PER_CLASS}, and one more is asked for: a character has {PER_CLASS}"),
        ({"ways": 7}, "ways is 7, but test_classes of the data are 6"),
    ],
    ids=["side", "shots", "ways"],
)
def test_an_experiment_that_the_data_do_not_allow_is_refused_before_training(experiment, said):
    with pytest.raises(UserError, match=said):
        make(experiment=experiment)
