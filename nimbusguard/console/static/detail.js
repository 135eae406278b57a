// One workload: what it did, why, whether it was right, how to stop it.

import { charts } from "./chart.js";
import { age, bar, clock, make, number, percent, seconds, table } from "./dom.js";
import { explained } from "./rules.js";

const SPANS = [["15 min", 900], ["1 h", 3600], ["6 h", 21600], ["1 day", 86400]];

export function detail(shown, explanation, view, change) {
  return [
    ...verdict(shown), ...lastDecision(shown), ...why(explanation, shown), ...values(shown), ...canary(shown),
    ...history(shown, view, change), ...recent(shown), ...stop(shown.about),
  ];
}

function verdict({ comparison, recent, about, last }) {
  if (last.mode === "asked") {
    return [make("h3", {}, "The last five minutes"),
      make("p", { id: "verdict" }, `Somebody asked ${times(comparison.decisions)}. Nothing was scaled, so there is nothing to hold against the HPA.`)];
  }
  const tone = { better: "good", worse: "bad" }[comparison.verdict] ?? "";
  const changes = recent.filter((one) => one.applied);
  const acts = comparison.changes === 0 ? "It changed nothing" : `It changed the replicas ${times(comparison.changes)}, from `
    + `${changes[changes.length - 1].current_replicas} to ${changes[0].target_replicas}`;
  return [
    make("h3", {}, "The last five minutes"),
    make("p", {}, `${acts}, in ${comparison.decisions} decision${comparison.decisions === 1 ? "" : "s"}.`),
    make("p", { id: "verdict" }, "Against the HPA: ", make("span", { class: `verdict ${tone}` }, comparison.verdict), ` – ${comparison.reason}.`),
    make("dl", {},
      ...pair("Pod-hours", `${number(comparison.pod_hours, 3)}; the HPA's ${number(comparison.hpa_pod_hours, 3)}`),
      ...pair("Requests slow or failed", about.objective_latency_s === null ? "no objective known"
        : `${percent(comparison.violating_share)} (objective ${seconds(about.objective_latency_s)})`),
      ...pair("The HPA's pods short of CPU", comparison.hpa_starved_share === null ? "–" : `${percent(comparison.hpa_starved_share)} of the time`)),
    make("p", { class: "quiet" }, "Of the HPA only its rule is known, at 70 % CPU with its window of five minutes: an estimate."),
  ];
}

function lastDecision({ last, about, now_s }) {
  const done = last.applied ? "carried out" : last.mode === "act" ? "nothing to change" : "only recorded";
  return [
    make("h3", {}, "Last decision"),
    make("dl", {},
      ...pair("When", `${clock(last.at_s)}, ${age(now_s - last.at_s)}`),
      ...pair("Action", `${last.action}: ${last.current_replicas} to ${last.target_replicas} replicas, ${done}`),
      ...pair("Decided by", `${last.source}${last.model_version ? `, version ${last.model_version}` : ""}, ${last.arm}`),
      ...pair("Mode", about.paused ? `${last.mode}, paused` : last.mode),
      ...pair("Guard", last.guard.length ? explained(last.guard) : "changed nothing"),
      ...pair("Bounds", about.min_replicas === null ? "unknown" : `${about.min_replicas} to ${about.max_replicas} replicas`),
      ...(about.problem ? pair("Problem", about.problem, "bad") : [])),
  ];
}

function why(explanation, { last }) {
  const title = make("h3", {}, "Why");
  if (last.q_values === null) return [title, make("p", {}, `No network answered: ${last.source} decided, by a rule.`)];
  if (explanation === null) return [title, make("p", { class: "quiet" }, "Asking…")];
  if (explanation.error) return [title, make("p", { class: "bad" }, `No explanation: ${explanation.error}`)];
  const { sentence, features, action, q_value, baseline_q_value } = explanation.explanation;
  const longest = Math.max(...features.map((one) => Math.abs(one.attribution))) || 1;
  const sorted = [...features].sort((a, b) => Math.abs(b.attribution) - Math.abs(a.attribution));
  return [
    title,
    make("p", { id: "sentence" }, sentence),
    explanation.same_version ? null : make("p", { class: "bad" },
      `Version ${last.model_version} decided; this explains version ${explanation.model_version}, which is served now.`),
    table(`What adds to the Q-value of ${action}: ${number(q_value)}, of a calm workload ${number(baseline_q_value)}`,
      ["Feature", "Adds", "Bar", "Value", "Calm"],
      sorted.map((one) => ({ cells: [one.name, signed(one.attribution), bar(one.attribution / longest), `${number(one.value)}${one.unit === "ratio" ? "" : ` ${one.unit}`}`, number(one.baseline)] }))),
  ].filter((part) => part !== null);
}

function values({ last }) {
  if (last.q_values === null) return [];
  const names = ["SCALE_DOWN_2", "SCALE_DOWN_1", "NO_ACTION", "SCALE_UP_1", "SCALE_UP_2"];
  const low = Math.min(...last.q_values);
  const spread = Math.max(...last.q_values) - low || 1;
  return [
    make("h3", {}, "Q-values and mask"),
    table("What each action is worth to the network", ["Action", "Q-value", "Above the worst", "Note"], names.map((name, index) => {
      const allowed = last.allowed.includes(name);
      const chosen = name === last.action;
      return {
        class: chosen ? "chosen" : allowed ? null : "masked",
        cells: [name, number(last.q_values[index]), bar((last.q_values[index] - low) / spread, 0),
          chosen ? "chosen" : allowed ? "" : "outside the bounds"],
      };
    })),
  ];
}

function canary({ canary: other, last }) {
  const title = make("h3", {}, "Canary");
  if (other === null) {
    return [title, make("p", {}, last.arm === "canary" ? "The canary decides for this workload." : "No canary is compared for this workload.")];
  }
  const agrees = other.action === last.action;
  return [title, make("p", {}, `Version ${other.model_version ?? "unknown"} would have chosen ${other.action} (${other.current_replicas} to `,
    `${other.target_replicas} replicas), which `, make("strong", { class: agrees ? "good" : "bad" }, agrees ? "agrees" : "disagrees"), ".")];
}

function history(shown, view, change) {
  const zoom = (from, until) => change({ seconds: Math.max(Math.round(until - from), 60), until });
  return [
    make("h3", { id: "history" }, "History"),
    make("div", { class: "tools", role: "group", "aria-label": "Time shown" },
      ...SPANS.map(([name, span]) => make("button", { type: "button", "data-key": name,
        "aria-pressed": String(view.seconds === span && view.until === null), onclick: () => change({ seconds: span, until: null }) }, name)),
      make("button", { type: "button", "data-key": "earlier", onclick: () => change({ seconds: view.seconds, until: shown.until_s - view.seconds / 2 }) }, "Earlier"),
      make("button", { type: "button", "data-key": "later", disabled: view.until === null,
        onclick: () => change({ seconds: view.seconds, until: later(shown, view) }) }, "Later")),
    make("p", { class: "quiet" }, shown.history.length
      ? `${clock(shown.from_s)} to ${clock(shown.until_s)}: ${shown.history.length} decisions. Drag over a chart to zoom in.`
      : `Nothing recorded from ${clock(shown.from_s)} to ${clock(shown.until_s)}.`),
    charts(shown.history, shown.from_s, shown.until_s, zoom),
  ];
}

function later(shown, view) {
  const until = shown.until_s + view.seconds / 2;
  return until >= shown.now_s ? null : until;
}

function recent({ recent: decisions }) {
  return [
    make("h3", {}, "Decisions of the last five minutes"),
    table(decisions.length ? "Newest first" : "None", ["Time", "Action", "Replicas", "HPA's wish", "Load", "p95", "Guard"],
      decisions.map((one) => ({ cells: [clock(one.at_s), one.action, replicas(one),
        number(one.hpa_replicas, 0), number(one.load, 1), seconds(one.p95_s), one.guard.join(", ") || "–"] }))),
  ];
}

function stop(about) {
  if (!about.pause_command) return [];
  const [title, text, command] = about.paused
    ? ["Let it go on", "It is paused: nothing is scaled. This ends the pause:", about.resume_command]
    : ["Stop it", "This stops every change of this workload at once, and keeps its replicas:", about.pause_command];
  const told = make("span", { role: "status" });
  const copy = async () => {
    try { await navigator.clipboard.writeText(command); told.textContent = " Copied."; } catch { told.textContent = " Select and copy it by hand."; }
  };
  return [make("h3", {}, title), make("p", {}, text), make("pre", { tabindex: "0" }, make("code", { id: "stop" }, command)),
    make("button", { type: "button", "data-key": "copy", onclick: copy }, "Copy the command"), told];
}

function replicas(one) {
  if (one.current_replicas === one.target_replicas) return `${one.current_replicas}`;
  const note = one.applied || one.mode === "asked" ? "" : " (not scaled)";
  return `${one.current_replicas} → ${one.target_replicas}${note}`;
}

const pair = (name, value, tone = null) => [make("dt", {}, name), make("dd", { class: tone }, value)];
const signed = (value) => `${value > 0 ? "+" : ""}${number(value, 4)}`;
const times = (count) => (count === 1 ? "once" : `${count} times`);
