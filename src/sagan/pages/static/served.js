// What a page asks of `sagan serve`, and what the server tells it when something changed.

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

// The address of something of a run; its name may hold any character but the slash between its parts.
export function ofRun(name, rest = "") {
  return `/api/run/${pathOf(name)}${rest}`;
}

export function pathOf(name) {
  return name.split("/").map(encodeURIComponent).join("/");
}

// Calls back with the names of the runs that changed; also, with null, when the server is there again.
export function onChange(call, say) {
  const events = new EventSource("/api/events");
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

