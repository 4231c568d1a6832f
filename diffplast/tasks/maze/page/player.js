// The maze player: play, pause and step through an episode before training and one after it, side by side.
// figure.maze holds the episodes as JSON: what animation.py beside this file calls `episodes`.
addEventListener("DOMContentLoaded", () => document.querySelectorAll("figure.maze").forEach((figure) => {
  const find = (selector) => figure.querySelector(selector);
  const { walls, agents } = JSON.parse(find("script").textContent);
  const pictures = [...figure.querySelectorAll(".panels svg")], found = [...figure.querySelectorAll(".panels output")];
  const whens = [...figure.querySelectorAll(".when")];
  const agent = find(".agent"), which = find(".which"), time = find(".time"), play = find(".play"), rewards = find(".rewards");
  const cell = 10, trail = 15, wide = 400, high = 90, total = Number(time.max);
  const size = `0 0 ${cell * walls[0].length} ${cell * walls.length}`;
  const middle = ([row, column]) => [cell * (column + 0.5), cell * (row + 0.5)];
  let courses, goal, color, timer = null;

  const square = (row, column, kind) =>
    `<rect class="${kind}" x="${cell * column}" y="${cell * row}" width="${cell}" height="${cell}"/>`;
  // The reward after every number of steps.
  const sums = (values) => values.reduce((sum, value) => [...sum, sum.at(-1) + value], [0]);

  function choose() {
    const one = agents[agent.selectedIndex], maze = one.mazes[which.selectedIndex];
    ({ goal } = maze), ({ color } = one);
    courses = [maze.early, maze.late].map((course) => ({ ...course, sums: sums(course.rewards) }));
    const back = walls.map((row, r) => row.map((wall, c) => wall ? square(r, c, "wall") : "").join("")).join("");
    pictures.forEach((svg, i) => {
      whens[i].textContent = one.when[i];
      svg.setAttribute("viewBox", size);
      svg.innerHTML = `${back}${square(...goal, "goal")}<g></g>`;
    });
    const values = courses.flatMap((course) => course.sums), low = Math.min(...values), top = Math.max(...values, low + 1);
    const y = (value) => high - 6 - (high - 24) * (value - low) / (top - low);
    rewards.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    rewards.innerHTML = courses.map((course, i) => `<path class="${i ? "late" : "early"}" d="M${
      course.sums.map((value, t) => `${(wide * t / total).toFixed(1)} ${y(value).toFixed(1)}`).join("L")}"/>`).join("")
      + `<path class="now"/><text x="0" y="12">reward so far</text>`;
    rewards.style.setProperty("--arm", color);
    draw();
  }

  function draw() {
    const now = Number(time.value);
    courses.forEach(({ path, rewards, sums }, i) => {
      const lines = [];
      for (let t = Math.max(0, now - trail); t < now; t++) {
        const end = rewards[t] > 0 ? goal : path[t + 1];  // the reward's cell; from there the agent is moved
        const [[x0, y0], [x1, y1]] = [path[t], end].map(middle);
        lines.push(`<path d="M${x0} ${y0}L${x1} ${y1}" stroke="${color}" opacity="${1 - 0.8 * (now - t - 1) / trail}"/>`);
      }
      const [x, y] = middle(path[now]);
      pictures[i].querySelector("g").innerHTML = `${lines.join("")}<circle cx="${x}" cy="${y}" r="3.2"/>`;
      const times = rewards.slice(0, now).filter((value) => value > 0).length;
      found[i].textContent = `${times === 1 ? "once" : `${times} times`}, reward ${sums[now].toFixed(1)}`;
    });
    rewards.querySelector(".now").setAttribute("d", `M${wide * now / total} 16V${high}`);
    find("output.now").textContent = now;
    if (now === total) pause();
  }

  const go = (by) => { time.value = Number(time.value) + by; draw(); };
  function pause() { clearInterval(timer); timer = null; play.textContent = "Play"; }
  function start() {
    if (Number(time.value) === total) go(-total);
    timer = setInterval(() => go(1), 120);
    play.textContent = "Pause";
  }

  play.addEventListener("click", () => timer === null ? start() : pause());
  find(".step").addEventListener("click", () => { pause(); go(1); });
  find(".back").addEventListener("click", () => { pause(); go(-1); });
  time.addEventListener("input", draw);
  [agent, which].forEach((choice) => choice.addEventListener("change", choose));
  figure.hidden = false;
  choose();
}));
