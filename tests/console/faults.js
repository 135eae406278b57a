// What a screen reader would stumble over.
() => {
  const told = (element) => element.getAttribute("aria-label") || element.textContent.trim()
    || (element.labels && element.labels.length);
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  const levels = [...document.querySelectorAll("h1,h2,h3")].map((h) => Number(h.tagName[1]));
  return [
    ...[...document.querySelectorAll("input,select")].filter((e) => !e.labels.length).map((e) => `no label: ${e.id}`),
    ...[...document.querySelectorAll("button,a")].filter((e) => !told(e)).map((e) => `no name: ${e.outerHTML}`),
    ...[...document.querySelectorAll("th")].filter((e) => !e.scope).map((e) => `no scope: ${e.textContent}`),
    ...[...document.querySelectorAll("table")].filter((e) => !e.caption).map(() => "no caption"),
    ...[...document.querySelectorAll("svg[role=img]")].filter((e) => !told(e)).map(() => "a chart without words"),
    ...[...document.querySelectorAll("svg:not([role])")].filter((e) => e.ariaHidden !== "true").map(() => "a bar that is read"),
    ...ids.filter((id, i) => ids.indexOf(id) !== i).map((id) => `twice: ${id}`),
    ...levels.filter((level, i) => i && level - levels[i - 1] > 1).map((level) => `h${level} out of order`),
    ...(document.documentElement.lang ? [] : ["no language"]),
    ...(document.querySelectorAll("main").length === 1 ? [] : ["not one main"]),
  ];
}
