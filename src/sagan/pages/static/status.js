// The line of a page that says how it stands, and reading again what a page shows.

export function saying(status) {
  return (text, wrong = false) => {
    status.textContent = text;
    status.classList.toggle("wrong", wrong);
  };
}

// A function that does some work, one time after another: asked for meanwhile, it is done once more. An error is said.
export function again(work, say) {
  let doing = false, due = false;
  return async () => {
    due = true;
    if (doing) return;
    doing = true;
    try {
      while (due) {
        due = false;
        await work();
        say("");
      }
    } catch (error) {
      say(error.message, true);
    } finally {
      doing = false;
    }
  };
}
