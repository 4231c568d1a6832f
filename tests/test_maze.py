import warnings

import numpy as np
import pytest
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch.nn import functional as F

from diffplast.core import seeds
from diffplast.core.task import Settings
from diffplast.tasks.maze.experiment.env import REWARD, TIME, MazeEnv, maze_walls
from diffplast.tasks.maze.experiment.task import Experiment, Maze, discounted

ARMS = list(Maze.arms)
UP, DOWN, LEFT, RIGHT = range(4)


class ReferenceMaze:
    """One maze, by the rules in words: `goal` and the cells to be moved to are (row, column)."""

    def __init__(self, size, steps, goal, moved_to):
        self.size, self.steps, self.goal, self.moved_to = size, steps, goal, moved_to
        self.row = self.column = size // 2
        self.time, self.reward, self.action = 0, 0.0, None

    def wall(self, row, column):
        if (row, column) == (self.size // 2, self.size // 2):
            return False
        at_the_edge = row <= 0 or column <= 0 or row >= self.size - 1 or column >= self.size - 1
        return at_the_edge or (row % 2 == 0 and column % 2 == 0)

    def observation(self):
        seen = [
            float(self.wall(self.row + down, self.column + right)) for down in (-1, 0, 1) for right in (-1, 0, 1)
        ]
        return np.array(
            [*seen, self.reward, self.time / self.steps, *(float(a == self.action) for a in range(4))], np.float32
        )

    def step(self, action):
        row, column = self.row, self.column
        if action == UP:
            row -= 1
        elif action == DOWN:
            row += 1
        elif action == LEFT:
            column -= 1
        else:
            column += 1
        if self.wall(row, column):
            self.reward = -0.1
        else:
            self.row, self.column, self.reward = row, column, 0.0
            if (row, column) == self.goal:
                self.reward = 10.0
                self.row, self.column = self.moved_to[self.time]
        self.time, self.action = self.time + 1, action
        return self.observation(), self.reward


def reference_mazes(seed, size, steps, batch):
    """Reference mazes with the random numbers of `MazeEnv.reset(seed=seed)`."""
    generator, _ = seeding.np_random(seed)
    free = np.flatnonzero(~maze_walls(size))
    goals = generator.choice(free, batch)
    moved_to = generator.choice(free, (steps, batch))
    return [
        ReferenceMaze(size, steps, divmod(goals[b], size), [divmod(cell, size) for cell in moved_to[:, b]])
        for b in range(batch)
    ]


def goals_at(mazes, row, column):
    mazes.goal = np.full(mazes.num_envs, row * len(mazes.walls) + column)


def small_maze(arm="plastic", **changes):
    experiment = Experiment(
        **{
            "size": 5, "steps": 20, "goal_reward": 10.0, "bump_reward": -0.1, "neurons": 12, "init": 0.3,
            "eta": 0.1, "discount": 0.9, "value_weight": 0.03, "concentration_penalty": 0.1, **changes,
        }
    )  # fmt: skip
    settings = Settings(
        episodes=8, batch=4, lr=1e-3, adam_eps=1e-8, decay=None, clip=None, stop_below=None, curve_every=4
    )
    return Maze(experiment, settings, arm, torch.device("cpu"))


# The environment


def test_the_paper_s_maze_has_41_free_cells_and_a_free_centre():
    walls = maze_walls(9)
    assert walls.shape == (9, 9)
    assert (~walls).sum() == 41
    assert not walls[4, 4]
    assert walls[2, 2] and walls[4, 2] and walls[0].all() and walls[:, 8].all()


@pytest.mark.parametrize("size,steps,batch", [(9, 250, 32), (7, 50, 3), (4, 30, 5), (3, 5, 1)])
def test_mazes_agree_with_one_maze_after_the_other(size, steps, batch):
    mazes = MazeEnv(batch, size, steps)
    reference = reference_mazes(7, size, steps, batch)
    observation, _ = mazes.reset(seed=7)
    np.testing.assert_array_equal(observation, [maze.observation() for maze in reference])
    generator = np.random.default_rng(1)
    total = np.zeros(batch)
    for t in range(steps):
        actions = generator.integers(4, size=batch)
        observation, reward, terminated, truncated, _ = mazes.step(actions)
        expected = [maze.step(action) for maze, action in zip(reference, actions, strict=True)]
        np.testing.assert_array_equal(observation, [seen for seen, _ in expected])
        np.testing.assert_array_equal(reward, np.float32([got for _, got in expected]))
        np.testing.assert_array_equal(mazes.cell, [maze.row * size + maze.column for maze in reference])
        assert (terminated == (t == steps - 1)).all() and not truncated.any()
        total += reward
    assert batch < 32 or (total > 5).any()  # goals were reached, so that part of the rules was compared too


def test_a_move_onto_the_goal_is_rewarded_and_takes_the_agent_elsewhere():
    mazes = MazeEnv(200)
    mazes.reset(seed=0)
    goals_at(mazes, 3, 4)
    _, reward, *_ = mazes.step(np.full(200, UP))
    assert (reward == 10).all()
    free = np.flatnonzero(~mazes.walls)
    assert set(mazes.cell) <= set(free) and len(set(mazes.cell)) > 35


def test_bumping_into_a_wall_costs_and_does_not_move():
    mazes = MazeEnv(1)
    mazes.reset(seed=0)
    goals_at(mazes, 7, 7)
    rewards = [mazes.step(np.array([action]))[1].item() for action in (LEFT, LEFT, LEFT, LEFT, UP)]
    assert mazes.cell == 3 * 9 + 3  # a pillar stops the second step to the left
    np.testing.assert_allclose(rewards, [0, -0.1, -0.1, -0.1, 0], rtol=1e-6)


def test_bumping_beside_the_goal_or_on_it_is_no_reward():
    mazes = MazeEnv(1, size=3)  # a single cell
    mazes.reset(seed=0)
    assert mazes.goal == mazes.cell
    assert mazes.step(np.array([UP]))[1].item() == np.float32(-0.1)


def test_the_goal_cannot_be_seen():
    near, far = MazeEnv(1), MazeEnv(1)
    np.testing.assert_array_equal(near.reset(seed=3)[0], far.reset(seed=3)[0])
    goals_at(near, 3, 3)
    goals_at(far, 7, 7)
    for action in (UP, LEFT):
        seen_near, reward, *_ = near.step(np.array([action]))
        seen_far, *_ = far.step(np.array([action]))
        if reward > 0:
            break
        np.testing.assert_array_equal(seen_near, seen_far)
    assert reward == 10 and action == LEFT
    # Even then only the reward is seen, and where the agent was moved to.
    assert seen_near[0, REWARD] == 10 and seen_near[0, TIME] == seen_far[0, TIME]


def test_gymnasium_s_vector_interface():
    mazes = MazeEnv(6, steps=5)
    assert mazes.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
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
                assert (observation[:, REWARD:] == 0).all() and (reward == 0).all()
                assert (mazes.goal != goals).any()
    mazes.reset(seed=5)
    np.testing.assert_array_equal(mazes.goal, goals)


# The task


def test_discounted_sums_to_the_end_of_the_episode():
    rewards = torch.randn(250, 3, dtype=torch.float64)
    expected, following = torch.zeros_like(rewards), torch.zeros(3, dtype=torch.float64)
    for t in reversed(range(250)):
        following = expected[t] = rewards[t] + 0.9 * following
    torch.testing.assert_close(discounted(rewards, 0.9), expected)
    torch.testing.assert_close(discounted(rewards, 0.0), rewards)


def plain_actor_critic(task, agent, episodes):
    """Loss and rewards of the task's step, one maze and one time step after the other, with plain autograd."""
    e = task.experiment
    steps, batch, _ = episodes.noise.shape
    losses, totals = [], []
    for b, maze in enumerate(reference_mazes(episodes.seed, e.size, e.steps, batch)):
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
            noisy = [logit.item() + noise for logit, noise in zip(logits, episodes.noise[t, b], strict=True)]
            actions.append(int(np.argmax(noisy)))
            seen, reward = maze.step(actions[-1])
            rewards.append(reward)
        loss, following = 0.0, 0.0
        for t in reversed(range(steps)):
            following = rewards[t] + e.discount * following
            advantage = following - values[t]
            loss = loss - log_policies[t][actions[t]] * advantage.detach()
            loss = loss + e.value_weight * advantage**2
            loss = loss + e.concentration_penalty * (log_policies[t].exp() ** 2).sum()
        losses.append(loss)
        totals.append(sum(rewards))
    return sum(losses) / batch, totals


@pytest.mark.parametrize("arm", ARMS)
def test_loss_and_gradients_equal_plain_actor_critic(arm):
    task = small_maze(arm)
    torch.manual_seed(0)
    agent = task.network()
    episodes = task.episodes("train", np.random.default_rng(0), 6)
    step = task.step(agent, episodes)
    step.loss.backward()
    gradients = {name: p.grad.clone() for name, p in agent.named_parameters()}
    agent.zero_grad()
    loss, totals = plain_actor_critic(task, agent, episodes)
    loss.backward()
    assert max(totals) > 5
    torch.testing.assert_close(step.metrics["reward"], torch.tensor(totals), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(step.loss, loss, rtol=1e-4, atol=0)
    for name, parameter in agent.named_parameters():
        error = (gradients[name] - parameter.grad).norm() / parameter.grad.norm()
        assert error < 1e-4, f"{name}: {error}"


@pytest.mark.parametrize("arm", ARMS)
def test_the_same_generators_give_the_same_bits(arm):
    task = small_maze(arm, size=9, steps=60, neurons=64, init=0.01)

    def run():
        seeds.seed_torch(3, "init")
        agent = task.network()
        step = task.step(agent, task.episodes("train", np.random.default_rng(2), 5))
        step.loss.backward()
        shown = task.examples(agent, agent, np.random.default_rng(4))
        return [step.loss.item(), step.metrics["reward"].numpy(), shown["late_path"]] + [
            p.grad.numpy() for p in agent.parameters()
        ]

    for first, second in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_actions_are_taken_as_often_as_the_policy_says():
    batch = 20_000
    task = small_maze(steps=1)
    agent = task.network()
    with torch.no_grad():
        agent.act.weight[:-1] *= 5
        agent.act.bias[:-1] = torch.tensor([1.0, 0.0, -1.0, -4.0])
        observation, _ = MazeEnv(1, 5, 1).reset(seed=0)
        x = torch.tanh(agent.sense(torch.from_numpy(observation)))
        policy = F.softmax(agent.act(x)[0, :-1], dim=0).numpy()
    course = task.explore(agent, agent.start(batch), task.episodes("train", np.random.default_rng(0), batch))
    share = np.bincount(course.actions[0], minlength=4) / batch
    deviations = (share - policy) / np.sqrt(policy * (1 - policy) / batch)
    assert np.abs(deviations).max() < 4, (share, policy)


def test_examples_show_both_agents_in_the_same_mazes():
    task = small_maze(size=9, steps=250)
    early, late = task.network(), task.network()
    shown = task.examples(late, early, np.random.default_rng(0))
    walls = shown["walls"]
    np.testing.assert_array_equal(walls, maze_walls(9))
    np.testing.assert_array_equal(shown["early_goal"], shown["late_goal"])
    assert not np.array_equal(shown["early_path"], shown["late_path"])
    for name in ("early", "late"):
        path, reward, goal = (shown[f"{name}_{what}"] for what in ("path", "reward", "goal"))
        assert path.shape == (4, 251, 2) and path.dtype == np.int8
        assert reward.shape == (4, 250) and reward.dtype == np.float16
        assert goal.shape == (4, 2) and goal.dtype == np.int8
        assert not walls[path[..., 0], path[..., 1]].any() and (path[:, 0] == 4).all()
        distance = np.abs(np.diff(path.astype(int), axis=1)).sum(axis=-1)
        assert (distance[reward == 0] == 1).all()
        assert (distance[reward < 0] == 0).all()
        reached, when = np.nonzero(reward > 0)
        assert (np.abs(path[reached, when] - goal[reached]).sum(axis=-1) == 1).all()
