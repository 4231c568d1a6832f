"""The contract that every task keeps, whatever it is."""

import numpy as np
import pytest
import torch

from diffplast.core import registry, seeds
from diffplast.core.task import HeldOut
from diffplast.core.training import new_network
from stages.evaluate import evaluate
from tests.helpers import trained


def run_step(task, split="train", batch=4, seed=3):
    network = new_network(task, seed)
    step = task.step(network, task.episodes(split, seeds.generator(seed, "training"), batch))
    return network, step


def test_declares_what_figures_and_claims_need(task_arm):
    kind = registry.load(task_arm[0])
    assert kind.title and kind.metrics and all(kind.arms.values())
    assert kind.primary_metric() in kind.metrics


def test_step_gives_loss_and_one_finite_value_an_episode(task_arm, make_task):
    task = make_task(*task_arm)
    for split in ("train", "test"):
        _, step = run_step(task, split)
        assert step.loss.dim() == 0 and torch.isfinite(step.loss)
        assert set(step.metrics) == set(task.metrics)
        for value in step.metrics.values():
            assert value.dim() == 1 and torch.isfinite(value).all() and not value.requires_grad


def test_gradient_reaches_every_parameter(task_arm, make_task):
    network, step = run_step(make_task(*task_arm))
    step.loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_small_self_connections_have_a_weight_but_no_plasticity(make_task):
    network, step = run_step(make_task("binary_small", "plastic"))
    step.loss.backward()
    assert not network.alpha.grad.diagonal().any()
    assert network.weight.grad.diagonal()[:-1].all()  # the last neuron, the bias, is clamped


def test_same_generators_give_the_same_bits(task_arm, make_task):
    results = []
    for _ in range(2):
        network, step = run_step(make_task(*task_arm))
        step.loss.backward()
        results.append((step.loss.item(), [p.grad for p in network.parameters()]))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_other_seeds_give_other_networks_and_episodes(task_arm, make_task):
    task = make_task(*task_arm)
    losses = {run_step(task, seed=seed)[1].loss.item() for seed in range(4)}
    assert len(losses) > 1
    first, second = (torch.cat([p.flatten() for p in new_network(task, seed).parameters()]) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_nothing_touches_the_global_generators(task_arm, make_task):
    task = make_task(*task_arm)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    network = new_network(task, 0)
    task.step(network, task.episodes("train", seeds.generator(0, "training"), 4))
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()


def test_evaluation_counts_its_episodes_and_repeats_itself(task_arm, make_task):
    task = make_task(*task_arm)
    network = new_network(task, 0)
    results = [evaluate(task, network, HeldOut(episodes=10, batch=4), seed=0) for _ in range(2)]
    assert results[0] == results[1]
    assert results[0]["test_episodes"] == 10
    assert set(task.metrics) <= set(results[0])


def test_examples_are_small_arrays(task_arm, make_task):
    task = make_task(*task_arm)
    network, untrained = new_network(task, 0), new_network(task, 0)
    with torch.no_grad():
        shown = task.examples(network, untrained, seeds.generator(0, "examples"))
    assert all(isinstance(value, np.ndarray) and value.nbytes < 2**20 for value in shown.values())


def test_unknown_arm_is_named(task_arm, make_task):
    with pytest.raises(ValueError, match="unknown arm 'plastik'"):
        make_task(task_arm[0], "plastik")


def test_training_learns(make_task):
    """The error of the plastic network on binary patterns falls within a time fit for a test."""
    task = make_task("binary", "plastic", episodes=1500, batch=5, lr=3e-3, curve_every=250)
    curve = trained(task, 0).curve
    errors = [value for _, metric, value in curve if metric == "wrong_bits"]
    assert errors[-1] < 0.6 * errors[0]
