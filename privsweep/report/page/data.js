// The runs: what they have in common stands once in the data and is looked up here.

const data = JSON.parse(document.getElementById("data").textContent);
const runs = data.runs;
const byId = new Map(runs.map((run) => [run.id, run]));

// "metrics", "utility", "privacy" or "seconds" of a run, in order.
function numbers(run, which) {
  const [names, ...values] = run[which] ?? [];
  return new Map(names === undefined ? [] : data.names[names].map((name, i) => [name, values[i]]));
}

function number(run, which, name) {
  const [names, ...values] = run[which] ?? [];
  const place = names === undefined ? -1 : data.names[names].indexOf(name);
  return place < 0 ? undefined : values[place];
}

function configuration(run) {
  return new Map((run.parts ?? []).flatMap((part) => Object.entries(data.parts[part])));
}

function setting(run, name) {
  const part = (run.parts ?? []).find((place) => own(data.parts[place], name));
  return part === undefined ? undefined : data.parts[part][name];
}

// The keys of configurations in which runs differ.
function varied() {
  const values = new Map();
  for (const part of new Set(runs.flatMap((run) => run.parts ?? []))) {
    for (const [name, value] of Object.entries(data.parts[part])) {
      values.set(name, (values.get(name) ?? new Set()).add(value));
    }
  }
  return [...values.keys()].filter((name) => values.get(name).size > 1 && !name.endsWith("_target_"));
}

// The privacy budget of a run's first defence that has one.
function spent(run) {
  const all = numbers(run, "privacy");
  for (const [name, value] of all) {
    if (name.endsWith(".epsilon") && typeof value === "number") {
      const [delta, covers] = ["delta", "covers"].map((other) => all.get(name.replace(/epsilon$/, other)));
      return { epsilon: value, delta, seen: covers !== "released model" }; // whether it holds for what the attack saw
    }
  }
  return undefined;
}

const budget = (run) => spent(run)?.epsilon;

// Every name of a number that some run has, with how many have it.
function counted(which, wanted) {
  const found = new Map();
  for (const run of runs) {
    for (const [name, value] of numbers(run, which)) {
      if (typeof value === "number" && wanted(name)) found.set(name, (found.get(name) ?? 0) + 1);
    }
  }
  return found;
}

const own = (object, name) => Object.hasOwn(object, name);
const leakages = counted("metrics", (name) => own(data.leakage, name));
const utilities = counted("utility", (name) => own(data.utility, name));
// The most frequent first; among equals in the order of "known".
const most = (counts, known = {}) => {
  const places = Object.keys(known);
  return [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || places.indexOf(a) - places.indexOf(b));
};

const title = (run) => ["attack", "dataset", "model", "fl_setting"].map((group) => run.choices[group]).join(", ");
const defense = (run) => (run.choices.defense === "none" ? "no defence" : run.choices.defense);
const complete = (run) => run.status === "complete";

const having = (some, values) => some.filter((run) => values.every((value) => typeof value(run) === "number"));

// Runs that differ in their seed alone count as one point; "values" are what is averaged. Where a seed has failed or has
// no number there is no mean: "without" counts these.
function overSeeds(some, values) {
  const groups = new Map();
  for (const run of some) {
    const key = JSON.stringify([run.choices.attack, run.choices.dataset, run.choices.defense, run.scale, run.parts]);
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  const mean = (numbers) => numbers.reduce((sum, one) => sum + one, 0) / numbers.length;
  const known = [...groups.values()].filter((group) => having(group, values).length);
  const whole = known.filter((group) => having(group, values).length === group.length);
  const means = whole.map((group) => ({ run: group[0], all: group, values: values.map((value) => mean(group.map(value))) }));
  return { means, without: known.length - whole.length };
}
