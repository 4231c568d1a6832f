// Live naming: five characters are shown to the network once each, and it names another drawing, as it is drawn.

// Convolutions down to one pixel, and the plastic layer from its features to the classes.
laboratory.Naming = class {
  constructor(network, ways, strength) {
    const { weight, alpha, eta } = network, layers = Object.keys(network).filter((name) => name.startsWith("weights.")).length;
    this.layers = Array.from({ length: layers }, (_, k) => [network[`weights.${k}`], network[`biases.${k}`]]);
    Object.assign(this, { weight, eta: eta?.[0] ?? 0, ways, strength });
    this.alpha = alpha?.length === weight.length ? alpha : new Float32Array(weight.length).fill(alpha?.[0] ?? 0);
    this.forget();
  }

  // The features of a drawing: side x side numbers, ink 1, paper 0. Each layer: 3 x 3, stride 2, tanh.
  features(drawing) {
    let x = drawing, side = Math.sqrt(drawing.length), channels = 1;
    for (const [weight, bias] of this.layers) {
      const wide = (side - 1) / 2, count = bias.length, next = new Float32Array(wide * wide * count);
      const sum = new Float64Array(count);
      for (let row = 0; row < wide; row++) {
        for (let column = 0; column < wide; column++) {
          sum.set(bias);
          for (let r = 0; r < 3; r++) {
            laboratory.addProduct(sum, x, ((2 * row + r) * side + 2 * column) * channels, weight, 3 * r * channels * count, 3 * channels);
          }
          const at = (row * wide + column) * count;
          for (let f = 0; f < count; f++) next[at + f] = Math.tanh(sum[f]);
        }
      }
      [x, side, channels] = [next, wide, count];
    }
    return x;
  }

  forget() {
    this.trace = new Float32Array(this.weight.length);
  }

  logits(features) {
    const { ways, weight, alpha, trace } = this;
    return Array.from({ length: ways }, (_, j) => features.reduce((sum, x, f) =>
      sum + x * (weight[f * ways + j] + alpha[f * ways + j] * trace[f * ways + j]), 0));
  }

  // Shows a drawing with its label: the trace learns, by Oja's rule.
  show(features, label) {
    const { ways, trace, eta } = this;
    const y = laboratory.softmax(this.logits(features).map((logit, j) => logit + (j === label ? this.strength : 0)));
    features.forEach((x, f) => y.forEach((post, j) => {
      trace[f * ways + j] += eta * post * (x - post * trace[f * ways + j]);
    }));
  }

  // The probabilities of a drawing's classes.
  name(features) {
    return laboratory.softmax(this.logits(features));
  }
};

// sum += x M, for `length` numbers of x from `from` on, and a matrix M with its rows one behind the other from `at` on.
// Four rows at a time: sum is read and written a quarter as often.
laboratory.addProduct = (sum, x, from, matrix, at, length) => {
  const n = sum.length, whole = length - length % 4;
  for (let k = 0; k < whole; k += 4) {
    const [a, b, c, d] = [x[from + k], x[from + k + 1], x[from + k + 2], x[from + k + 3]], m = at + k * n;
    if (a || b || c || d) {
      for (let j = 0; j < n; j++) sum[j] += a * matrix[m + j] + b * matrix[m + n + j] + c * matrix[m + 2 * n + j] + d * matrix[m + 3 * n + j];
    }
  }
  for (let k = whole; k < length; k++) {
    const a = x[from + k], m = at + k * n;
    for (let j = 0; j < n; j++) sum[j] += a * matrix[m + j];
  }
};

// A field that a reader draws in. Lines are polygons through points in the field's own unit; pixels, side x side, hold
// a drawing that was not made here. side, habits: see lab.py.
laboratory.Field = class {
  constructor(canvas, side, habits, changed) {
    Object.assign(this, { canvas, side, habits, changed, lines: [], pixels: null });
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    let drawing = false;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      drawing = true;
      this.pixels = null;
      this.lines.push([place(event)]);
      this.update();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!drawing) return;
      this.lines.at(-1).push(...(event.getCoalescedEvents?.() ?? [event]).map(place));
      this.update();
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { drawing = false; });
  }

  get empty() {
    return !this.pixels && !this.lines.length;
  }

  set(pixels) {
    Object.assign(this, { pixels, lines: [] });
    this.update();
  }

  clear() {
    this.set(null);
  }

  update() {
    this.draw();
    this.changed(this);
  }

  // Draws what is in the field, on the screen.
  draw() {
    const { canvas, side, habits } = this, wide = Math.round(canvas.clientWidth * devicePixelRatio) || 1;
    Object.assign(canvas, { width: wide, height: wide });
    const pen = canvas.getContext("2d"), ink = getComputedStyle(canvas).color;
    if (this.pixels) {
      pen.imageSmoothingQuality = "high";
      pen.drawImage(laboratory.picture(this.pixels, side, ink), 0, 0, wide, wide);
    }
    laboratory.line(pen, this.lines, habits.stroke * wide / side, ([x, y]) => [wide * x, wide * y], ink);
  }

  // The drawing as the network's own look: as large, as far from the middle and as thick as those have it.
  seen() {
    const { side, habits, lines } = this;
    if (this.pixels) return this.pixels;
    const points = lines.flat().map((point) => point.map((part) => part * side));
    const low = [0, 1].map((k) => Math.min(...points.map((point) => point[k])));
    const high = [0, 1].map((k) => Math.max(...points.map((point) => point[k])));
    const size = Math.max(high[0] - low[0], high[1] - low[1], 1);
    const { least, most, stroke, aside } = habits;
    const scale = Math.min(most - stroke, Math.max(least - stroke, size)) / size;
    const move = [0, 1].map((k) => {
      const middle = (low[k] + high[k]) / 2;
      return side / 2 + Math.min(aside, Math.max(-aside, middle - side / 2)) - scale * middle;
    });
    const pen = laboratory.pen(side);
    laboratory.line(pen, lines, stroke, (point) => point.map((part, k) => scale * side * part + move[k]));
    return laboratory.inkOf(pen);
  }

  // The drawing turned by an angle and slanted.
  distorted(angle, slant) {
    const { side } = this, pen = laboratory.pen(side), [sin, cos] = [Math.sin(angle), Math.cos(angle)];
    pen.translate(side / 2, side / 2);
    pen.transform(cos, sin, slant * cos - sin, slant * sin + cos, 0, 0);
    pen.drawImage(laboratory.picture(this.seen(), side), -side / 2, -side / 2);
    return laboratory.inkOf(pen);
  }
};

Object.assign(laboratory, {
  pen(side) {
    return Object.assign(document.createElement("canvas"), { width: side, height: side }).getContext("2d", { willReadFrequently: true });
  },
  // The ink of a pen's canvas, 0 to 1.
  inkOf(pen) {
    const { data } = pen.getImageData(0, 0, pen.canvas.width, pen.canvas.height);
    return Float32Array.from({ length: data.length / 4 }, (_, k) => data[4 * k + 3] / 255);
  },
  // A canvas with a drawing of side x side numbers, in a colour.
  picture(pixels, side, color = "#000") {
    const pen = laboratory.pen(side), image = new ImageData(side, side);
    pixels.forEach((ink, k) => { image.data[4 * k + 3] = 255 * ink; });
    pen.putImageData(image, 0, 0);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = color;
    pen.fillRect(0, 0, side, side);
    return pen.canvas;
  },
  // Draws lines with round ends; a single point is a dot.
  line(pen, lines, width, place, color = "#000") {
    Object.assign(pen, { lineWidth: width, lineCap: "round", lineJoin: "round", strokeStyle: color });
    for (const line of lines) {
      pen.beginPath();
      pen.moveTo(...place(line[0]));
      for (const point of line) pen.lineTo(...place(point));
      pen.stroke();
    }
  },
});

laboratory.open("omniglot", (lab, [network], { ways, side, label_strength, sets, habits }) => {
  const find = (selector) => lab.querySelector(selector), all = (selector) => [...lab.querySelectorAll(selector)];
  const naming = new laboratory.Naming(network, ways, label_strength), learns = find(".learns");
  const shown = all(".fields .field"), bars = all(".bar"), shares = all(".share output");
  const answer = find(".answer"), mark = find(".mark"), seen = find(".seen canvas"), another = find(".another");
  const drawings = sets.map((set) => {
    const read = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const pixels = (bytes) => Float32Array.from(bytes, (ink) => ink / 255), all = read(set.shown);
    const one = (k) => pixels(all.subarray(k * side * side, (k + 1) * side * side));
    return { shown: Array.from({ length: ways }, (_, k) => one(k)), tested: pixels(read(set.tested)) };
  });
  let set = -1, next = 0, features = [], due = null;

  // Names the drawing once before the next frame, however often it changes until then.
  function later() {
    due ??= requestAnimationFrame(() => { due = null; name(); });
  }

  function name() {
    naming.forget();
    if (learns.checked) features.forEach((x, k) => { if (x) naming.show(x, k); });
    mark.hidden = !asked.empty;
    const ink = asked.empty ? new Float32Array(side * side) : asked.seen();
    Object.assign(seen, { width: side, height: side });
    seen.getContext("2d").drawImage(laboratory.picture(ink, side, getComputedStyle(seen).color), 0, 0);
    const found = asked.empty ? null : naming.name(naming.features(ink));
    const best = found ? found.indexOf(Math.max(...found)) : -1;
    shown.forEach((field, k) => {
      field.classList.toggle("named", k === best);
      bars[k].style.width = `${100 * (found?.[k] ?? 0)}%`;
      shares[k].textContent = found ? `${(100 * found[k]).toFixed(0)}\u00a0%` : "–";
    });
    answer.textContent = found ? `It is number ${best + 1}` : "Which of them is it?";
  }

  const fields = shown.map((field, k) => new laboratory.Field(field.querySelector("canvas"), side, habits, (one) => {
    features[k] = one.empty ? null : naming.features(one.seen());
    later();
  }));
  const asked = new laboratory.Field(find(".ask canvas"), side, habits, later);

  function five() {
    set = (set + 1) % drawings.length;
    fields.forEach((field, k) => field.set(drawings[set].shown[k]));
    another.disabled = false;
    asked.clear();
  }
  // Another held-out character in one field.
  function other(field) {
    next = (next + 1) % (drawings.length * ways);
    field.set(drawings[Math.floor(next / ways)].shown[next % ways]);
  }
  const tested = () => asked.set(drawings[set].tested);

  [...fields, asked].forEach((field) => {
    field.canvas.parentElement.querySelector(".clear").addEventListener("click", () => field.clear());
    field.canvas.addEventListener("keydown", (event) => {
      if (event.key === "Enter") field === asked ? tested() : other(field);
      else if (event.key === "Delete" || event.key === "Backspace") field.clear();
      else return;
      event.preventDefault();
    });
  });
  find(".five").addEventListener("click", five);
  another.addEventListener("click", tested);
  all(".copy").forEach((button, k) => button.addEventListener("click", () => {
    if (fields[k].empty) return;
    const sign = Math.random() < .5 ? -1 : 1;
    asked.set(fields[k].distorted(sign * (.12 + .12 * Math.random()), .3 * (Math.random() - .5)));
  }));
  learns.addEventListener("change", later);
  const draw = () => [...fields, asked].forEach((field) => field.draw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { draw(); later(); });
  new ResizeObserver(draw).observe(lab);
  five();
});
