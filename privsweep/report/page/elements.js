// Elements are made one by one and text goes in as text: nothing here, or after it, parses markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Three digits, as in the tables; shares of test images and the like in percent.
function show(value, name = "") {
  if (value === null || value === undefined) return "N/A";
  if (typeof value !== "number") return String(value);
  if (/(^|_)accuracy(_|$)/.test(name) && value >= 0 && value <= 1) return `${(100 * value).toFixed(1)}%`;
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return value.toExponential(1);
  if (size >= 100) return value.toFixed(0);
  return String(Number(value.toPrecision(3)));
}

// A name from a record for readers.
const words = (name) => name.replace("at_01_fpr", "at 0.1% fpr").replace("at_1_fpr", "at 1% fpr").replaceAll("_", " ")
  .replace(/\b(ssim|psnr|mse|auc|asr|bleu|tpr|fpr|snr)\b/g, (short) => short.toUpperCase()).replace(/ gib$/, " (GiB)");

function choose(label, options, chosen, changed) {
  const select = el("select", { "aria-label": label, title: label, onchange: () => changed(select.value) });
  for (const [value, text] of options) select.append(el("option", { value, selected: value === chosen }, text));
  return select;
}

function pairs(rows, kind = "") {
  return el("table", { class: `pairs ${kind}` }, el("tbody", {}, rows.map(([name, value]) =>
    el("tr", {}, el("td", {}, name.split(/(?<=\.)/).flatMap((part) => [part, el("wbr")])), el("td", {}, value)))));
}
