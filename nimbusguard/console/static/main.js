// The page: what is chosen is in the address, what is shown is asked for every two seconds.

import { ask } from "./api.js";
import { detail } from "./detail.js";
import { make, number, plural, seconds } from "./dom.js";

const PERIOD_MS = 2000;
const PAGE_SIZE = 25;
const SEARCH_DELAY_MS = 200;
const $ = (id) => document.getElementById(id);
const state = { page: 1, pages: 1, view: { seconds: 900, until: null }, explained: null, isAsked: false, key: chosen() };
let waiting = null;

function chosen() {
  try { return decodeURIComponent(/^#\/(.+)$/.exec(location.hash)?.[1] ?? ""); } catch { return ""; }
}

async function refresh() {
  clearTimeout(waiting);
  const round = (refresh.round = (refresh.round ?? 0) + 1);
  try {
    const query = { search: $("search").value, sort: $("sort").value, page: state.page, size: PAGE_SIZE };
    const [overview, list] = await Promise.all([ask("overview"), ask("workloads", query)]);
    if (round !== refresh.round) return;
    showOverview(overview);
    showList(list);
    if (!state.key && list.rows.length === 1 && list.total === 1) location.hash = `#/${encodeURIComponent(list.rows[0].workload)}`;
    await showDetail(round);
    if (round === refresh.round) tell(null);
  } catch (error) {
    if (round === refresh.round) tell(error.message);
  }
  if (round === refresh.round && !document.hidden) waiting = setTimeout(refresh, PERIOD_MS);
}

function tell(problem) {
  say("problem", problem ?? "");
  $("problem").hidden = problem === null;
  say("live", problem === null ? "Live" : "Not live");
}

/** Screen readers read a live region out whenever it is written, so it is only where it changes. */
function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function showOverview(overview) {
  const sources = Object.entries(overview.by_source).map(([name, count]) => `${count} decided by ${name}`).join(", ");
  const versions = Object.keys(overview.by_version).filter((name) => name !== "none").map((name) => `version ${name}`).join(", ");
  const canary = overview.canary === null ? null
    : `canary decides for ${overview.canary.workloads}, disagrees on ${overview.canary.disagree} of the ${overview.canary.compared} that it is only asked about`;
  const role = overview.leader === false ? "this operator stands by; ask the leader" : null;
  $("summary").textContent = [overview.server, plural(overview.workloads, "workload"), overview.server === "operator" ? `${plural(overview.changes, "change")} in five minutes` : null,
    overview.problems ? `${overview.problems} with a problem` : null, sources, versions, canary, role].filter(Boolean).join(" · ");
}

function showList(list) {
  state.page = list.page;
  state.pages = list.pages;
  say("count", list.total === 0 ? "No workload yet" : `${list.matching} of ${plural(list.total, "workload")}`);
  $("page").textContent = `Page ${list.page} of ${list.pages}`;
  $("previous").disabled = list.page <= 1;
  $("next").disabled = list.page >= list.pages;
  const body = document.querySelector("#workloads tbody");
  keepFocus(body, () => body.replaceChildren(...list.rows.map(row)));
}

function row(one) {
  const cell = (label, ...content) => make("td", { role: "cell", "data-label": label }, ...content);
  const is = one.workload === state.key;
  const link = make("a", { href: `#/${encodeURIComponent(one.workload)}`, "data-key": one.workload, "aria-current": is ? "true" : null }, one.workload);
  const notes = [one.changes ? plural(one.changes, "change") : null, one.paused ? "paused" : null, one.mode === "act" ? null : one.mode, one.problem ? "problem" : null].filter(Boolean).join(", ");
  const head = make("th", { scope: "row", role: "rowheader" }, link, notes ? make("small", {}, ` ${notes}`) : null);
  if (!("action" in one)) return make("tr", { role: "row", class: is ? "chosen" : null }, head, make("td", { role: "cell", colspan: 5 }, one.problem ?? "no decision yet"));
  return make("tr", { role: "row", class: is ? "chosen" : null }, head,
    cell("Load", number(one.load, 1)),
    cell("Replicas", one.current_replicas === one.target_replicas ? `${one.current_replicas}` : `${one.current_replicas} → ${one.target_replicas}`),
    cell("p95", seconds(one.p95_s)),
    cell("Action", one.action),
    cell("By", `${one.source}${one.model_version ? ` ${one.model_version}` : ""}${guarded(one)}`));
}

/** What the guard made of an action: nothing of it, something else, or what it was. */
function guarded(one) {
  if (!one.guard.length) return "";
  return one.current_replicas === one.target_replicas && one.action !== "NO_ACTION" ? ", held" : ", guard";
}

async function showDetail(round) {
  if (!state.key) return;
  const query = { key: state.key, seconds: state.view.seconds };
  if (state.view.until !== null) query.until_s = state.view.until;
  let shown;
  try {
    shown = await ask("workload", query);
  } catch (error) {
    if (error.status !== 404) throw error;
    $("detail-title").textContent = state.key;
    $("hint").textContent = `There is no decision of ${state.key} yet.`;
    $("hint").hidden = false;
    $("body").hidden = true;
    return;
  }
  if (round !== refresh.round) return;
  const own = state.explained?.id === shown.last.id ? state.explained : null;
  drawDetail(shown, own ?? state.explained);
  if (own === null && shown.last.q_values !== null) await explain(shown, round);
}

async function explain(shown, round) {
  let answer;
  try {
    answer = await ask("explanation", { key: state.key, id: shown.last.id });
  } catch (error) {
    answer = { id: shown.last.id, error: error.message };
  }
  if (round !== refresh.round) return;
  state.explained = answer;
  drawDetail(shown, answer);
}

function drawDetail(shown, explanation) {
  $("detail-title").textContent = `${state.key}${shown.about.target ? ` (${shown.about.target})` : ""}`;
  $("hint").hidden = true;
  const body = $("body");
  body.hidden = false;
  // Nobody can read a chart, drag or select in what is drawn anew under their hands.
  const isRead = body.contains(document.activeElement) && document.activeElement.matches("svg");
  const isSelected = !getSelection().isCollapsed && body.contains(getSelection().anchorNode);
  if (!state.isAsked && (isRead || isSelected || body.querySelector("svg:active"))) return;
  state.isAsked = false; // drawn once as asked; what comes after that waits for the reader again
  keepFocus(body, () => body.replaceChildren(...detail(shown, explanation, state.view, look)));
}

function look(view) {
  state.view = view;
  state.isAsked = true;
  refresh();
}

/** Draw anew and put the focus back on what has the same key. */
function keepFocus(within, drawAnew) {
  const key = within.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  drawAnew();
  if (key) within.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

function turn(pages) {
  state.page += pages;
  refresh();
}

addEventListener("hashchange", () => {
  if (location.hash === "#detail") return; // the link that skips the list
  state.key = chosen();
  state.explained = null;
  state.view = { seconds: 900, until: null };
  refresh().then(() => $("detail").focus({ preventScroll: matchMedia("(min-width: 76rem)").matches }));
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
$("previous").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("sort").addEventListener("change", () => { state.page = 1; refresh(); });
$("filter").addEventListener("submit", (event) => event.preventDefault());
$("search").addEventListener("input", () => {
  state.page = 1;
  clearTimeout(waiting);
  waiting = setTimeout(refresh, SEARCH_DELAY_MS);
});
refresh();
