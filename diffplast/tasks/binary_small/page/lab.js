// Live pattern completion: two patterns that the reader edits are shown to a plastic network, then a part of one.

// A plastic network, one neuron a bit and one for the bias, and the times of its episodes.
laboratory.Completion = class {
  constructor(network, times, bits) {
    const alpha = Float32Array.from(network.alpha);
    for (let i = 0; i <= bits; i++) alpha[i * (bits + 2)] = 0;  // a neuron's connection to itself is not plastic
    Object.assign(this, { times, bits, neurons: new laboratory.Recurrence({ ...network, alpha }, "hebb") });
    const slot = times.shown + times.gap;
    this.begins = times.rounds * times.patterns * slot;
    this.steps = this.begins + times.test;
    this.slot = slot;
  }

  // What step t shows: the number of a pattern's place in the order, "gap" or "cue".
  phase(t) {
    if (t >= this.begins) return "cue";
    return t % this.slot < this.times.shown ? Math.floor(t / this.slot) : "gap";
  }

  // Runs an episode for some steps; returns the activities of each. patterns: of 1 and -1; order: which is shown when;
  // cue: 0 where a bit is blank.
  run(patterns, order, cue, steps = this.steps, learns = true) {
    const { neurons, bits } = this;
    neurons.start();
    return Array.from({ length: steps }, (_, t) => {
      const input = new Float32Array(bits + 1), phase = this.phase(t);
      input[bits] = 1;
      if (phase !== "gap") input.set(phase === "cue" ? cue : patterns[order[phase]]);
      return neurons.step(input, input.map((value) => value !== 0), learns);
    });
  }
};

laboratory.open("binary_small", (lab, networks, { bits, networks: about }) => {
  const find = (selector) => lab.querySelector(selector), all = (selector) => [...lab.querySelectorAll(selector)];
  const boards = all(".pattern"), cueBoard = find(".cue"), restored = all(".restored"), scores = all(".score");
  const [which, chosen, time, play, heat, phase] = [".which", ".network", ".time", ".play", ".heat", ".phase"].map(find);
  const columns = Math.ceil(Math.sqrt(2 * bits)), rows = Math.ceil(bits / columns);
  let patterns, kept, completion, order, runs, timer = null, brush;

  // As many ones as of the others, in a random order.
  const half = (one, other) => {
    const all = Array.from({ length: bits }, (_, k) => k < bits / 2 ? one : other);
    for (let k = bits - 1; k > 0; k--) {
      const other = Math.floor(Math.random() * (k + 1));
      [all[k], all[other]] = [all[other], all[k]];
    }
    return all;
  };
  const target = () => patterns[which.value];
  const cue = () => target().map((bit, k) => kept[k] ? bit : 0);

  function show(svg, value, kind = () => "", wrong = () => false) {
    svg.querySelector("g").innerHTML = Array.from({ length: bits }, (_, k) => {
      const row = Math.floor(k / columns), column = k % columns;
      const cross = wrong(k) ? `<path d="M${column + .3} ${row + .3}l.4 .4m0 -.4l-.4 .4"/>` : "";
      return `<rect class="${kind(k)}" style="--share: ${Math.round(50 + 50 * value(k))}%" x="${column}" y="${row}" width="1" height="1"/>${cross}`;
    }).join("");
  }

  // Runs the episode as it is now, with the trace and without, and shows its end.
  function again() {
    runs = [true, false].map((learns) => completion.run(patterns, order, cue(), completion.steps, learns));
    boards.forEach((svg, i) => show(svg, (k) => patterns[i][k]));
    show(cueBoard, (k) => target()[k], (k) => kept[k] ? "" : "blank");
    time.max = completion.steps;
    time.value = completion.steps;
    draw();
  }

  function draw() {
    const now = Number(time.value), ended = now === completion.steps, at = completion.phase(now - 1);
    runs.forEach((states, i) => {
      const x = states[now - 1] ?? new Float32Array(bits + 1), wrong = (k) => Math.sign(x[k]) !== target()[k];
      show(restored[i], (k) => x[k], undefined, (k) => ended && wrong(k));
      const count = x.slice(0, bits).filter((_, k) => wrong(k)).length;
      scores[i].textContent = !ended ? "" : count ? `${count} of ${bits} wrong` : `all ${bits} right`;
    });
    completion.run(patterns, order, cue());
    const { trace, n } = completion.neurons, full = Math.max(...trace.map(Math.abs));
    completion.run(patterns, order, cue(), now);
    laboratory.heat(heat, n, (k) => completion.neurons.trace[k], full);
    const what = now === 0 ? "nothing yet" : at === "gap" ? "pause" : at === "cue" ? "the cue is given" : `${"AB"[order[at]]} is shown`;
    phase.textContent = `step ${now} of ${completion.steps}: ${what}`;
    if (ended) pause();
  }

  function choose() {
    const { times } = about[chosen.selectedIndex];
    completion = new laboratory.Completion(networks[chosen.selectedIndex], times, bits);
    order = Array.from({ length: times.rounds }, (_, round) => round % 2 ? [1, 0] : [0, 1]).flat();
    again();
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }
  function start() {
    if (Number(time.value) === completion.steps) time.value = 0;
    play.textContent = "Pause";
    timer = setInterval(() => { time.value = Number(time.value) + 1; draw(); }, 6000 / completion.steps);
  }

  const squares = (svg, change, say) => {
    svg.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
    svg.innerHTML = "<g></g>";
    if (!change) return;
    laboratory.squares(svg, rows, columns, (row, column, begun) => {
      const k = row * columns + column;
      if (k >= bits) return;
      pause();
      change(k, begun);
      again();
    }, (row, column) => say(row * columns + column));
  };
  boards.forEach((svg, i) => squares(svg, (k, begun) => {
    if (begun) brush = -patterns[i][k];
    patterns[i][k] = brush;
  }, (k) => patterns[i][k] > 0 ? "on" : "off"));
  squares(cueBoard, (k, begun) => {
    if (begun) brush = !kept[k];
    kept[k] = brush;
  }, (k) => !kept[k] ? "blank" : target()[k] > 0 ? "on" : "off");
  restored.forEach((svg) => squares(svg));

  const others = () => { patterns = [half(1, -1), half(1, -1)]; };
  const blank = () => { kept = half(true, false); };
  find(".other").addEventListener("click", () => { pause(); others(); blank(); again(); });
  find(".half").addEventListener("click", () => { pause(); blank(); again(); });
  which.addEventListener("change", () => { pause(); again(); });
  chosen.addEventListener("change", () => { pause(); choose(); });
  time.addEventListener("input", () => { pause(); draw(); });
  play.addEventListener("click", () => timer === null ? start() : pause());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  others();
  blank();
  choose();
});
