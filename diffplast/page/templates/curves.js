// Learning curves that answer: values at the pointer or slider, arms on and off, logarithmic or linear episodes.
// Each figure.curves holds its numbers as JSON: what diffplast/report/curves.py calls `points`.
addEventListener("DOMContentLoaded", () => document.querySelectorAll("figure.curves").forEach((figure) => {
  const find = (selector) => figure.querySelector(selector);
  const data = JSON.parse(find("script").textContent);
  const svg = find("svg[role=img]"), cursor = find(".cursor"), log = find(".log");
  const boxes = [...figure.querySelectorAll(".arm")], cells = [...figure.querySelectorAll(".value")];
  const theirs = [...figure.querySelectorAll(".theirs")];
  const aside = 8;  // between the columns of dots, one an arm
  const height = 260, top = 8, bottom = 24, left = 56, right = 12 + aside * data.arms.length;
  const longest = Math.max(1, ...data.arms.flatMap((arm) => arm.episodes));
  const first = Math.min(longest, ...data.arms.flatMap((arm) =>
    [...arm.episodes, ...(arm.paper?.episodes.filter((episode) => episode > 0) ?? [])]));

  // Two significant digits, three from 10 on; large numbers whole: as the rest of the page.
  const number = (value) => Math.abs(value) >= 1000 || Number.isInteger(value)
    ? Math.round(value).toLocaleString("en")
    : Number(value.toPrecision(Math.abs(value) >= 9.95 ? 3 : 2)).toLocaleString("en", { maximumSignificantDigits: 3 });
  const bare = (value) => !data.percent ? number(value)
    : value >= 0.0995 ? (100 * value).toFixed(1).replace(".0", "") : number(100 * value);
  const unit = data.percent ? "\u00a0%" : "";
  const short = (count) => {
    const [size, suffix] = [[1e6, "M"], [1e3, "k"]].find(([size]) => count >= size && count % (size / 10) === 0) ?? [1, ""];
    return (count / size).toLocaleString("en") + suffix;
  };

  // Round numbers from low to high, about `count` of them.
  function ticks(low, high, count) {
    const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const from = Math.floor(low / step), to = Math.max(from + 1, Math.ceil(high / step));
    return Array.from({ length: to - from + 1 }, (_, i) => Number(((from + i) * step).toPrecision(12)));
  }
  function powers() {
    const all = [1, 2, 5].flatMap((factor) => Array.from({ length: 8 }, (_, i) => factor * 10 ** i));
    const inside = all.filter((tick) => tick >= first && tick <= longest);
    return inside.length > 6 ? inside.filter((tick) => Number.isInteger(Math.log10(tick))) : inside;
  }

  let width, x, y, shown;
  function draw() {
    width = svg.clientWidth;
    shown = data.arms.filter((arm, i) => boxes[i].checked && arm.episodes.length);
    const span = width - left - right;
    const share = (episode) => log.checked && longest > first
      ? Math.log(episode / first) / Math.log(longest / first) : episode / longest;
    x = (episode) => left + span * share(episode);
    const values = shown.flatMap((arm) => [...arm.low, ...arm.high, ...arm.unseen, ...arm.seeds.flat(),
      ...(arm.paper?.values ?? []), ...(arm.paper?.bands.flatMap((band) => [...band.low, ...band.high]) ?? [])]);
    if (data.from_zero || !values.length) values.push(0);
    const ys = ticks(Math.min(...values), Math.max(...values), 5);
    y = (value) => height - bottom - (height - top - bottom) * (value - ys[0]) / (ys.at(-1) - ys[0]);
    const xs = log.checked ? powers() : ticks(0, longest, Math.max(2, span / 90)).filter((tick) => tick <= longest);
    const line = (episodes, heights) => episodes.map((episode, i) => `${x(episode).toFixed(1)} ${y(heights[i]).toFixed(1)}`)
      .filter((_, i) => episodes[i] > 0 || !log.checked);  // the paper's curves begin at 0
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.innerHTML = [
      ...ys.map((tick) => `<path class="grid" d="M${left} ${y(tick)}H${width - right}"/>
        <text x="${left - 8}" y="${y(tick) + 4}" text-anchor="end">${bare(tick)}${unit}</text>`),
      ...xs.map((tick) => `<text x="${x(tick)}" y="${height - 6}" text-anchor="middle">${short(tick)}</text>`),
      data.level === null ? "" : `<path class="level" d="M${left} ${y(data.level)}H${width - right}"/>`,
      ...shown.flatMap((arm) => arm.paper?.bands ?? []).map(({ episodes, low, high }) => `<path class="band" d="M${
        [...line(episodes, low), ...line(episodes, high).reverse()].join("L")}Z"/>`),
      ...shown.filter((arm) => arm.paper).map((arm) => `<path class="paper" d="M${
        line(arm.paper.episodes, arm.paper.values).join("L")}" stroke-dasharray="${arm.dash}"/>`),
      ...shown.flatMap((arm) => arm.seeds.map((seed) => `<path class="seed" d="M${
        line(arm.episodes, seed).join("L")}" stroke="${arm.color}"/>`)),
      ...shown.map((arm) => `<path class="line" d="M${line(arm.episodes, arm.middle).join("L")}" stroke="${arm.color}"
        stroke-dasharray="${arm.dash}"/>`),
      ...shown.flatMap((arm) => arm.unseen.map((value) => `<circle cx="${x(arm.episodes.at(-1)) + 9
        + aside * data.arms.indexOf(arm)}" cy="${y(value)}" r="3.5" fill="${arm.color}"/>`)),
      `<g class="at"></g>`,
    ].join("");
    cursor.style.marginLeft = `${left - 8}px`;
    cursor.style.width = `${span + 16}px`;
    point();
  }

  // The paper's curve at an episode, interpolated between its points.
  function between({ episodes, values }, at) {
    const after = episodes.findIndex((episode) => episode >= at);
    if (after < 0 || (after === 0 && episodes[0] !== at)) return "–";
    if (after === 0) return `${bare(values[0])}${unit}`;
    const share = (at - episodes[after - 1]) / (episodes[after] - episodes[after - 1]);
    return `${bare(values[after - 1] + share * (values[after] - values[after - 1]))}${unit}`;
  }

  // The values of all arms at the episodes nearest to the cursor.
  function point() {
    const share = Number(cursor.value);
    const episode = log.checked ? first * (longest / first) ** share : share * longest;
    const nearest = (episodes) => episodes.reduce((best, each) =>
      Math.abs(each - episode) < Math.abs(best - episode) ? each : best);
    const all = shown.flatMap((arm) => arm.episodes);
    const at = all.length ? nearest(all) : 0;
    const dots = all.length ? [`<path d="M${x(at)} ${top}V${height - bottom}"/>`] : [];
    data.arms.forEach((arm, i) => {
      const inside = shown.includes(arm) && at >= arm.episodes[0];
      const k = inside ? arm.episodes.indexOf(nearest(arm.episodes)) : -1;
      const ended = inside && at > arm.episodes.at(-1) ? `, at its end, ${arm.episodes.at(-1).toLocaleString("en")}` : "";
      const range = inside && bare(arm.low[k]) !== bare(arm.high[k]) ? ` (${bare(arm.low[k])}–${bare(arm.high[k])})` : "";
      if (theirs.length) theirs[i].textContent = arm.paper ? between(arm.paper, at) : "–";
      cells[i].textContent = inside ? `${bare(arm.middle[k])}${unit}${range}${ended}` : "–";
      if (inside) dots.push(`<circle cx="${x(arm.episodes[k])}" cy="${y(arm.middle[k])}" r="4" fill="${arm.color}"/>`);
    });
    find("output").textContent = at.toLocaleString("en");
    cursor.setAttribute("aria-valuetext", `episode ${at}`);
    svg.querySelector(".at").innerHTML = dots.join("");
  }

  svg.addEventListener("pointermove", (event) => {
    const place = (event.clientX - svg.getBoundingClientRect().left - left) / (width - left - right);
    cursor.value = Math.min(1, Math.max(0, place));
    point();
  });
  cursor.addEventListener("input", point);
  [log, ...boxes].forEach((box) => box.addEventListener("change", draw));
  find(".live").hidden = false;
  figure.classList.add("answers");
  new ResizeObserver(() => svg.clientWidth !== width && draw()).observe(svg);
  draw();
}));
