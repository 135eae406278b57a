"""The console in a real Chromium: content, live updates, errors, keyboard, contrast, phone.

The operator is a process over a stand-in cluster of 1,000 policies, before a real transformer and
predictor; the transformer's own page is asked what somebody asked it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from nimbusguard.console.api import NAMES
from nimbusguard.console.schema import SCHEMAS
from nimbusguard.contract.features import NAMES as FEATURES
from tests.service.processes import MODEL, VERSION, Server, running, until
from tests.serving.in_process import ROW
from tests.standin.process import Operator, stand_ins
from tests.standin.process import operator as start_operator

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]

CHROMIUM = "/usr/bin/chromium"
WORKLOADS = 1000
KEY = "#/shop%2Fw1"
DECISION_MS = 30_000
"""Two intervals of the operator: until another decision has surely been shown."""
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
FAULTS = (Path(__file__).parent / "faults.js").read_text()


@pytest.fixture(scope="module")
def cluster(transformer: Server) -> Iterator[dict[str, str]]:
    """A stand-in cluster, and the environment that leads an operator to it."""
    with stand_ins(WORKLOADS) as environment:
        yield environment | {"KSERVE_ENDPOINT": transformer.url}


@pytest.fixture(scope="module")
def operator(
    cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """One that has decided for every workload."""
    folder = tmp_path_factory.mktemp("operator")
    store = {"AUTOSCALER_EXPERIENCE_STORE": str(folder / "experience.db")}
    running_one = start_operator(cluster | store, folder / "operator.jsonl")
    try:
        overview = running_one.url + "/console/api/overview"
        until(
            lambda: sum(httpx.get(overview).json()["by_mode"].values()) == WORKLOADS or None,
            "a decision for every workload",
            60.0,
        )
        yield running_one
    finally:
        running_one.process.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's own console said: errors, refusals of the policy, failed requests."""
    return []


@pytest.fixture
def page(browser: Browser, operator: Operator, complaints: list[str]) -> Iterator[Page]:
    """The page of a workload, complete with its explanation."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield opened(context, operator.url, complaints)
    context.close()


def opened(context: BrowserContext, url: str, complaints: list[str]) -> Page:
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{url}/console/{KEY}")
    expect(page.locator("#sentence")).to_be_visible(timeout=15_000)
    return page


def test_a_newcomer_finds_what_it_did_why_and_whether_it_was_better(
    page: Page, complaints: list[str]
) -> None:
    """On one page, without a click; and the browser has nothing to complain of."""
    detail = page.locator("#detail")

    expect(detail).to_contain_text(re.compile(r"It changed (nothing|the replicas)"))
    expect(page.locator("#verdict")).to_contain_text(
        re.compile(r"Against the HPA: (better|same|worse|unknown) . ")
    )
    expect(page.locator("#sentence")).to_contain_text("replicas)")
    expect(detail.get_by_role("table").nth(0).locator("tbody tr")).to_have_count(11)
    expect(detail.get_by_role("table").nth(1).locator("tbody tr")).to_have_count(5)
    expect(detail.get_by_role("table").nth(1)).to_contain_text("chosen")
    expect(detail).to_contain_text(f"kserve, version {VERSION}, stable")
    expect(detail).to_contain_text("Guard")
    expect(detail).to_contain_text("No canary is compared")
    expect(page.locator(".chart svg")).to_have_count(3)
    expect(page.locator("#stop")).to_have_text(
        "kubectl annotate --overwrite scalingpolicy w1 -n shop nimbusguard.io/paused=true"
    )
    expect(page.locator("#stop-all")).to_have_text(
        "kubectl -n nimbusguard scale deployment nimbusguard-operator --replicas=0"
    )
    assert complaints == []


def test_how_to_stop_it_is_one_click_away(page: Page) -> None:
    """At the head of the workload, not at the end of a long page; the focus goes there too."""
    button = page.get_by_role("button", name="How to stop it")
    expect(button).to_be_in_viewport()

    button.click()

    expect(page.locator("#stop")).to_be_in_viewport()
    expect(page.locator("#stop-title")).to_be_focused()


def test_the_bars_say_what_the_sentence_says(page: Page) -> None:
    """The feature that it names first speaks for the action in the table too."""
    sentence = page.locator("#sentence").inner_text()
    named = re.findall(r"workload, (\w+) ", sentence)
    row = page.locator("#detail table").nth(0).locator("tbody tr").filter(has_text=named[0])

    expect(row.locator("td").first).to_have_text(re.compile(r"^\+"))
    expect(row.locator("td").first).to_have_attribute("data-label", "For it")


def test_the_page_follows_what_happens(page: Page) -> None:
    """Without a reload: the next decision comes in, and the page says that it is live."""
    rows = page.locator("#detail table").nth(2).locator("tbody th")
    first = rows.first.inner_text()

    expect(rows.first).not_to_have_text(first, timeout=DECISION_MS)

    expect(page.locator("#live")).to_have_text("Live")


def test_a_server_that_is_gone_is_told_and_its_return_is_seen(page: Page) -> None:
    """What was heard last stays on the page, below a banner that screen readers hear."""
    page.route("**/console/api/**", lambda route: route.abort())

    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    expect(page.locator("#live")).to_have_text("Not live")
    expect(page.locator("#sentence")).to_be_visible()

    page.unroute("**/console/api/**")
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#live")).to_have_text("Live")


def test_a_killed_operator_is_told(
    browser: Browser, cluster: dict[str, str], tmp_path: Path
) -> None:
    """Kill -9, as a node that dies; an operator that does not lead says so before that."""
    environment = cluster | {"AUTOSCALER_IDENTITY": "standby"}
    operator = start_operator(environment, tmp_path / "operator.jsonl")
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(operator.url + "/console/")
        expect(page.locator("#live")).to_have_text("Live")
        expect(page.locator("#summary")).to_contain_text("ask the leader", timeout=DECISION_MS)
    finally:
        operator.process.popen.kill()
        operator.process.end()
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer", timeout=15_000)
    context.close()


def test_an_error_of_the_server_is_shown_in_its_words(page: Page) -> None:
    """Such as a transformer that does not explain: the rest of the page stays."""
    answer = {"error": "predictor: connection refused"}
    page.route(
        "**/console/api/explanation*",
        lambda route: route.fulfill(status=503, body=json.dumps(answer)),
    )

    page.goto(page.url.replace("w1", "w2"))

    expect(page.locator("#detail")).to_contain_text("No explanation: predictor: connection refused")
    expect(page.locator("#verdict")).to_be_visible()


def altered(page: Page, change: Any) -> None:
    """The workload's document with a change, as another cluster would give it."""

    def answer(route: Route) -> None:
        document = route.fetch().json()
        change(document)
        route.fulfill(json=document)

    page.route("**/console/api/workload?*", answer)


def test_what_a_canary_would_have_done_is_shown(page: Page) -> None:
    """With its version, and whether it agrees."""

    def change(document: Any) -> None:
        last = document["last"]
        other = "SCALE_UP_1" if last["action"] != "SCALE_UP_1" else "NO_ACTION"
        document["canary"] = last | {"action": other, "model_version": "3", "arm": "shadow"}

    altered(page, change)

    expect(page.locator("#detail")).to_contain_text("Version 3 would have chosen", timeout=10_000)
    expect(page.locator("#detail")).to_contain_text("which disagrees.")


def test_what_the_guard_held_is_told(page: Page) -> None:
    """A recommendation that was not followed, in the list of decisions with what its rule means."""

    def change(document: Any) -> None:
        held = {"action": "SCALE_DOWN_2", "guard": ["STABILIZATION"], "applied": False}
        current = {"current_replicas": 4, "target_replicas": 4}
        document["last"] |= held | current
        document["recent"] = [row | held | current for row in document["recent"][:1]]
        document["comparison"]["changes"] = 0

    altered(page, change)

    expect(page.locator("#detail")).to_contain_text("kept at 4 by the guard", timeout=10_000)
    expect(page.locator("#detail")).to_contain_text(
        "SCALE_DOWN_2 recommended by the served network"
    )
    expect(page.locator("#detail")).to_contain_text(
        "Guard: STABILIZATION (the guard's HPA rule wanted the replicas of late"
    )


def test_a_decision_that_is_not_carried_out_or_overdue_is_told(page: Page) -> None:
    """Such as when the API server refuses, or when the loop stands still."""

    def change(document: Any) -> None:
        document["last"] |= {"current_replicas": 4, "target_replicas": 5, "applied": False}
        document["last"] |= {"action": "SCALE_UP_1", "at_s": document["now_s"] - 400.0}
        document["comparison"] |= {"covered_s": 30.0, "decisions": 2}

    altered(page, change)

    expect(page.locator("#detail")).to_contain_text("4 to 5, not carried out", timeout=10_000)
    expect(page.locator("#detail")).to_contain_text("7 min ago: overdue, its turn is every 15 s")
    expect(page.locator("#detail")).to_contain_text("Only 30 s of the five minutes are known.")


def test_times_of_another_day_have_their_date(page: Page) -> None:
    """Else the two ends of a day read alike; and logs, which are in UTC, can be found."""
    page.get_by_role("button", name="1 day").click()

    history = page.locator("#history ~ p").first
    expect(history).to_contain_text(re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d to "))
    expect(history).to_contain_text("(UTC")


def sideways(page: Page) -> list[str]:
    """Tables that do not fit."""
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('.scroll, #workloads')]"
        ".filter((e) => e.scrollWidth > e.clientWidth"
        " || e.offsetWidth > e.parentElement.clientWidth)"
        ".map((e) => e.getAttribute('aria-label') ?? e.id)"
    )
    return found


def test_no_table_is_cut_off_on_a_desk(page: Page) -> None:
    """1280 pixels wide, with the longest names of actions and rules."""

    def change(document: Any) -> None:
        held = {"action": "SCALE_DOWN_2", "guard": ["HPA_OBJECTS", "OUT_OF_DISTRIBUTION"]}
        document["recent"] = [row | held for row in document["recent"]]

    altered(page, change)
    expect(page.locator("#detail")).to_contain_text("OUT_OF_DISTRIBUTION (", timeout=10_000)

    assert sideways(page) == []


def test_a_paused_policy_shows_how_it_goes_on(page: Page) -> None:
    """And a rule's decision says that there are no Q-values."""

    def change(document: Any) -> None:
        document["about"]["paused"] = True
        document["last"] |= {"q_values": None, "source": "hpa_rule", "guard": ["PAUSED"]}

    altered(page, change)

    expect(page.locator("#stop")).to_have_text(
        "kubectl annotate --overwrite scalingpolicy w1 -n shop nimbusguard.io/paused-",
        timeout=10_000,
    )
    expect(page.locator("#detail")).to_contain_text("No network answered: hpa_rule decided")
    expect(page.locator("#detail")).to_contain_text("act, paused")
    expect(page.locator("#detail")).to_contain_text("PAUSED (the policy is paused)")


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    """A workload by Tab and Enter, a decision by arrows, a zoom by Enter twice."""
    page.locator("#search").focus()
    page.keyboard.type("w77")
    expect(page.locator("#count")).to_have_text("11 of 1000 workloads")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#detail-title")).to_contain_text("shop/w77 (Deployment/w77)")
    expect(page.locator("#detail")).to_be_focused()

    expect(page.locator("#sentence")).to_be_visible()
    page.get_by_role("button", name="1 h", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="1 h", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(page.get_by_role("button", name="1 h", exact=True)).to_be_focused()
    page.get_by_role("button", name="15 min").click()
    expect(page.get_by_role("button", name="15 min")).to_have_attribute("aria-pressed", "true")

    third = page.locator("#detail table").nth(2).locator("tbody tr").nth(2)
    expect(third).to_be_visible(timeout=2 * DECISION_MS)  # two intervals apart: enough to zoom into
    page.locator(".chart svg").nth(1).focus()
    page.keyboard.press("Home")
    expect(page.locator(".chart p").nth(1)).to_contain_text("the HPA, estimated")
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="15 min")).to_have_attribute("aria-pressed", "false")


def test_dragging_over_a_chart_zooms(page: Page) -> None:
    """To what was dragged over; a button leads back to now."""
    chart = page.locator(".chart svg").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 20, steps=4)
    with page.expect_request(lambda request: "until_s" in request.url) as asked:
        page.mouse.up()

    seconds = int(re.findall(r"seconds=(\d+)", asked.value.url)[0])
    assert seconds == pytest.approx(900 * 0.4, abs=10)
    page.get_by_role("button", name="15 min").click()
    expect(page.get_by_role("button", name="15 min")).to_have_attribute("aria-pressed", "true")


def test_the_page_is_sound_for_screen_readers(page: Page) -> None:
    """Labels, names, scopes, captions, one main, headings in order, no id twice."""
    assert page.evaluate(FAULTS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(
    browser: Browser, operator: Operator, scheme: Any, complaints: list[str]
) -> None:
    """At least 4.5 to 1 for all text (WCAG 2.2, 1.4.3), on every ground that it stands on."""
    context = browser.new_context(color_scheme=scheme)
    page = opened(context, operator.url, complaints)
    inks = ("--ink", "--quiet", "--accent", "--good", "--bad")
    pairs = [[ink, ground] for ink in inks for ground in ("--panel", "--ground", "--chosen")]

    found = page.evaluate(CONTRAST, [*pairs, ["--bad", "--warn-ground"]])
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    context.close()

    assert [entry for entry in found if entry[2] < 4.5] == []
    assert (sum(int(part) for part in re.findall(r"\d+", ground)[:3]) > 384) == (scheme == "light")


def test_it_is_readable_on_a_phone(
    browser: Browser, operator: Operator, complaints: list[str]
) -> None:
    """390 pixels wide: nothing beyond the edge or cut off, rows as cards, the detail below."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = opened(context, operator.url, complaints)

    width = page.evaluate("document.documentElement.scrollWidth")
    labelled = page.evaluate(
        "getComputedStyle(document.querySelector('#workloads td'), '::before').content"
    )
    cut_off = sideways(page)
    named = page.get_by_role("table").count()
    cells = page.get_by_role("cell", name="NO_ACTION").count()
    context.close()

    assert width == 390
    assert "Load" in labelled or "attr" in labelled
    assert cut_off == []
    assert named == 4  # laid out as cards they are tables still, to a screen reader
    assert cells > 0


def test_a_thousand_workloads_stay_usable(page: Page, operator: Operator) -> None:
    """A page of 25 rows of them, found within a second, in documents of under 100 KB.

    Measured on four busy cores: a page of the list in 3 to 7 ms, found by search in 0.4 s.
    """
    answer = httpx.get(operator.url + "/console/api/workloads?size=25")
    expect(page.locator("#count")).to_have_text("1000 of 1000 workloads")
    assert page.locator("#workloads tbody tr").count() == 25

    began = time.perf_counter()
    page.locator("#search").fill("w999")
    expect(page.locator("#count")).to_have_text("1 of 1000 workloads")
    took = time.perf_counter() - began

    assert len(answer.content) < 100_000
    assert answer.elapsed.total_seconds() < 0.5
    assert took < 1.0


def test_pages_are_turned_and_sorted(page: Page) -> None:
    """Next and Previous end where the list does; sorting begins at the first page."""
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#page")).to_have_text("Page 2 of 40")
    page.get_by_label("Sort by").select_option("current_replicas")
    expect(page.locator("#page")).to_have_text("Page 1 of 40")


def test_nothing_comes_from_elsewhere_and_nothing_runs_inline(operator: Operator) -> None:
    """A strict policy on every answer, and files that name no other host."""
    for path in ("", "main.js", "console.css", "api/overview", "api/nothing"):
        answer = httpx.get(f"{operator.url}/console/{path}")
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
    for name in (
        "main.js",
        "detail.js",
        "rules.js",
        "chart.js",
        "dom.js",
        "api.js",
        "console.css",
        "",
    ):
        text = httpx.get(f"{operator.url}/console/{name}").text.replace(
            "http://www.w3.org/2000/svg", ""
        )
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text


def test_the_operators_documents_are_as_their_schemas_say(operator: Operator) -> None:
    """Each of the four, over HTTP; what is not there is 404, what is wrong 400."""
    api = operator.url + "/console/api/"
    key = {"key": "shop/w1"}
    last = httpx.get(api + "workload", params=key).json()["last"]

    for name in NAMES:
        answer = httpx.get(api + name, params=key | {"id": last["id"]}, timeout=20)
        assert answer.status_code == 200, answer.text
        jsonschema.validate(answer.json(), SCHEMAS[name])
    assert httpx.get(api + "workload?key=no").status_code == 404
    assert httpx.get(api + "workloads?size=0").status_code == 400
    assert httpx.get(operator.url + "/console/../etc/passwd").status_code == 404
    assert httpx.get(operator.url + "/console/none.js").json().keys() == {"error"}


@pytest.fixture(scope="module")
def watched(predictor: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A transformer that keeps its last decisions, as `nimbusguard serve` starts it."""
    log = tmp_path_factory.mktemp("watched") / "log.jsonl"
    flags = (f"--predictor_host=127.0.0.1:{predictor.http_port}",)
    with running("transformer", log, *flags, environ={"NIMBUSGUARD_CONSOLE": "true"}) as server:
        yield server


def ask_for(server: Server, workload: Any, cpu: float) -> str:
    """The action that it answers."""
    instance = dict(zip(FEATURES, [cpu, *ROW[1:]], strict=True))
    body = {"instances": [instance | {"workload": workload}]}
    answer = httpx.post(f"{server.url}/v1/models/{MODEL}:predict", json=body)
    assert answer.status_code == 200
    return str(answer.json()["predictions"][0]["action"])


def test_a_transformer_shows_what_it_was_asked_last(browser: Browser, watched: Server) -> None:
    """As it comes in, under the workload's name, which stays text whatever it says."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(watched.url + "/console/")
    expect(page.locator("#count")).to_have_text("No workload yet")

    ask_for(watched, "<img src=x onerror=alert(1)>", 0.93)

    link = page.get_by_role("link", name="<img src=x onerror=alert(1)>")
    expect(link).to_be_visible(timeout=10_000)
    expect(page.locator("#sentence")).to_contain_text("SCALE_UP_2 (4 to 6 replicas)")
    expect(page.locator("#detail")).to_contain_text("Somebody asked once. Nothing was scaled")
    expect(page.locator("#summary")).not_to_contain_text("changes in five minutes")
    assert page.locator("#detail img").count() == 0

    other = ask_for(watched, "<img src=x onerror=alert(1)>", 0.2)
    assert other != "SCALE_UP_2"
    expect(page.locator("#sentence")).to_have_text(re.compile(rf"^{other} \("), timeout=10_000)
    context.close()


def test_a_transformers_documents_are_as_their_schemas_say(watched: Server) -> None:
    """The same as the operator's; names of objects are joined."""
    ask_for(watched, {"namespace": "shop", "deployment": "web"}, 0.93)
    api, key = watched.url + "/console/api/", {"key": "shop/web"}
    last = httpx.get(api + "workload", params=key).json()["last"]

    for name in NAMES:
        answer = httpx.get(api + name, params=key | {"id": last["id"]})
        assert answer.status_code == 200, answer.text
        jsonschema.validate(answer.json(), SCHEMAS[name])
    assert httpx.get(api + "workload?key=none").status_code == 404
    assert httpx.get(watched.url + "/console", follow_redirects=True).status_code == 200
    assert httpx.post(api + "overview").status_code == 405


def test_a_pods_transformer_has_no_console(transformer: Server) -> None:
    """Nobody sees the last decisions of a server that was not told to keep them."""
    assert httpx.get(transformer.url + "/console/").status_code == 404


def test_the_chromium_is_the_systems() -> None:
    """No browser is downloaded."""
    assert Path(CHROMIUM).exists()
