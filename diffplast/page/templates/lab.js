// What the laboratories share: the networks' numbers, the plastic recurrence, heat maps, squares to choose from.
// Each div.lab holds its networks and its data in scripts that nothing reads before a reader comes near.
const laboratory = {
  // Calls start(element, networks, data) for the laboratory of a task when it is about to be seen.
  open(task, start) {
    addEventListener("DOMContentLoaded", () => document.querySelectorAll(`.lab.${task}`).forEach((element) => {
      element.hidden = false;
      const seen = new IntersectionObserver((entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        seen.disconnect();
        start(element, ...laboratory.contents(element));
      }, { rootMargin: "200px" });
      seen.observe(element);
    }));
  },

  // The networks of a laboratory, each an object of arrays by name, and its data.
  contents(element) {
    const networks = [...element.querySelectorAll("script[data-layout]")].map((script) => {
      const { buffer } = Uint8Array.from(atob(script.textContent), (letter) => letter.charCodeAt(0));
      let at = 0;
      return Object.fromEntries(JSON.parse(script.dataset.layout).map(([name, count]) => {
        at += 4 * count;
        return [name, new Float32Array(buffer, at - 4 * count, count)];
      }));
    });
    return [networks, JSON.parse(element.querySelector("script[type='application/json']").textContent)];
  },

  softmax(logits) {
    const most = Math.max(...logits), shares = logits.map((logit) => Math.exp(logit - most));
    const total = shares.reduce((sum, share) => sum + share, 0);
    return shares.map((share) => share / total);
  },

  // Draws n x n values on a canvas of as many pixels: blue above zero, orange below, full at `full` and beyond.
  heat(canvas, n, value, full) {
    const picture = new ImageData(n, n), style = getComputedStyle(canvas);
    const [above, below] = ["--above", "--below"].map((name) => style.getPropertyValue(name).split(" ").map(Number));
    for (let k = 0; k < n * n; k++) {
      const v = value(k) / full;
      picture.data.set(v > 0 ? above : below, 4 * k);
      picture.data[4 * k + 3] = 255 * Math.min(1, Math.abs(v));
    }
    Object.assign(canvas, { width: n, height: n });
    canvas.getContext("2d").putImageData(picture, 0, 0);
  },

  // Lets a reader choose squares of a picture whose viewBox counts squares: by pointer, or by arrows and Enter.
  // choose(row, column, begun): begun is false while a mouse is dragged on. say(row, column): a square in words.
  squares(svg, rows, columns, choose, say) {
    const cursor = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const said = document.createElement("output");
    let at = [Math.floor(rows / 2), Math.floor(columns / 2)], down = false;
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("width", 1);
    cursor.setAttribute("height", 1);
    said.className = "said";
    svg.after(said);
    const move = ([row, column]) => {
      at = [Math.min(rows - 1, Math.max(0, row)), Math.min(columns - 1, Math.max(0, column))];
      cursor.setAttribute("y", at[0]);
      cursor.setAttribute("x", at[1]);
      svg.append(cursor);
    };
    const place = (event) => {
      const box = svg.getBoundingClientRect(), { x, y, width, height } = svg.viewBox.baseVal;
      return [y + height * (event.clientY - box.top) / box.height, x + width * (event.clientX - box.left) / box.width].map(Math.floor);
    };
    svg.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      down = event.pointerType === "mouse";
      move(place(event));
      if (down) choose(...at, true);
    });
    svg.addEventListener("pointermove", (event) => {
      const before = String(at);
      if (event.pointerType === "mouse") move(place(event));
      if (down && String(at) !== before) choose(...at, false);
    });
    svg.addEventListener("click", (event) => {  // a tap; a swipe over the picture scrolls and is none
      if (event.pointerType !== "mouse") choose(...at, true);
    });
    addEventListener("pointerup", () => { down = false; });
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (by) move([at[0] + by[0], at[1] + by[1]]);
      else if (event.key === "Enter" || event.key === " ") choose(...at, true);
      else return;
      event.preventDefault();
      said.textContent = say(...at);
    });
    move(at);
  },

  // An SVG rectangle of one square.
  square: (row, column, kind) => `<rect class="${kind}" x="${column}" y="${row}" width="1" height="1"/>`,
};

// Recurrent neurons with plastic connections: x(t) = tanh(x(t-1) (w + alpha H) + input), or the input where clamped.
//   "hebb": H(t) = (1 - eta) H(t-1) + eta x_i(t-1) x_j(t)      "oja": H(t) = H(t-1) + eta x_j(t) (x_i(t-1) - x_j(t) H(t-1))
// Rows of w, alpha and H are presynaptic. alpha: one for each connection, one in all, or none.
laboratory.Recurrence = class {
  constructor({ weight, alpha, eta }, rule) {
    this.n = Math.sqrt(weight.length);
    Object.assign(this, { weight, eta: eta?.[0] ?? 0, rule, total: new Float64Array(this.n) });
    this.plastic = alpha !== undefined;
    this.alpha = alpha?.length === weight.length ? alpha : new Float32Array(weight.length).fill(alpha?.[0] ?? 0);
    this.start();
  }

  start() {
    this.x = new Float32Array(this.n);
    this.trace = new Float32Array(this.weight.length);
  }

  // One step; the trace stays as it is unless the network learns.
  step(input, clamped = null, learns = true) {
    const { n, x, weight, alpha, trace, total, eta } = this, next = new Float32Array(n);
    total.set(input);
    for (let i = 0, k = 0; i < n; i++) {
      const pre = x[i];
      for (let j = 0; j < n; j++, k++) total[j] += pre * (weight[k] + alpha[k] * trace[k]);
    }
    for (let j = 0; j < n; j++) next[j] = clamped?.[j] ? input[j] : Math.tanh(total[j]);
    if (this.plastic && learns) {
      for (let i = 0, k = 0; i < n; i++) {
        if (this.rule === "hebb") for (let j = 0; j < n; j++, k++) trace[k] += eta * (x[i] * next[j] - trace[k]);
        else for (let j = 0; j < n; j++, k++) trace[k] += eta * next[j] * (x[i] - next[j] * trace[k]);
      }
    }
    this.x = next;
    return next;
  }
};
