// The API of this page's own origin. A token, once it is asked for, stays in this tab.

const TOKEN = "bowstring-token";

/** What the coordinator refuses, with its code. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Asks for a path below /api/v1/; asks for a token once where that is refused for want of one. */
export async function get(path, parameters = {}, signal = undefined) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const answer = await ask(path, parameters, token, signal);
    if (answer.ok) return answer.json();
    const refused = await refusal(answer);
    if (answer.status !== 401 || !(await signIn(refused.message, token, signal))) throw refused;
  }
}

async function ask(path, parameters, token, signal) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = new URLSearchParams(given).toString();
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  return fetch(`/api/v1/${path}${query ? `?${query}` : ""}`, { headers, signal, credentials: "omit", cache: "no-store" });
}

async function refusal(answer) {
  let error = {};
  try {
    ({ error = {} } = await answer.json());
  } catch {
    // Whoever stands before the coordinator answers in another way.
  }
  return new Refused(answer.status, error.code ?? "", error.message ?? `the coordinator answered ${answer.status}`);
}

let asking = null;

/** Resolves to whether there is another token than `refused` now. One dialog serves all who wait. */
function signIn(why, refused, signal) {
  if (sessionStorage.getItem(TOKEN) !== refused) return Promise.resolve(true);
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("sign-in");
    const input = document.getElementById("token");
    document.getElementById("sign-in-why").textContent = why;
    input.value = "";
    const done = (answer) => {
      asking = null;
      resolve(answer);
    };
    document.getElementById("sign-in-form").onsubmit = (submit) => {
      submit.preventDefault();
      // A header takes no more than that.
      sessionStorage.setItem(TOKEN, input.value.trim().replace(/[^\x21-\x7e]/g, ""));
      dialog.onclose = null;
      dialog.close();
      done(true);
    };
    document.getElementById("sign-in-cancel").onclick = () => dialog.close();
    dialog.onclose = () => done(false);
    if (!dialog.open) dialog.showModal();
  });
  return asking.then((answer) => answer && !signal?.aborted);
}
