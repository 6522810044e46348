// Plots as SVG: scattered points, and lines.

const MARGIN = { left: 54, right: 14, top: 10, bottom: 36 };

function ticks(low, high, log) {
  if (log) {
    const decades = Math.log10(high) - Math.log10(low);
    const step = Math.max(1, Math.ceil(decades / 7));
    const out = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high) + 1e-9; e += step) {
      out.push(...(decades < 2 ? [1, 2, 5] : [1]).map((k) => Number((k * 10 ** e).toPrecision(3))));
    }
    const within = out.filter((t) => t >= low * 0.999 && t <= high * 1.001);
    if (within.length > 1) return within; // else it is so narrow that steps of one size do
  }
  const rough = (high - low) / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * unit).find((s) => s >= rough);
  const out = [];
  for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + step * 1e-9; t += step) out.push(Number(t.toPrecision(10)));
  return out;
}

// A tick's number, which is round, with all of its digits: of a narrow axis the first ones are alike.
function inFull(tick) {
  const size = Math.abs(tick);
  return size >= 1e6 || (size > 0 && size < 1e-3) ? tick.toExponential() : String(tick);
}

// From numbers to pixels, with room at the ends.
function scale(values, from, to, log, bounds) {
  let [low, high] = bounds ?? [Math.min(...values), Math.max(...values)];
  if (log) {
    if (low === high) [low, high] = [low / 2, high * 2];
    const [a, b] = [Math.log10(low), Math.log10(high)];
    const room = bounds ? 0 : 0.04 * (b - a);
    const at = (v) => from + ((Math.log10(v) - a + room) / (b - a + 2 * room)) * (to - from);
    return { at, ticks: ticks(low, high, true) };
  }
  if (low === high) [low, high] = [low - 0.5 * Math.abs(low || 1), high + 0.5 * Math.abs(high || 1)];
  const room = bounds ? 0 : 0.05 * (high - low);
  [low, high] = [low - room, high + room];
  return { at: (v) => from + ((v - low) / (high - low)) * (to - from), ticks: ticks(low, high, false) };
}

function frame(width, height, x, y, xlabel, ylabel, label) {
  const { left, right, top, bottom } = MARGIN;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  svg.append(draw("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` }));
  for (const t of x.ticks) {
    svg.append(draw("path", { class: "axis", d: `M${x.at(t)} ${height - bottom}v4` }));
    svg.append(draw("text", { x: x.at(t), y: height - bottom + 15, "text-anchor": "middle" }, inFull(t)));
  }
  for (const t of y.ticks) {
    svg.append(draw("path", { class: "axis", d: `M${left} ${y.at(t)}H${width - right}` }));
    svg.append(draw("text", { x: left - 6, y: y.at(t) + 4, "text-anchor": "end" }, inFull(t)));
  }
  svg.append(draw("text", { x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }, xlabel));
  const middle = (top + height - bottom) / 2;
  const turned = { x: 11, y: middle, "text-anchor": "middle", transform: `rotate(-90 11 ${middle})` };
  svg.append(draw("text", turned, ylabel));
  return svg;
}

function marker(x, y, k, attributes = {}) {
  const shapes = [
    `M${x - 4} ${y}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0`, `M${x - 4} ${y - 4}h8v8h-8z`,
    `M${x} ${y - 5}l5 9h-10z`, `M${x} ${y - 5.5}l5 5.5l-5 5.5l-5 -5.5z`, `M${x} ${y + 5}l5 -9h-10z`,
    `M${x - 5} ${y - 1.5}h3.5v-3.5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5z`,
  ];
  return draw("path", { class: `dot k${k % 8}`, d: shapes[k % shapes.length], ...attributes });
}

// points: {x, y, k, label, go, weak}; x may be Infinity: such points stand in a strip of their own on the right. limit:
// from x to the greatest y that there can be.
function scatter({ points, xlabel, ylabel, logx, front, strip, limit, label }) {
  const [width, height] = innerWidth > 720 ? [760, 420] : [380, 320];
  const edge = strip ? width - 110 : width - MARGIN.right;
  const finite = points.filter((p) => Number.isFinite(p.x));
  const across = finite.map((p) => p.x);
  const x = scale(across, MARGIN.left, edge, logx);
  const limits = limit ? along(across).map((at) => [at, limit(at)]) : [];
  const y = scale([...points.map((p) => p.y), ...limits.map(([, top]) => top)], height - MARGIN.bottom, MARGIN.top, false);
  const svg = frame(width, height, x, y, xlabel, ylabel, label);
  if (strip) {
    svg.append(draw("path", { class: "axis", d: `M${edge + 8} ${MARGIN.top}V${height - MARGIN.bottom}` }));
    svg.append(draw("text", { x: (edge + width) / 2, y: height - MARGIN.bottom + 15, "text-anchor": "middle" }, strip));
  }
  if (front?.length > 1) {
    const steps = front.map((p, i) => (i ? `H${x.at(p.x)}V${y.at(p.y)}` : `M${x.at(p.x)} ${y.at(p.y)}`));
    svg.append(draw("path", { class: "front", d: steps.join("") }));
  }
  if (limit) {
    const d = limits.map(([at, top], i) => `${i ? "L" : "M"}${x.at(at).toFixed(1)} ${y.at(top).toFixed(1)}`).join("");
    svg.append(draw("path", { class: "limit", d }));
  }
  points.forEach((p, i) => {
    const place = Number.isFinite(p.x) ? x.at(p.x) : (edge + width) / 2 + ((i * 37) % 60) - 30;
    svg.append(marker(place, y.at(p.y), p.k, { onclick: p.go, opacity: p.weak ? 0.3 : null }));
    svg.lastChild.append(draw("title", {}, p.label));
  });
  return svg;
}

// Places from the least to the greatest value, evenly in their logarithms; around a single one.
function along(values) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (low === high) [low, high] = [low / 2, high * 2];
  return Array.from({ length: 65 }, (_, i) => low * (high / low) ** (i / 64));
}

// curves: {x: [...], lines: [[name, [...]], ...]}, as the data has them.
function lines({ curves, xlabel, ylabel, logy, square, diagonal, label }) {
  const [width, height] = square ? [300, 270] : [300, 190];
  if (curves.x.length < 2) return null;
  const values = curves.lines.flatMap(([, line]) => line).filter((v) => v !== null && (!logy || v > 0));
  if (!values.length) return null;
  const x = scale(curves.x, MARGIN.left, width - MARGIN.right, false, [Math.min(...curves.x), Math.max(...curves.x)]);
  const y = scale(values, height - MARGIN.bottom, MARGIN.top, logy, diagonal ? [0, 1] : undefined);
  const svg = frame(width, height, x, y, xlabel, ylabel, label);
  if (diagonal) svg.append(draw("path", { class: "front", d: `M${x.at(0)} ${y.at(0)}L${x.at(1)} ${y.at(1)}` }));
  curves.lines.forEach(([name, line], k) => {
    let path = "";
    line.forEach((v, i) => {
      if (v !== null && (!logy || v > 0)) path += `${path ? "L" : "M"}${x.at(curves.x[i]).toFixed(1)} ${y.at(v).toFixed(1)}`;
    });
    svg.append(draw("path", { class: `line k${k % 8}`, d: path }, draw("title", {}, name)));
  });
  return svg;
}

function key(names, limit) {
  const entry = (width, mark, name) => el("span", {}, draw("svg", { width, height: 12, viewBox: `0 0 ${width} 12` }, mark), name);
  return el("div", { class: "key" }, names.map((name, k) => entry(12, marker(6, 6, k), name)),
    limit ? entry(26, draw("path", { class: "limit", d: "M0 6H26" }), limit) : null);
}
