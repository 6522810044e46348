// The best that a membership inference can do against (ε, δ)-differential privacy, whatever it knows and computes:
// Kairouz, Oh and Viswanath, The composition theorem for differential privacy (ICML 2015), theorem 2.1.

const tprAt = (fpr) => (epsilon, delta) =>
  Math.min(1, Math.exp(epsilon) * fpr + delta, 1 - Math.exp(-epsilon) * (1 - delta - fpr));
// Half of one plus the greatest true less false positive rate, (exp ε - 1 + 2 δ) / (exp ε + 1).
const balanced = (epsilon, delta) => 1 - (1 - delta) / (1 + Math.exp(epsilon));
const BOUNDS = {
  tpr_at_1_fpr: tprAt(0.01), tpr_at_01_fpr: tprAt(0.001),
  balanced_accuracy: balanced, attack_accuracy: balanced, // half of the candidates are members
};

// ε -> the greatest value of a metric of these runs, and its name; null where there is no such bound, or where an
// attack saw more than the budget covers.
function bound(metric, some) {
  const deltas = some.map((run) => spent(run)?.delta);
  const membership = some.every((run) => typeof number(run, "metrics", "auc") === "number"); // others share names
  const covered = some.every((run) => spent(run)?.seen);
  if (!own(BOUNDS, metric) || !some.length || !membership || !covered || deltas.some((delta) => typeof delta !== "number")) return null;
  const delta = Math.max(...deltas);
  const same = deltas.every((one) => one === delta);
  return {
    at: (epsilon) => BOUNDS[metric](epsilon, delta),
    name: `the most that (ε, δ)-differential privacy allows, δ ${same ? "=" : "up to"} ${show(delta)} (Kairouz et al., 2015)`,
  };
}
