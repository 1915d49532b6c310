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
    const text = await answer.text();
    let said = text;
    try {
      said = JSON.parse(text).error;
    } catch { /* it is a plain sentence */ }
    throw new Error(said || `the server answered with status ${answer.status}`);
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

// The address of the grid of samples of a step; `stamp` changes with the file.
export function gridOf(name, step, stamp) {
  return ofRun(name, `grid/${step}.png`) + (stamp && LIVE ? `?${stamp}` : "");
}

// The size of a run's images in words, height x width; a square has one number.
export function sizeOf(run) {
  return String(run.size).includes("x") ? run.size : `${run.size}x${run.size}`;
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

const LOST = "lost", JUST_LOADED = 3000; // milliseconds

// Calls back with the names of the runs that changed; also, with null, when the server or the page is there again. A
// stream of events keeps one of the six connections that a browser has to a server: a page that nobody sees has none, and
// of those that are seen one listens and tells the others.
export function onChange(call, say) {
  if (!LIVE) return;
  const others = new BroadcastChannel("changes");
  let lost = false, end = null;
  const hear = news => {
    if (news === LOST) say("the server does not answer; this page goes on when it does", true);
    else if (lost) say("");
    lost = news === LOST;
    if (!lost) call(news);
  };
  const tell = news => {
    others.postMessage(news);
    hear(news);
  };
  const listen = signal => new Promise(done => {
    let events = null;
    const connect = () => {
      events = new EventSource(api("events"));
      events.onmessage = event => tell(JSON.parse(event.data));
      events.onopen = () => { if (lost || performance.now() > JUST_LOADED) tell(null); };
      events.onerror = () => {
        if (!lost) tell(LOST);
        if (events.readyState !== EventSource.CLOSED) return; // it tries again by itself
        ask(api("runs.json")).catch(error => say(error.message, true)); // such as: the token is another one
        setTimeout(() => { if (!signal.aborted) connect(); }, 5000);
      };
    };
    signal.addEventListener("abort", () => {
      events.close();
      done();
    });
    connect();
  });
  const begin = () => {
    const { signal } = end = new AbortController();
    if (!navigator.locks) listen(signal); // under the name of another machine, without TLS
    else navigator.locks.request("changes", { signal }, () => listen(signal)).catch(error => {
      if (error.name !== "AbortError") throw error;
    });
  };
  others.onmessage = ({ data }) => { if (!document.hidden) hear(data); };
  document.addEventListener("visibilitychange", () => {
    end?.abort();
    end = null;
    if (document.hidden) return;
    hear(null);
    begin();
  });
  if (!document.hidden) begin();
}
