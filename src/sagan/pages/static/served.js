// What a page asks of `sagan serve`, and what the server tells it when something changed; or, of a site of files that it
// wrote, what is in them.

const { root, live } = document.documentElement.dataset; // the way to the first page
export const LIVE = live !== undefined;

// The answer to a question as JSON or as bytes. Throws an Error with the server's sentence.
export async function ask(address, { body = null, bytes = false, signal = undefined } = {}) {
  let answer;
  try {
    const sent = body === null ? {} : { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } };
    answer = await fetch(address, { ...sent, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer: it has ended, or is not reached");
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Error(said.error || `the server answered with status ${answer.status}`);
  }
  return bytes ? new Uint8Array(await answer.arrayBuffer()) : answer.json();
}

// The address of something that is asked for, such as "runs.json".
export function api(place) {
  return `${root}api/${place}`;
}

// The address of something of a run, such as "facts.json".
export function ofRun(name, what) {
  return api(`run/${pathOf(name)}/${what}`);
}

export function ofSweep(name) {
  return api(`sweep/${pathOf(name)}.json`);
}

// The address of the page of a "run" or a "sweep".
export function pageOf(kind, name) {
  return `${root}${kind}/${pathOf(name)}/`;
}

export function studioOf(run, other = "") {
  const words = new URLSearchParams(other ? { run, other } : { run });
  return `${root}studio#${words}`;
}

function pathOf(name) {
  return name.split("/").map(encodeURIComponent).join("/");
}

// Calls back with the names of the runs that changed; also, with null, when the server is there again.
export function onChange(call, say) {
  if (!LIVE) return;
  const events = new EventSource(api("events"));
  let lost = false;
  events.onmessage = event => call(JSON.parse(event.data));
  events.onerror = () => {
    lost = true;
    say("the server does not answer; this page goes on when it does", true);
  };
  events.onopen = () => {
    if (lost) {
      say("");
      call(null);
    }
    lost = false;
  };
}

