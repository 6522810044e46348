// Utility against leakage with the Pareto front, and leakage by privacy budget.

const worse = (name) => (data.leakage[name] < 0 ? "less is worse" : "more is worse");

// What no other point beats: at least as useful and leaking no more, and better in one.
function paretoFront(points, useful, leaky) {
  const sorted = [...points].sort((a, b) => useful * (b.x - a.x) || leaky * (a.y - b.y));
  const front = [];
  for (const point of sorted) {
    const last = front.at(-1);
    if (!last || leaky * (last.y - point.y) > 0) front.push(point);
  }
  return front;
}

// Defences are compared fairly under one attack on one dataset, model and setting: such groups, those with the most
// defences first. Of them one is shown, or all runs mixed.
const ALL = "all of them, mixed";
const groupOf = (run) => `${title(run)}, ${run.scale}`;

function groupsOf(some) {
  const defences = new Map();
  for (const run of some) {
    const group = groupOf(run);
    defences.set(group, (defences.get(group) ?? new Map()).set(defense(run), true));
  }
  const work = (group) => !group.endsWith(", smoke"); // what says nothing comes last
  return [...defences].sort((a, b) => work(b[0]) - work(a[0]) || b[1].size - a[1].size).map(([group, found]) => [group, found.size]);
}

function chooseGroup(usable, state, update) {
  const groups = groupsOf(usable);
  if (state.group !== ALL && !groups.some(([group]) => group === state.group)) state.group = groups[0]?.[0] ?? ALL;
  const options = [...groups.map(([group, n]) => [group, `${group} (${n} ${n > 1 ? "defences" : "defence"})`]), [ALL, ALL]];
  const select = choose("under", options, state.group, (group) => { state.group = group; update(); });
  return [el("label", {}, "under ", select), (run) => state.group === ALL || groupOf(run) === state.group];
}

function seedsSwitch(state, update) {
  const tick = el("input", { type: "checkbox", onchange: () => { state.mean = tick.checked; update(); } });
  tick.checked = state.mean;
  return el("label", {}, tick, " mean over seeds");
}

// "values" gives [x, y] of a run, and "leaky" the sign of what leaks more; "lacking" tells of means that are not there.
function pointsOf(some, values, leaky, mean, go, label) {
  const usable = having(some, values);
  const names = [...new Set(usable.map(defense))].sort();
  const { means, without } = overSeeds(some, values);
  const grouped = mean ? means : usable.map((run) => ({ run, all: [run], values: values.map((v) => v(run)) }));
  const points = grouped.map(({ run, all, values: [x, y] }) => ({
    x, y, run, k: names.indexOf(defense(run)), go: () => go(run), systems: systemsOf(all, x),
    label: `${defense(run)}: ${title(run)}${all.length > 1 ? `, ${all.length} seeds` : `, seed ${run.seed}`}\n${label(x, y)}`,
  }));
  const most = new Map();
  for (const { systems, y } of points) most.set(systems, leaky > 0 ? Math.max(y, most.get(systems) ?? y) : Math.min(y, most.get(systems) ?? y));
  for (const point of points) point.weak = point.y !== most.get(point.systems);
  return { points, names, lacking: mean && without ? `; ${without} without a mean, for a seed failed or has no number` : "" };
}

// What was attacked: the trained systems, as useful as they were then, and what their clients sent, for a defence may
// act and a batch be captured outside of training; of a run that does not tell itself.
const sent = (run) => [...configuration(run)].filter(([name]) => /^(defense|fl_setting\.capture)\./.test(name));
const systemsOf = (all, x) =>
  JSON.stringify([all.map((run) => run.system ?? run.id).sort(), Number.isFinite(x) ? x : null, defense(all[0]), sent(all[0])]);

function tradeoff(go) {
  const state = { utility: most(utilities, data.utility)[0], leakage: most(leakages, data.leakage)[0], mean: true, runs: [] };
  const element = el("div", { class: "pad" });

  function update(some = state.runs) {
    state.runs = some;
    const values = [(run) => number(run, "utility", state.utility), (run) => number(run, "metrics", state.leakage)];
    const label = (x, y) => `${words(state.utility)} ${show(x, state.utility)}, ${words(state.leakage)} ${show(y, state.leakage)}`;
    const usable = having(some, values);
    const [under, within] = chooseGroup(usable, state, update);
    const { points, names, lacking } = pointsOf(some.filter(within), values, data.leakage[state.leakage], state.mean, go, label);
    const pick = (which, names_) => choose(which, names_.map((name) => [name, words(name)]), state[which], (name) => {
      state[which] = name;
      update();
    });
    const bar = el("div", { class: "bar" }, el("label", {}, "utility ", pick("utility", most(utilities, data.utility))),
      el("label", {}, "leakage ", pick("leakage", most(leakages, data.leakage))), under, seedsSwitch(state, update),
      el("span", { class: "quiet" }, `${usable.filter(within).length} runs; ${usable.length} of ${some.length} have both numbers${lacking}`));
    if (!points.length) return element.replaceChildren(bar);
    const front = paretoFront(points.filter((p) => !p.weak), data.utility[state.utility], data.leakage[state.leakage]);
    const ordered = [...front].sort((a, b) => a.x - b.x);
    const chart = scatter({ points, front: ordered, xlabel: words(state.utility), label: "utility against leakage",
      ylabel: `${words(state.leakage)} (${worse(state.leakage)})` });
    element.replaceChildren(bar, el("div", { class: "beside" },
      el("div", {}, key(names), chart), frontTable(ordered)));
  }

  function frontTable(front) {
    return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Pareto front" },
      el("h4", {}, "On the Pareto front: no other is as useful and leaks less"),
      el("p", { class: "quiet" }, "A model counts by the attack that gets most from it; weaker ones are faint."),
      el("table", {}, el("thead", {}, el("tr", {}, ["defence", state.utility, state.leakage, "run"].map((name) => el("th", {}, words(name))))),
        el("tbody", {}, front.map((p) => el("tr", {}, el("td", {}, defense(p.run)), el("td", {}, show(p.x, state.utility)),
          el("td", {}, show(p.y, state.leakage)), el("td", {}, el("a", { href: `#run/${p.run.id}` }, p.run.id)))))));
  }

  return { element, update };
}

function budgets(go) {
  const names = Object.keys(data.leakage).filter((name) =>
    runs.some((run) => budget(run) !== undefined && typeof number(run, "metrics", name) === "number"));
  const state = { leakage: names.includes("auc") ? "auc" : names[0], mean: true, runs: [] };
  const element = el("div", { class: "pad" });

  function update(some = state.runs) {
    state.runs = some;
    const values = [(run) => budget(run) ?? Infinity, (run) => number(run, "metrics", state.leakage)];
    const label = (x, y) => `${Number.isFinite(x) ? `ε ${show(x)}` : "no budget"}, ${words(state.leakage)} ${show(y, state.leakage)}`;
    const bounded = new Set(some.filter((run) => budget(run) !== undefined).map(groupOf));
    const usable = having(some, values).filter((run) => bounded.has(groupOf(run)));
    const [under, within] = chooseGroup(usable, state, update);
    const made = pointsOf(some.filter((run) => bounded.has(groupOf(run)) && within(run)), values, data.leakage[state.leakage], state.mean, go, label);
    const paid = made.points.filter((p) => Number.isFinite(p.x) && p.x > 0);
    const points = made.points.filter((p) => p.x > 0);
    const bar = el("div", { class: "bar" }, el("label", {}, "leakage ", choose("leakage", names.map((name) => [name, words(name)]), state.leakage,
      (name) => { state.leakage = name; update(); })), under, seedsSwitch(state, update),
      el("span", { class: "quiet" }, `${paid.length} with a privacy budget, ${points.length - paid.length} without${made.lacking}`));
    if (!paid.length) return element.replaceChildren(bar);
    const limit = bound(state.leakage, paid.map((p) => p.run));
    const strip = paid.length < points.length ? "no budget" : null;
    element.replaceChildren(bar, key(made.names, limit?.name), scatter({ points, logx: true, strip, limit: limit?.at,
      xlabel: "ε of the whole training, by the accountant", ylabel: `${words(state.leakage)} (${worse(state.leakage)})`,
      label: "leakage by privacy budget" }));
  }

  return { element, update };
}
