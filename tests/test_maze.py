import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from pydantic import ValidationError
from torch.nn import functional as F

from diffplast.tasks.maze.experiment import compiled, plain
from diffplast.tasks.maze.experiment.course import Episodes
from diffplast.tasks.maze.experiment.env import INPUTS, MazeEnv, columns, draw, maze_walls
from diffplast.tasks.maze.experiment.task import Experiment, Maze, Settings

ROOT = Path(__file__).parents[1]
ARMS = list(Maze.arms)
UP, DOWN, LEFT, RIGHT = range(4)
PAPER = ("view", "reward", "step", "bias")
EVERYTHING = ("action", "time", "step", "reward", "bias", "view")


class ReferenceMaze:
    """One maze, by the rules in words: `goal` and the cells to be moved to are (row, column)."""

    def __init__(self, size, steps, goal, moved_to, inputs=PAPER):
        self.size, self.steps, self.goal, self.moved_to, self.inputs = size, steps, goal, moved_to, inputs
        self.row = self.column = size // 2
        self.time, self.reward, self.action = 0, 0.0, None

    def wall(self, row, column):
        if (row, column) == (self.size // 2, self.size // 2):
            return False
        at_the_edge = row <= 0 or column <= 0 or row >= self.size - 1 or column >= self.size - 1
        return at_the_edge or (row % 2 == 0 and column % 2 == 0)

    def observation(self):
        seen = {
            "view": [
                float(self.wall(self.row + down, self.column + right)) for down in (-1, 0, 1) for right in (-1, 0, 1)
            ],
            "reward": [self.reward],
            "step": [self.time],
            "time": [self.time / self.steps],
            "action": [float(action == self.action) for action in range(4)],
            "bias": [1.0],
        }
        return np.array([number for name in self.inputs for number in seen[name]], np.float32)

    def step(self, action):
        row, column, self.reward = self.row, self.column, 0.0
        if action == UP:
            row -= 1
        elif action == DOWN:
            row += 1
        elif action == LEFT:
            column -= 1
        else:
            column += 1
        if self.wall(row, column):
            row, column, self.reward = self.row, self.column, -0.1
        if (row, column) == self.goal:
            self.reward += 10.0
            row, column = self.moved_to[self.time]
        self.row, self.column, self.time, self.action = row, column, self.time + 1, action
        return self.observation(), self.reward


def reference_mazes(size, goal, moved_to, inputs=PAPER):
    """Reference mazes with the random numbers of `draw`."""
    cells = [[divmod(cell, size) for cell in column] for column in moved_to.T]
    return [
        ReferenceMaze(size, len(moved_to), divmod(to, size), there, inputs)
        for to, there in zip(goal, cells, strict=True)
    ]


def with_goal(mazes, row, column):
    """Start the mazes with that goal; whoever finds it is moved to the goal of another maze."""
    cell = row * mazes.size + column
    elsewhere = np.flatnonzero(~mazes.walls)[-1]
    goal = np.full(mazes.num_envs, cell)
    mazes.reset(options={"goal": goal, "moved_to": np.full((mazes.steps, mazes.num_envs), elsewhere)})
    return elsewhere


def a_maze(arm="plastic", inputs=PAPER, layer_inputs=None, **changes):
    experiment = Experiment(
        **{
            "size": 5, "steps": 20, "goal_reward": 10.0, "bump_reward": -0.1, "neurons": 12, "init": 0.3, "eta": 0.1,
            "discount": 0.9, "value_weight": 0.03, "concentration_penalty": 0.1, **changes,
        }
    )  # fmt: skip
    settings = Settings(episodes=8, batch=4, lr=1e-3, inputs=list(inputs), layer_inputs=layer_inputs, curve_every=4)
    return Maze(experiment, settings, arm, torch.device("cpu"))


def agent_and_episodes(task, batch, seed=0):
    generator = np.random.default_rng(seed)
    return task.network(generator), task.episodes("train", generator, batch)


# The environment


def test_the_paper_s_maze_has_16_pillars_and_65_free_cells():
    walls = maze_walls(11)
    assert walls.shape == (11, 11)
    assert walls[1:-1, 1:-1].sum() == 16 and (~walls).sum() == 65
    assert not walls[5, 5]
    assert walls[2, 2] and walls[4, 8] and walls[0].all() and walls[:, 10].all()
    assert not maze_walls(9)[4, 4]  # a centre where a pillar would stand


@pytest.mark.parametrize("inputs", [PAPER, ("view", "reward"), EVERYTHING], ids="-".join)
@pytest.mark.parametrize("size,steps,batch", [(11, 250, 32), (9, 50, 3), (4, 30, 5), (3, 5, 1)])
def test_mazes_agree_with_one_maze_after_the_other(size, steps, batch, inputs):
    mazes = MazeEnv(batch, size, steps, inputs=inputs)
    observation, _ = mazes.reset(seed=7)
    reference = reference_mazes(size, *draw(seeding.np_random(7)[0], size, steps, batch), inputs)
    np.testing.assert_array_equal(observation, [maze.observation() for maze in reference])
    generator = np.random.default_rng(1)
    total = np.zeros(batch)
    for t in range(steps):
        actions = generator.integers(4, size=batch)
        observation, reward, terminated, truncated, _ = mazes.step(actions)
        expected = [maze.step(action) for maze, action in zip(reference, actions, strict=True)]
        np.testing.assert_allclose(observation, [seen for seen, _ in expected], rtol=1e-6)
        np.testing.assert_allclose(reward, [got for _, got in expected], rtol=1e-6)
        np.testing.assert_array_equal(mazes.cell, [maze.row * size + maze.column for maze in reference])
        assert (terminated == (t == steps - 1)).all() and not truncated.any()
        total += reward
    assert batch < 32 or (total > 5).any()  # goals were reached, so that part of the rules was compared too


def test_a_move_onto_the_goal_is_rewarded_and_takes_the_agent_elsewhere():
    mazes = MazeEnv(3)
    elsewhere = with_goal(mazes, 4, 5)
    _, reward, *_ = mazes.step(np.full(3, UP))
    assert (reward == 10).all() and (mazes.cell == elsewhere).all()


def test_the_cells_moved_to_are_all_the_free_ones():
    goal, moved_to = draw(np.random.default_rng(0), 11, 250, 20)
    free = set(np.flatnonzero(~maze_walls(11)))
    assert set(moved_to.ravel()) == free and set(goal) < free


def test_bumping_into_a_wall_costs_and_does_not_move():
    mazes = MazeEnv(1)
    with_goal(mazes, 9, 9)
    rewards = [mazes.step(np.array([action]))[1].item() for action in (UP, LEFT, UP, LEFT, UP)]
    assert mazes.cell == 3 * 11 + 4  # pillars stop the second step and the last
    np.testing.assert_allclose(rewards, [0, -0.1, 0, 0, -0.1], rtol=1e-6)


def test_bumping_while_on_the_goal_pays_both_rewards_and_moves_the_agent():
    mazes = MazeEnv(1)
    goal = 4 * 11 + 5
    moved_to = np.array([[goal], [12], *[[13]] * 248])
    mazes.reset(options={"goal": np.array([goal]), "moved_to": moved_to})
    rewards, cells = [], []
    for action in (UP, LEFT):  # onto the goal and moved to it again; then into the pillar beside it
        rewards.append(mazes.step(np.array([action]))[1].item())
        cells.append(mazes.cell.item())
    np.testing.assert_allclose(rewards, [10, 9.9], rtol=1e-6)
    assert cells == [goal, 12]


def test_the_goal_cannot_be_seen():
    near, far = MazeEnv(1, inputs=EVERYTHING), MazeEnv(1, inputs=EVERYTHING)
    with_goal(near, 4, 5)
    with_goal(far, 9, 9)
    place = columns(EVERYTHING)["reward"]
    np.testing.assert_array_equal(near.step(np.array([DOWN]))[0], far.step(np.array([DOWN]))[0])
    np.testing.assert_array_equal(near.step(np.array([UP]))[0], far.step(np.array([UP]))[0])
    seen_near, reward, *_ = near.step(np.array([UP]))
    seen_far, *_ = far.step(np.array([UP]))
    assert reward == 10 and seen_near[0, place] == 10
    # Even then only the reward is seen, and where the agent was moved to.
    for name in ("step", "time", "action"):
        np.testing.assert_array_equal(seen_near[0, columns(EVERYTHING)[name]], seen_far[0, columns(EVERYTHING)[name]])


@pytest.mark.parametrize("inputs", [PAPER, EVERYTHING], ids="-".join)
def test_gymnasium_s_vector_interface(inputs):
    mazes = MazeEnv(6, steps=5, inputs=inputs)
    assert mazes.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    varying = [name for name in inputs if name not in ("view", "bias")]
    unseen = [number for name in varying for number in range(*columns(inputs)[name].indices(99))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counted = RecordEpisodeStatistics(mazes)
        observation, _ = counted.reset(seed=5)
        assert observation in mazes.observation_space
        counted.action_space.seed(0)
        goals = mazes.goal
        for t in range(1, 13):  # five steps, a step that resets, five steps, a reset, one step
            observation, reward, terminated, truncated, info = counted.step(counted.action_space.sample())
            assert observation in mazes.observation_space
            assert reward.dtype == np.float32 and reward.shape == terminated.shape == truncated.shape == (6,)
            assert terminated.all() == terminated.any() == (t in (5, 11))
            if t in (5, 11):
                assert (info["episode"]["l"] == 5).all()
            if t in (6, 12):
                assert (observation[:, unseen] == 0).all() and (reward == 0).all()
                assert (mazes.goal != goals).any()
    mazes.reset(seed=5)
    np.testing.assert_array_equal(mazes.goal, goals)


@pytest.mark.parametrize(
    "actions",
    [[0, 1, -1], [0, 1, 4], 2, [2], [0, 1], [[0, 1, 2]], [0.0, 1.0, 2.0], [True, False, True], np.full(3, np.nan)],
    ids=str,
)
def test_actions_that_are_none_are_refused(actions):
    mazes = MazeEnv(3)
    mazes.reset(seed=0)
    before = mazes.cell.copy()
    with pytest.raises(InvalidAction, match="expected"):
        mazes.step(np.array(actions))
    np.testing.assert_array_equal(mazes.cell, before)
    mazes.step([0, np.uint8(1), 3])


def test_a_step_before_the_first_reset_is_refused():
    with pytest.raises(ResetNeeded, match="call reset first"):
        MazeEnv(2).step(np.zeros(2, int))
    with pytest.raises(ResetNeeded, match="no mask"):
        MazeEnv(2).reset(options={"reset_mask": np.array([True, False])})


@pytest.mark.parametrize(
    "changed,named",
    [
        ({"steps": 0}, "steps"), ({"num_envs": 0}, "num_envs"), ({"size": 2}, "size"), ({"steps": -1}, "steps"),
        ({"goal_reward": np.nan}, "rewards"), ({"bump_reward": -np.inf}, "rewards"), ({"inputs": []}, "inputs"),
        ({"inputs": ["view", "view"]}, "inputs"), ({"inputs": ["sight"]}, "inputs"),
    ],
)  # fmt: skip
def test_mazes_that_cannot_be_are_refused(changed, named):
    with pytest.raises(ValueError, match=named):
        MazeEnv(**{"num_envs": 2, **changed})


def test_a_reset_mask_starts_its_mazes_and_leaves_the_others():
    mazes, untouched = MazeEnv(4, steps=6, inputs=EVERYTHING), MazeEnv(4, steps=6, inputs=EVERYTHING)
    for env in (mazes, untouched):
        env.reset(seed=1)
        env.step(np.array([UP, DOWN, LEFT, RIGHT]))
        seen, *_ = env.step(np.array([UP, DOWN, LEFT, RIGHT]))
    mask = np.array([False, True, False, True])
    options = {"reset_mask": mask}
    observation, _ = mazes.reset(seed=9, options=options)
    assert options == {"reset_mask": mask}
    fresh = MazeEnv(4, steps=6, inputs=EVERYTHING)
    started, _ = fresh.reset(seed=9)
    np.testing.assert_array_equal(observation, np.where(mask[:, None], started, seen))
    np.testing.assert_array_equal(mazes.goal, np.where(mask, fresh.goal, untouched.goal))
    over = []
    for t in range(6):  # the others end, and start again, two steps before those of the mask
        actions = np.full(4, t % 4)
        observation, _, terminated, _, _ = mazes.step(actions)
        over.append(terminated)
        if t < 4:
            np.testing.assert_array_equal(observation[~mask], untouched.step(actions)[0][~mask])
        np.testing.assert_array_equal(observation[mask], fresh.step(actions)[0][mask])
    np.testing.assert_array_equal(over, [(t == np.where(mask, 5, 3)) for t in range(6)])


@pytest.mark.parametrize(
    "options,error,named",
    [
        ({"reset_mask": [True, False]}, TypeError, "reset_mask"),
        ({"reset_mask": np.array([1, 0])}, TypeError, "reset_mask"),
        ({"reset_mask": np.array([True])}, ValueError, "reset_mask"),
        ({"reset_mask": np.array([False, False])}, ValueError, "reset_mask"),
        ({"goal": np.array([12, 12])}, ValueError, "together"),
        ({"goals": np.array([12, 12])}, ValueError, "goals"),
        ({"goal": np.array([0, 12]), "moved_to": np.full((3, 2), 12)}, ValueError, "free cells"),
        ({"goal": np.array([12, 12]), "moved_to": np.full((2, 2), 12)}, ValueError, "moved_to"),
    ],
)
def test_options_that_are_none_are_refused(options, error, named):
    mazes = MazeEnv(2, steps=3)
    mazes.reset(seed=0)
    goal = mazes.goal.copy()
    with pytest.raises(error, match=named):
        mazes.reset(seed=1, options=options)
    np.testing.assert_array_equal(mazes.goal, goal)


# The task


def test_discounted_sums_to_the_end_of_the_episode():
    rewards = torch.randn(250, 3, dtype=torch.float64)
    expected, following = torch.zeros_like(rewards), torch.zeros(3, dtype=torch.float64)
    for t in reversed(range(250)):
        following = expected[t] = rewards[t] + 0.9 * following
    torch.testing.assert_close(plain.discounted(rewards, 0.9), expected)
    torch.testing.assert_close(plain.discounted(rewards, 0.0), rewards)


@pytest.mark.parametrize("counted", [None, 17])
@pytest.mark.parametrize("arm", ARMS)
def test_the_initial_values_are_the_paper_s(arm, counted):
    task = a_maze(arm, layer_inputs=counted, size=11, neurons=100, init=0.01, eta=0.01)
    agent, again = (task.network(np.random.default_rng(3)) for _ in range(2))
    for name, parameter in agent.named_parameters():
        assert torch.equal(parameter, dict(again.named_parameters())[name]), name
    assert agent.sense.weight.shape == (100, 12) and agent.act.weight.shape == (5, 100)
    assert agent.weight.min() >= 0 and 0.0099 < agent.weight.max() < 0.01
    for parameter in agent.sense.parameters():
        assert 0.95 * (counted or 12) ** -0.5 < parameter.abs().max() <= (counted or 12) ** -0.5
    if arm == "homogeneous":
        assert agent.alpha.shape == () and agent.alpha == np.float32(0.01)
    if arm == "plastic":
        assert agent.alpha.shape == (100, 100) and agent.alpha.min() >= 0 and agent.alpha.max() < 0.01
    assert (agent.eta is None) == arm.startswith("nonplastic") and (agent.eta is None or agent.eta == np.float32(0.01))


def test_inputs_that_are_none_are_refused():
    assert [INPUTS[name] for name in EVERYTHING] == [4, 1, 1, 1, 1, 9]
    for inputs in ([], ["view", "view"], ["sight"]):
        with pytest.raises(ValidationError, match="one or more of view, reward, step, time, action, bias"):
            a_maze(inputs=inputs)


def plain_actor_critic(task, agent, episodes):
    """Loss and rewards of the task's step, one maze and one time step after the other, with plain autograd."""
    e = task.experiment
    steps, batch = episodes.chance.shape
    losses, totals = [], []
    for b, maze in enumerate(reference_mazes(e.size, episodes.goal, episodes.moved_to, task.settings.inputs)):
        x, trace = torch.zeros(e.neurons), torch.zeros(e.neurons, e.neurons)
        seen = maze.observation()
        rewards, log_policies, values, actions = [], [], [], []
        for t in range(steps):
            connections = agent.weight if agent.alpha is None else agent.weight + agent.alpha * trace
            sensed = agent.sense.weight @ torch.from_numpy(seen) + agent.sense.bias
            new_x = torch.tanh(x @ connections + sensed)
            if agent.alpha is not None:
                trace = trace + agent.eta * new_x * (x[:, None] - new_x * trace)
            x = new_x
            *logits, value = agent.act.weight @ x + agent.act.bias
            log_policies.append(F.log_softmax(torch.stack(logits), 0))
            values.append(value)
            action, below = 0, log_policies[t][0].exp().item()
            while action < 3 and episodes.chance[t, b] >= below:
                action += 1
                below += log_policies[t][action].exp().item()
            actions.append(action)
            seen, reward = maze.step(action)
            rewards.append(reward)
        loss, following = 0.0, 0.0
        for t in reversed(range(steps)):
            following = rewards[t] + e.discount * following
            advantage = following - values[t]
            loss = loss - log_policies[t][actions[t]] * advantage.detach()
            loss = loss + e.value_weight * advantage**2
            loss = loss + e.concentration_penalty * (log_policies[t].exp() ** 2).sum()
        losses.append(loss / steps)
        totals.append(sum(rewards))
    return sum(losses) / batch, totals


def assert_equal_gradients(agent, found, expected, tolerance):
    """The gradients by every parameter of the agent are the same, up to a share of their norm."""
    for (name, _), gradient, right in zip(agent.named_parameters(), found, expected, strict=True):
        error = (gradient - right).norm() / right.norm()
        assert error < tolerance, f"{name}: {error}"


@pytest.mark.parametrize("arm", ARMS)
def test_loss_and_gradients_equal_plain_actor_critic(arm):
    task = a_maze(arm)
    agent, episodes = agent_and_episodes(task, 6)
    step = task.step(agent, episodes)
    loss, totals = plain_actor_critic(task, agent, episodes)
    assert max(totals) > 5
    np.testing.assert_allclose(step.metrics["reward"], totals, rtol=1e-5)
    torch.testing.assert_close(step.loss, loss, rtol=1e-4, atol=0)
    parameters = list(agent.parameters())
    found, expected = torch.autograd.grad(step.loss, parameters), torch.autograd.grad(loss, parameters)
    assert_equal_gradients(agent, found, expected, 1e-4)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("inputs", [PAPER, ("view", "reward"), EVERYTHING], ids="-".join)
@pytest.mark.parametrize("arm", ARMS)
def test_compiled_episodes_equal_gymnasium_s_with_autograd(arm, inputs, batch):
    """The same actions, rewards and cells; the loss within 1e-5 and the gradients within 1e-4 of double precision.

    The step's raw number saturates neurons, and where x is near 1 little is left of the digits of 1 - x^2.
    """
    task = a_maze(arm, size=5, steps=120, inputs=list(inputs), neurons=37, init=0.1)
    agent, episodes = agent_and_episodes(task, batch)
    loss, course = compiled.step(task.experiment, task.settings.inputs, agent, episodes)
    gradients = torch.autograd.grad(loss, list(agent.parameters()))
    agent.double()
    expected, other = plain.step(task.experiment, task.settings.inputs, agent, episodes, backend="naive")
    for name, found, right in zip(course._fields, course, other, strict=True):
        np.testing.assert_array_equal(found, right, err_msg=name)
    assert batch == 1 or ((course.rewards > 0).any() and len(np.unique(course.actions)) == 4)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    assert_equal_gradients(agent, gradients, torch.autograd.grad(expected, list(agent.parameters())), 1e-4)


@pytest.mark.parametrize("neurons", [1, 16, 48, 129])
@pytest.mark.parametrize("arm", ARMS)
def test_any_number_of_neurons_will_do(arm, neurons):
    task = a_maze(arm, steps=9, neurons=neurons, inputs=["view"], init=0.05)
    agent, episodes = agent_and_episodes(task, 2)
    parameters = list(agent.parameters())
    gradients = torch.autograd.grad(task.step(agent, episodes).loss, parameters)
    assert [gradient.shape for gradient in gradients] == [parameter.shape for parameter in parameters]
    expected, _ = plain.step(task.experiment, task.settings.inputs, agent, episodes, backend="naive")
    assert_equal_gradients(agent, gradients, torch.autograd.grad(expected, parameters), 1e-4)


@pytest.mark.parametrize("arm", ARMS)
def test_the_gradient_follows_the_loss_s_own(arm):
    """A loss that is scaled or asked for its gradient twice behaves as any other."""
    task = a_maze(arm)
    agent, episodes = agent_and_episodes(task, 2)
    parameters = list(agent.parameters())
    loss = task.step(agent, episodes).loss
    once = torch.autograd.grad(loss, parameters, retain_graph=True)
    twice = torch.autograd.grad(-3 * loss, parameters)
    assert_equal_gradients(agent, twice, [-3 * gradient for gradient in once], 1e-5)
    loss = task.step(agent, episodes).loss
    with torch.no_grad():
        agent.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    with torch.no_grad():
        assert not task.step(agent, episodes).loss.requires_grad


@pytest.mark.parametrize("arm", ARMS)
def test_a_batch_is_its_episodes(arm):
    task = a_maze(arm, size=11, steps=40)
    agent, together = agent_and_episodes(task, 5)
    parameters = list(agent.parameters())
    step = task.step(agent, together)
    gradients = torch.autograd.grad(step.loss, parameters)
    alone = [Episodes(*(array[..., b : b + 1].copy() for array in together)) for b in range(5)]
    steps = [task.step(agent, episodes) for episodes in alone]
    torch.testing.assert_close(step.metrics["reward"], torch.cat([one.metrics["reward"] for one in steps]))
    mean = sum(one.loss for one in steps) / 5
    torch.testing.assert_close(step.loss, mean)
    assert_equal_gradients(agent, gradients, torch.autograd.grad(mean, parameters), 1e-5)


BITS = """
import sys
import numpy as np, torch
from tests.test_maze import bits
torch.set_num_threads(int(sys.argv[1]))
print(*bits(), sep="\\n")
"""
AVX2 = {
    "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2,+f16c,+sse4.2,+popcnt",
    "ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell", "ONEDNN_MAX_CPU_ISA": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
}  # fmt: skip


def bits():
    """A hash for each arm of what it computes in one episode of the paper's maze and in five."""
    found = []
    for arm in ARMS:
        digest = hashlib.sha256()
        for batch in (1, 5):
            task = a_maze(arm, size=11, steps=60, neurons=100, init=0.01, eta=0.01, inputs=list(PAPER))
            agent, episodes = agent_and_episodes(task, batch)
            loss, course = compiled.step(task.experiment, task.settings.inputs, agent, episodes)
            loss.backward()
            for array in (*course, loss.detach().numpy(), *(p.grad.numpy() for p in agent.parameters())):
                digest.update(np.ascontiguousarray(array).tobytes())
        found.append(f"{arm} {digest.hexdigest()}")
    return found


def test_the_same_bits_with_any_number_of_threads():
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 2, 3, 4):
            torch.set_num_threads(number)
            found.append(bits())
    finally:
        torch.set_num_threads(threads)
    assert found[1:] == found[:1] * 3


def test_the_same_bits_with_avx2_alone():
    here = bits()
    done = subprocess.run(
        [sys.executable, "-c", BITS, "2"], env=os.environ | AVX2, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[: len(here)] == here


def test_actions_are_taken_as_often_as_the_policy_says():
    batch = 20_000
    task = a_maze(steps=1)
    agent, episodes = agent_and_episodes(task, batch)
    with torch.no_grad():
        agent.act.weight[:-1] *= 5
        agent.act.bias[:-1] = torch.tensor([1.0, 0.0, -1.0, -4.0])
        observation, _ = MazeEnv(1, 5, 1).reset(seed=0)
        x = torch.tanh(agent.sense(torch.from_numpy(observation)))
        policy = F.softmax(agent.act(x)[0, :-1], dim=0).numpy()
    share = np.bincount(task.explore(agent, episodes).actions[0], minlength=4) / batch
    deviations = (share - policy) / np.sqrt(policy * (1 - policy) / batch)
    assert np.abs(deviations).max() < 4, (share, policy)


@pytest.mark.parametrize("way", [compiled, plain], ids=["compiled", "plain"])
def test_chances_at_the_ends_take_actions_that_there_are(way):
    task = a_maze(steps=2)
    agent, episodes = agent_and_episodes(task, 2)
    with torch.no_grad():
        agent.act.weight.zero_()
        agent.act.bias[:-1] = torch.tensor([0.0, 3.0, 1.0, -40.0])  # the last action's share is below rounding
        episodes.chance[:] = [[0.0, 1 - 2**-24]] * 2
        _, course = way.step(task.experiment, task.settings.inputs, agent, episodes)
    assert course.actions[:, 0].tolist() == [0, 0] and set(course.actions[:, 1]) <= {2, 3}


def test_examples_show_both_agents_in_the_same_mazes():
    task = a_maze(size=11, steps=250)
    early, late = (task.network(np.random.default_rng(seed)) for seed in (0, 1))
    shown = task.examples(late, early, np.random.default_rng(0))
    walls = shown["walls"]
    np.testing.assert_array_equal(walls, maze_walls(11))
    np.testing.assert_array_equal(shown["early_goal"], shown["late_goal"])
    assert not np.array_equal(shown["early_path"], shown["late_path"])
    for name in ("early", "late"):
        path, reward, goal = (shown[f"{name}_{what}"] for what in ("path", "reward", "goal"))
        assert path.shape == (4, 251, 2) and path.dtype == np.int8
        assert reward.shape == (4, 250) and reward.dtype == np.float16
        assert goal.shape == (4, 2) and goal.dtype == np.int8
        assert not walls[path[..., 0], path[..., 1]].any() and (path[:, 0] == 5).all()
        distance = np.abs(np.diff(path.astype(int), axis=1)).sum(axis=-1)
        assert (distance[reward == 0] == 1).all()
        assert (distance[reward < 0] == 0).all()
        reached, when = np.nonzero(reward > 0)
        assert (np.abs(path[reached, when] - goal[reached]).sum(axis=-1) <= 1).all()
