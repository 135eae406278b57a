// One workload: what it did, why, whether it was right, how to stop it.

import { charts } from "./chart.js";
import { age, bar, clock, make, measure, number, percent, plural, seconds, table, zone } from "./dom.js";
import { SOURCES, explained } from "./rules.js";

const WINDOW_S = 300;
const OVERDUE = 3; // intervals
const MOST_ROWS = 30;
const CHANGES = { SCALE_DOWN_2: -2, SCALE_DOWN_1: -1, NO_ACTION: 0, SCALE_UP_1: 1, SCALE_UP_2: 2 };
const SPANS = [["5 min", 300], ["15 min", 900], ["1 h", 3600], ["6 h", 21600], ["1 day", 86400]];

export function detail(shown, explanation, view, change) {
  return [
    ...toStop(shown.about), ...verdict(shown), ...lastDecision(shown), ...why(explanation, shown), ...values(shown), ...canary(shown),
    ...history(shown, view, change), ...recent(shown), ...stop(shown.about),
  ];
}

/** Whoever wants to stop it shall not have to look for the end of the page. */
function toStop(about) {
  if (!about.pause_command) return [];
  const show = () => {
    const title = document.getElementById("stop-title");
    title.scrollIntoView();
    title.focus();
  };
  return [make("p", { class: "tools" }, make("button", { type: "button", "data-key": "to-stop", onclick: show },
    about.paused ? "Paused: how it goes on" : "How to stop it"))];
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
    make("p", {}, `${acts}, in ${plural(comparison.decisions, "decision")}.`, known(comparison)),
    make("p", { id: "verdict" }, "Against the HPA: ", make("span", { class: `verdict ${tone}` }, comparison.verdict), ` – ${comparison.reason}.`),
    make("dl", {},
      ...pair("Pods on average", `${pods(comparison.pod_hours, comparison)}; the HPA's ${pods(comparison.hpa_pod_hours, comparison)}`),
      ...pair("Requests slow or failed", about.objective_latency_s === null ? "no objective known"
        : `${percent(comparison.violating_share)} (objective ${seconds(about.objective_latency_s)})`),
      ...pair("The HPA's pods short of CPU", comparison.hpa_starved_share === null ? "–" : `${percent(comparison.hpa_starved_share)} of the time`)),
    make("p", { class: "quiet" }, "Of the HPA only its rule is known, at 70 % CPU with its window of five minutes: an estimate."),
  ];
}

/** Of how much of the five minutes the decisions speak, where that is less. */
function known({ decisions, covered_s }) {
  return decisions && covered_s < 0.8 * WINDOW_S ? ` Only ${number(covered_s, 0)} s of the five minutes are known.` : null;
}

const pods = (hours, { covered_s }) => (hours === null || !covered_s ? "–" : number(hours * 3600 / covered_s, 1));

function lastDecision({ last, about, now_s }) {
  const overdue = about.interval_s !== null && now_s - last.at_s > OVERDUE * about.interval_s;
  return [
    make("h3", {}, "Last decision"),
    make("dl", {},
      ...pair("When", `${clock(last.at_s)}, ${age(now_s - last.at_s)}${overdue ? `: overdue, its turn is every ${number(about.interval_s)} s` : ""}`,
        overdue ? "bad" : null),
      ...pair("Action", `${last.action}${last.source in SOURCES ? ` recommended by ${SOURCES[last.source]}` : ""}`),
      ...pair("Replicas", outcome(last), missed(last) ? "bad" : null),
      ...pair("Decided by", `${last.source}${last.model_version ? `, version ${last.model_version}` : ""}, ${last.arm}`),
      ...pair("Mode", about.paused ? `${last.mode}, paused` : last.mode),
      ...pair("Guard", last.guard.length ? explained(last.guard) : "changed nothing"),
      ...pair("Bounds", about.min_replicas === null ? "unknown" : `${about.min_replicas} to ${about.max_replicas} replicas`),
      ...(about.problem ? pair("Problem", about.problem, "bad") : [])),
  ];
}

/** Whether replicas should have been written and were not. */
const missed = (last) => last.mode === "act" && last.current_replicas !== last.target_replicas && !last.applied;

/** What became of an action. */
function outcome(last) {
  const { current_replicas: current, target_replicas: target } = last;
  const wanted = CHANGES[last.action];
  const by = last.guard.length && target !== current + wanted ? " by the guard" : "";
  if (current === target) return wanted === 0 && !by ? `stay at ${current}` : `kept at ${current}${by}`;
  const done = last.applied ? "carried out" : missed(last) ? "not carried out" : "only recorded";
  return `${current} to ${target}${by}, ${done}`;
}

function why(explanation, { last }) {
  const title = make("h3", {}, "Why");
  if (last.q_values === null) return [title, make("p", {}, `No network answered: ${last.source} decided, by a rule.`)];
  if (explanation === null) return [title, make("p", { class: "quiet" }, "Asking…")];
  if (explanation.error) return [title, make("p", { class: "bad" }, `No explanation: ${explanation.error}`)];
  const { sentence, features, action, next_best_action: rival, q_value, baseline_q_value } = explanation.explanation;
  const first = rival === null ? "attribution" : "preference"; // what the sentence speaks of
  const sorted = [...features].sort((a, b) => Math.abs(b[first]) - Math.abs(a[first]));
  const longest = (key) => Math.max(...features.map((one) => Math.abs(one[key]))) || 1;
  const shares = (key) => (one) => measure(signed(one[key]), bar(one[key] / longest(key)));
  const columns = [["Adds", shares("attribution")]];
  if (rival !== null) columns.unshift(["For it", shares("preference")]);
  return [
    title,
    make("p", { id: "sentence" }, sentence),
    explanation.same_version ? null : make("p", { class: "bad" },
      `Version ${last.model_version} decided; this explains version ${explanation.model_version}, which is served now.`),
    table(`${rival === null ? "" : `For it: what speaks for ${action} over ${rival}, the next best. `}Adds: what makes the Q-value of ${action} `
      + `${number(q_value)} instead of a calm workload's ${number(baseline_q_value)}.`,
      ["Feature", ...columns.map(([head]) => head), "Value", "Calm"],
      sorted.map((one) => ({ cells: [one.name, ...columns.map(([, cell]) => cell(one)), `${number(one.value)}${one.unit === "ratio" ? "" : ` ${one.unit}`}`, number(one.baseline)] })),
      "cards"),
  ].filter((part) => part !== null);
}

function values({ last, canary: other }) {
  if (last.q_values === null) return [];
  const theirs = other?.q_values ?? null;
  const low = Math.min(...last.q_values);
  const spread = Math.max(...last.q_values) - low || 1;
  return [
    make("h3", {}, "Q-values and mask"),
    table("What each action is worth to the network", ["Action", "Q-value", ...(theirs ? ["The canary's"] : []), "Above the worst"], Object.keys(CHANGES).map((name, index) => {
      const allowed = last.allowed.includes(name);
      const chosen = name === last.action;
      return {
        class: chosen ? "chosen" : allowed ? null : "masked",
        cells: [make("span", {}, name, chosen || !allowed ? make("small", {}, chosen ? " chosen" : " outside the bounds") : null),
          number(last.q_values[index]), ...(theirs ? [number(theirs[index])] : []), bar((last.q_values[index] - low) / spread, 0)],
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
    `${other.target_replicas} replicas), which `, make("strong", { class: agrees ? "good" : "bad" }, agrees ? "agrees" : "disagrees"), ".",
    other.compared ? ` In the last five minutes it disagreed in ${other.disagree} of ${plural(other.compared, "decision")}.` : null)];
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
      ? `${clock(shown.from_s)} to ${clock(shown.until_s)} (${zone(shown.until_s)}): ${plural(shown.history.length, "decision")}. Drag over a chart to zoom in.`
      : `Nothing recorded from ${clock(shown.from_s)} to ${clock(shown.until_s)}.`),
    charts(shown.history, shown.from_s, shown.until_s, zoom),
  ];
}

function later(shown, view) {
  const until = shown.until_s + view.seconds / 2;
  return until >= shown.now_s ? null : until;
}

function recent({ recent: decisions }) {
  const rules = [...new Set(decisions.flatMap((one) => one.guard))].sort();
  return [
    make("h3", {}, "Decisions of the last five minutes"),
    table(decisions.length ? `Newest first${decisions.length > MOST_ROWS ? `, ${MOST_ROWS} of ${decisions.length}` : ""}; HPA: the pods that it would have had, estimated` : "None",
      ["Time", "Action", "Replicas", "HPA", "Load", "p95", "By", "Guard"],
      decisions.slice(0, MOST_ROWS).map((one) => ({ cells: [clock(one.at_s), one.action, replicas(one), number(one.hpa_held, 0), number(one.load, 1),
        seconds(one.p95_s), `${one.source}${one.model_version ? ` ${one.model_version}` : ""}`, one.guard.join(", ") || "–"] })),
      "cards dense"),
    rules.length ? make("p", { class: "quiet" }, `Guard: ${explained(rules)}.`) : null,
  ].filter((part) => part !== null);
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
  return [make("h3", { id: "stop-title", tabindex: "-1", "data-key": "stop-title" }, title), make("p", {}, text),
    make("pre", { tabindex: "0", "data-key": "stop" }, make("code", { id: "stop" }, ...words(command))),
    make("button", { type: "button", "data-key": "copy", onclick: copy }, "Copy the command"), told,
    make("p", {}, "This stops every change of every workload, and keeps all replicas:"),
    make("pre", { tabindex: "0", "data-key": "stop-all" }, make("code", { id: "stop-all" }, ...words(about.stop_all_command)))];
}

/** A command that is broken between its words alone: `--` and `replicas` on two lines are read as two. */
const words = (command) => command.split(" ").flatMap((word, index) => [index ? " " : "", make("span", { class: "word" }, word)]);

function replicas(one) {
  if (one.current_replicas === one.target_replicas) return `${one.current_replicas}`;
  const note = one.applied || one.mode === "asked" ? "" : " (not scaled)";
  return `${one.current_replicas} → ${one.target_replicas}${note}`;
}

const pair = (name, value, tone = null) => [make("dt", {}, name), make("dd", { class: tone }, value)];
const signed = (value) => `${value > 0 ? "+" : ""}${number(value, 4)}`;
const times = (count) => (count === 1 ? "once" : `${count} times`);
