// The live maze: two agents in the same maze, whose reward the reader moves. lab.py beside this file says what `data` has.

// An agent in a maze of its own, one step at a time.
laboratory.Walk = class {
  constructor(network, inputs, data) {
    Object.assign(this, { network, inputs, data, neurons: new laboratory.Recurrence(network, "oja") });
    this.free = data.walls.flatMap((row, r) => row.flatMap((wall, c) => wall ? [] : [[r, c]]));
    this.start();
  }

  start() {
    this.neurons.start();
    const middle = Math.floor(this.data.walls.length / 2);
    Object.assign(this, { place: [middle, middle], time: 0, reward: 0, action: -1, total: 0, found: 0, sums: [0], trail: [] });
  }

  // What the agent is given, as MazeEnv gives it.
  observe() {
    const { walls, steps, moves } = this.data, [row, column] = this.place, around = [-1, 0, 1];
    const numbers = {
      view: () => around.flatMap((r) => around.map((c) => walls[row + r]?.[column + c] ?? 1)),
      reward: () => [this.reward],
      step: () => [this.time],
      time: () => [this.time / steps],
      action: () => moves.map((_, k) => Number(k === this.action)),
      bias: () => [1],
    };
    return this.inputs.flatMap((name) => numbers[name]());
  }

  // Acts once, with the reward at `goal`. chance, in [0, 1), decides among the actions; moved: where one is put that
  // finds the reward. Both are random unless they are given.
  step(goal, learns = true, chance = Math.random(), moved = null) {
    const { network, neurons, data } = this, seen = this.observe(), n = neurons.n;
    const layer = (weight, bias, x) => Array.from(bias, (sum, j) => {
      for (let i = 0; i < x.length; i++) sum += weight[j * x.length + i] * x[i];
      return sum;
    });
    const x = neurons.step(layer(network["sense.weight"], network["sense.bias"], seen), null, learns);
    const shares = laboratory.softmax(layer(network["act.weight"], network["act.bias"], x).slice(0, data.moves.length));
    let sum = 0;
    this.action = shares.slice(0, -1).filter((share) => (sum += share) <= chance).length;
    const move = data.moves[this.action], from = this.place;
    let to = [from[0] + move[0], from[1] + move[1]];
    this.reward = 0;
    if (data.walls[to[0]]?.[to[1]] ?? 1) {
      to = from;
      this.reward += data.bump_reward;
    }
    this.trail.push([from, to]);
    if (String(to) === String(goal)) {
      this.reward += data.goal_reward;
      this.found += 1;
      to = moved ?? this.free[Math.floor(Math.random() * this.free.length)];
    }
    this.place = to;
    this.time += 1;
    this.total += this.reward;
    this.sums.push(this.total);
  }
};

laboratory.open("maze", (lab, networks, data) => {
  const find = (selector) => lab.querySelector(selector);
  const { walls, steps } = data, size = walls.length, speeds = [2, 5, 10, 20, 40, 60], past = 16;
  const [board, play, learns, view, speed, sums] = [".board", ".play", ".learns", ".view", ".speed", ".sums"].map(find);
  const cards = [...lab.querySelectorAll(".walk")].map((card) => ({
    card, who: card.querySelector(".agent"), heat: card.querySelector(".heat"), total: card.querySelector(".big"),
    found: card.querySelector(".found span"), why: card.querySelector(".why"),
  }));
  let goal, going = null, due = 0;

  const over = () => cards[0].walk.time === steps;
  const times = (count) => count === 0 ? "not found yet" : count === 1 ? "found once" : `found ${count} times`;

  function choose(one) {
    const { color, inputs, mean } = data.agents[one.who.selectedIndex];
    one.walk = new laboratory.Walk(networks[one.who.selectedIndex], inputs, data);
    one.color = color;
    one.card.style.setProperty("--arm", color);
    one.why.textContent = [one.walk.neurons.plastic ? null : "no trace: nothing changes", mean].filter(Boolean).join("; ");
  }

  function again() {
    pause();
    cards.forEach((one) => one.walk.start());
    const { free } = cards[0].walk;
    goal = free[Math.floor(Math.random() * free.length)];
    draw();
  }

  function draw() {
    const walking = cards.map(({ walk, color }, i) => {
      const trail = walk.trail.slice(-past), aside = i ? .62 : .38;  // so that none hides the other
      const lines = trail.map(([from, to], k) => `<path d="M${from[1] + aside} ${from[0] + aside}L${to[1] + aside} ${
        to[0] + aside}" style="--share: ${
        Math.round(100 * ((k + 1) / trail.length) ** 1.5)}%"/>`);
      return `<g style="--arm: ${color}">${lines.join("")}<circle cx="${walk.place[1] + aside}" cy="${
        walk.place[0] + aside}" r=".3"/></g>`;
    });
    board.querySelector(".now").innerHTML = laboratory.square(...goal, "goal") + walking.join("");
    cards.forEach(({ walk, heat, total, found }) => {
      const { weight, alpha, trace, n } = walk.neurons;
      const [value, full] = {
        learned: [(k) => alpha[k] * trace[k], 0.12], trace: [(k) => trace[k], 0.5],
        all: [(k) => weight[k] + alpha[k] * trace[k], 0.25],
      }[view.value];
      laboratory.heat(heat, n, value, full);
      total.textContent = walk.total.toFixed(1).replace("-", "−");
      found.textContent = times(walk.found);
    });
    const wide = 400, high = 90, totals = cards.flatMap(({ walk }) => walk.sums), now = cards[0].walk.time;
    const low = Math.min(...totals), top = Math.max(...totals, 30);
    const line = (values) => values.map((value, t) =>
      `${(wide * t / steps).toFixed(1)} ${(high - 2 - (high - 22) * (value - low) / (top - low)).toFixed(1)}`).join("L");
    sums.innerHTML = `<svg viewBox="0 0 ${wide} ${high}" preserveAspectRatio="none" height="${high}">${
      cards.map(({ walk, color }, i) => `<path class="walk-${i}" d="M${line(walk.sums)}" stroke="${color}"/>`).join("")}
      <path class="now" d="M${wide * now / steps} 18V${high}"/></svg>
      <text x="0" y="12">reward so far, step ${now} of ${steps}</text>`;
  }

  function step() {
    if (!over()) cards.forEach(({ walk }) => walk.step(goal, learns.checked));
    if (over()) pause();
  }

  // Takes the steps that are due since the last frame, at most those of 0.2 seconds.
  function frame(now) {
    if (going === null) return;
    due += Math.min(0.2, (now - going) / 1000) * speeds[speed.value];
    going = now;
    const draws = due >= 1;
    for (; due >= 1; due--) step();
    if (draws) draw();
    requestAnimationFrame(frame);
  }

  function pause() {
    going = null;
    play.textContent = "Play";
  }
  function start() {
    if (over()) again();
    if (going !== null) return;
    due = 1;
    going = performance.now();
    play.textContent = "Pause";
    requestAnimationFrame(frame);
  }

  board.setAttribute("viewBox", `.5 .5 ${size - 1} ${size - 1}`);
  board.innerHTML = walls.map((row, r) => row.map((wall, c) => laboratory.square(r, c, wall ? "wall" : "floor")).join("")).join("")
    + `<g class="now"></g>`;
  laboratory.squares(board, size, size, (row, column, begun) => {
    if (walls[row][column] || !begun) return;
    if (over()) again();
    goal = [row, column];
    draw();
    start();
  }, (row, column) => walls[row][column] ? "wall" : String(goal) === String([row, column]) ? "the reward" : "free");
  cards.forEach((one) => {
    one.who.addEventListener("change", () => { choose(one); again(); });
    choose(one);
  });
  play.addEventListener("click", () => going === null ? start() : pause());
  find(".step").addEventListener("click", () => { pause(); if (over()) again(); step(); draw(); });
  find(".again").addEventListener("click", again);
  view.addEventListener("change", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  again();
});
