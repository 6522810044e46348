// Two runs side by side.

function comparison(changed) {
  let pair = [];
  let all = false;
  const element = el("div", { class: "pad" });

  function toggle(run) {
    pair = pair.includes(run) ? pair.filter((one) => one !== run) : [...pair, run].slice(-2);
    for (const tick of document.querySelectorAll("input[data-run]")) tick.checked = pair.some((one) => one.id === tick.dataset.run);
    update();
    changed(pair.length);
  }

  function rows(heading, left, right, difference) {
    const out = [];
    for (const name of new Set([...left.keys(), ...right.keys()])) {
      const [a, b] = [left.get(name), right.get(name)];
      const same = a === b;
      if (same && !all) continue;
      const texts = [a, b].map((value) => (value === undefined ? "–" : difference ? show(value, name) : String(value)));
      const both = typeof a === "number" && typeof b === "number";
      out.push(el("tr", { class: same ? "same" : "" }, el("td", {}, difference ? words(name) : name),
        texts.map((text) => el("td", { class: difference ? "number" : "" }, text)),
        el("td", { class: "number" }, difference && both && !same ? `${b > a ? "+" : "−"}${show(Math.abs(b - a), name).replace("%", " points")}` : "")));
    }
    return out.length ? [el("tr", {}, el("th", { scope: "rowgroup", colspan: 4 }, heading)), ...out] : [];
  }

  function update() {
    if (pair.length < 2) {
      const left = pair.length ? "one more run" : "two runs";
      element.replaceChildren(el("p", { class: "quiet" }, `Tick ${left} in the list, in the column “compare”.`));
      return;
    }
    const [a, b] = pair;
    const asMap = (run) => new Map([...Object.entries(run.choices), ["seed", run.seed], ["scale", run.scale], ["status", run.status]]);
    const of = (which) => pair.map((run) => numbers(run, which));
    const about = pair.map((run) => new Map([["commit", run.commit], ["date", run.date],
      ...(run.about ?? []).flatMap((part) => Object.entries(data.parts[part]))]));
    const parts = [
      rows("Choices", asMap(a), asMap(b)), rows("Configuration", configuration(a), configuration(b)),
      rows("Utility", ...of("utility"), true), rows("Metrics", ...of("metrics"), true),
      rows("Privacy budget", ...of("privacy"), true), rows("Seconds", ...of("seconds"), true), rows("Made with", ...about),
    ];
    const heads = pair.map((run) => el("th", { scope: "col" }, el("a", { href: `#run/${run.id}` }, title(run)),
      el("div", { class: "quiet" }, `${defense(run)}, seed ${run.seed}, ${run.scale}; ${run.id}`), picture(run, "thumb")));
    const switch_ = el("input", { type: "checkbox", onchange: () => { all = switch_.checked; update(); } });
    switch_.checked = all;
    element.replaceChildren(el("label", { class: "quiet" }, switch_, " also what is the same"),
      el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "comparison" }, el("table", { class: "compare" },
        el("thead", {}, el("tr", {}, el("td", {}), heads, el("th", { scope: "col" }, "difference"))),
        el("tbody", {}, parts.flat()))));
  }

  update();
  return { element, toggle, has: (run) => pair.includes(run) };
}
