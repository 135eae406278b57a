// The server's documents. An error carries the server's own words.

const TIMEOUT_MS = 8000;

export async function ask(name, query = {}) {
  const url = new URL(`api/${name}`, document.baseURI);
  for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
  let response;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
  } catch {
    throw new Error("The server does not answer. What is shown is the last that was heard of it.");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  throw Object.assign(new Error(body?.error ?? `The server answered ${response.status}.`), { status: response.status });
}
