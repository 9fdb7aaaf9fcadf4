// The panel's small behaviours. Every page works without them, except for asking before a verb.

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

// ---- theme --------------------------------------------------------------------------------------

function storedTheme() {
  try {
    return localStorage.getItem("theme") ?? "system";
  } catch {
    return "system";
  }
}

function showTheme(choice) {
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice));
  }
  document.dispatchEvent(new CustomEvent("themechange"));
}

function chooseTheme(choice) {
  try {
    localStorage.setItem("theme", choice);
  } catch {
    // Storage may be forbidden; the choice then holds for this page.
  }
  showTheme(choice);
}

showTheme(storedTheme());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => showTheme(storedTheme()));
window.addEventListener("storage", (event) => {
  if (event.key === "theme") showTheme(storedTheme());
});

// ---- times --------------------------------------------------------------------------------------

const exact = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric",
  hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
});

function relative(at, now) {
  const seconds = (now - at) / 1000;
  const size = Math.abs(seconds);
  if (size < 10) return "just now";
  const steps = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [86400 * 60, 86400, "d"], [86400 * 730, 86400 * 30, "months"]];
  const [, divisor, word] = steps.find(([limit]) => size < limit) ?? [0, 86400 * 365, "years"];
  const text = `${Math.floor(size / divisor)} ${word}`;
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

function freshenTimes(root = document) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time[data-when]")) {
    const at = Date.parse(element.dateTime);
    if (Number.isNaN(at)) continue;
    const text = relative(at, now);
    // Writing the same text again would drop what the reader has selected.
    if (element.textContent !== text) element.textContent = text;
    if (!element.dataset.exact) {
      element.title = exact.format(at);
      element.dataset.exact = "yes";
    }
  }
}

freshenTimes();
setInterval(freshenTimes, 5000);

// ---- toasts -------------------------------------------------------------------------------------

function toast(text, tone = "error") {
  const place = document.getElementById("toasts");
  if (!place || !text) return;
  const box = document.createElement("div");
  box.className = `toast ${tone}`;
  const words = document.createElement("p");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "button small";
  close.textContent = "Close";
  close.addEventListener("click", () => box.remove());
  box.append(words, close);
  place.append(box);
  while (place.children.length > 3) place.firstElementChild.remove();
  // An error stays until it is read; it may have come while nobody looked.
  if (tone !== "error") setTimeout(() => box.remove(), 6000);
}

function serverMessage(request) {
  if (request.status === 401) return "You are signed out. Sign in again and repeat it.";
  const body = request.responseText ?? "";
  const kind = request.getResponseHeader("Content-Type") ?? "";
  if (kind.startsWith("text/plain") && body && body.length < 1000) return body;
  try {
    const told = JSON.parse(body);
    if (told.message) return told.message;
    if (told.detail) return String(told.detail);
  } catch {
    const page = new DOMParser().parseFromString(body, "text/html");
    const told = page.querySelector("[data-error]")?.textContent.trim();
    if (told) return told;
  }
  return `The panel answered ${request.status} ${request.statusText}. Nothing is known to have changed; reload to see.`;
}

// ---- copy, menus, dialogs -----------------------------------------------------------------------

async function copy(button) {
  const text = button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain http other than localhost has no clipboard API.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    button.after(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) return toast("The browser refused to copy; select the text instead.");
  }
  button.classList.add("copied");
  const word = button.querySelector("[data-copy-word]");
  if (word) word.textContent = "Copied";
  else toast("Copied", "success");
  setTimeout(() => {
    button.classList.remove("copied");
    if (word) word.textContent = "Copy";
  }, 1500);
}

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
  const copyButton = target?.closest("[data-copy]");
  if (copyButton) copy(copyButton);
  const themeButton = target?.closest("[data-theme-choice]");
  if (themeButton) chooseTheme(themeButton.dataset.themeChoice);
  const opener = target?.closest("[data-open-dialog]");
  if (opener) {
    opener.closest("details.menu")?.removeAttribute("open");
    document.getElementById(opener.dataset.openDialog)?.showModal();
  }
});

// ---- asking before a verb -----------------------------------------------------------------------

let confirmed = null;

function ask(form, submitter) {
  const dialog = document.getElementById("confirm");
  if (dialog.open) return;
  dialog.querySelector("#confirm-question").textContent = form.dataset.confirm;
  const consequence = dialog.querySelector("#confirm-consequence");
  consequence.textContent = form.dataset.consequence ?? "";
  consequence.hidden = !form.dataset.consequence;
  const yes = dialog.querySelector("#confirm-yes");
  yes.textContent = form.dataset.confirmLabel || submitter?.textContent.trim() || "Go on";
  yes.classList.toggle("danger", form.dataset.confirmKind === "danger");
  // Escape leaves the value of the last time, which may have been a yes.
  dialog.returnValue = "";
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "yes") return;
    if (!form.isConnected) return toast("This changed while you decided. Look at it again.", "warning");
    confirmed = form;
    form.requestSubmit(submitter ?? undefined);
    // A field that the browser finds wrong keeps the form here; the next try asks again.
    confirmed = null;
  }, { once: true });
  dialog.showModal();
}

// Capture comes before htmx, which would already have sent the form.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || form.getAttribute("method") === "dialog") return;
  if (form.dataset.confirm && confirmed !== form) {
    event.preventDefault();
    event.stopImmediatePropagation();
    ask(form, event.submitter);
    return;
  }
  confirmed = null;
  if (form.getAttribute("method")?.toLowerCase() !== "post" && !form.hasAttribute("hx-post")) return;
  // A second click on Approve must not send it twice; the server refuses it too.
  if (form.dataset.sent) {
    event.preventDefault();
    event.stopImmediatePropagation();
    return;
  }
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, 3000);
}, true);

// A page from the back-forward cache would still hold its forms as sent.
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// ---- keyboard -----------------------------------------------------------------------------------

let lastKey = { key: "", at: 0 };

function go(label) {
  for (const link of document.querySelectorAll(".main-nav a")) {
    if (link.textContent.trim() === label) link.click();
  }
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable], dialog[open]")) return;
  const afterG = lastKey.key === "g" && event.timeStamp - lastKey.at < 1000;
  lastKey = { key: event.key, at: event.timeStamp };
  if (event.key === "/") {
    const search = document.getElementById("search");
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "?") {
    document.getElementById("help")?.showModal();
  } else if (afterG && event.key === "h") {
    location.assign(meta("home-url") || "/");
  } else if (afterG && event.key === "m") {
    go("Models");
  } else if (afterG && event.key === "e") {
    go("Events");
  }
});

// ---- live updates -------------------------------------------------------------------------------
//
//   <div data-live="rollout:17" hx-get="…/_split" hx-trigger="live" hx-swap="outerHTML">
//
// The element gets the event `live` when its topic changed, at most once a second, and after a
// broken connection; several topics stand with blanks between them.

const live = { socket: null, sent: new Set(), tries: 0, last: new Map(), waiting: new Set(), broken: false };

const topicsOf = (element) => (element.dataset.live ?? "").split(/\s+/).filter(Boolean);
const liveElements = () => [...document.querySelectorAll("[data-live]")];
const keyOf = (element) =>
  [element.id, element.dataset.live, element.getAttribute("hx-get"), element.dataset.chartUrl].join("|");

function liveState(state) {
  const chip = document.getElementById("live-state");
  if (!chip) return;
  chip.hidden = state === "off";
  chip.dataset.state = state;
  const text = { live: "Live", connecting: "Connecting…", reconnecting: "Reconnecting…", off: "" }[state];
  if (chip.textContent !== text) chip.textContent = text;
}

function busy(element) {
  // Swapping under someone who types or has text selected would lose what they do.
  const active = document.activeElement;
  if (active && element.contains(active) && active.matches("input:not([type=hidden]), textarea, select")) return true;
  const selection = document.getSelection();
  return Boolean(selection && !selection.isCollapsed && element.contains(selection.anchorNode));
}

function refetch(element) {
  const key = keyOf(element);
  if (live.waiting.has(key)) return;
  const wait = Math.max(0, (live.last.get(key) ?? -Infinity) + 1000 - performance.now());
  live.waiting.add(key);
  setTimeout(function fire() {
    // The element was perhaps replaced meanwhile by its own newer rendering.
    const now = element.isConnected ? element : liveElements().find((other) => keyOf(other) === key);
    if (!now) return live.waiting.delete(key);
    // A hidden page asks nothing; it catches up when it is looked at.
    if (document.hidden || busy(now)) return setTimeout(fire, 1000);
    live.waiting.delete(key);
    live.last.set(key, performance.now());
    now.dispatchEvent(new CustomEvent("live", { bubbles: false }));
  }, wait);
}

function changed(message) {
  const names = [message.topic, `${message.topic}:${message.id}`];
  for (const element of liveElements()) {
    if (topicsOf(element).some((topic) => names.includes(topic))) refetch(element);
  }
}

function subscribe() {
  const wanted = new Set(liveElements().flatMap(topicsOf));
  if (wanted.size === 0) return;
  if (!live.socket) return connect();
  if (live.socket.readyState !== WebSocket.OPEN) return;
  const fresh = [...wanted].filter((topic) => !live.sent.has(topic));
  if (fresh.length === 0) return;
  live.socket.send(JSON.stringify({ subscribe: fresh }));
  for (const topic of fresh) live.sent.add(topic);
}

function connect() {
  liveState(live.broken ? "reconnecting" : "connecting");
  const url = new URL("/ws/live/", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(url);
  live.socket = socket;
  live.sent.clear();
  let openedAt = 0;
  socket.addEventListener("open", () => {
    openedAt = performance.now();
    subscribe();
    liveState("live");
    // What was told while the connection was down reached nobody.
    if (live.broken) liveElements().forEach(refetch);
    live.broken = false;
  });
  socket.addEventListener("message", (event) => {
    let message;
    try {
      message = JSON.parse(event.data);
    } catch {
      return;
    }
    if (message.topic) changed(message);
  });
  socket.addEventListener("close", () => {
    if (live.socket !== socket) return;
    live.broken = true;
    live.tries = openedAt && performance.now() - openedAt > 5000 ? 0 : live.tries + 1;
    liveState("reconnecting");
    // Spread, so that a restarted server does not meet every open page in the same moment.
    const pause = Math.min(30000, 500 * 2 ** Math.min(live.tries, 6)) * (0.5 + Math.random() / 2);
    setTimeout(connect, pause);
  });
}

subscribe();

// ---- htmx ---------------------------------------------------------------------------------------

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRFToken"] = meta("csrf-token");
});
document.addEventListener("htmx:responseError", (event) => {
  // A background refetch that fails once is told by the live chip, not by a stack of toasts.
  if (event.detail.requestConfig?.triggeringEvent?.type === "live" && event.detail.xhr.status >= 500) return;
  toast(serverMessage(event.detail.xhr));
});
document.addEventListener("htmx:sendError", (event) => {
  if (event.detail.requestConfig?.triggeringEvent?.type === "live") return;
  toast("The panel cannot be reached. Nothing was sent; try again.");
});
document.addEventListener("htmx:afterRequest", (event) => {
  const form = event.detail.elt;
  if (form instanceof HTMLFormElement) delete form.dataset.sent;
});

const openDetails = new Set();
document.addEventListener("htmx:beforeSwap", (event) => {
  openDetails.clear();
  for (const details of event.detail.target.querySelectorAll("details[id][open]")) openDetails.add(details.id);
});
document.addEventListener("htmx:afterSettle", () => {
  // What the reader had unfolded stays unfolded.
  for (const id of openDetails) document.getElementById(id)?.setAttribute("open", "");
  openDetails.clear();
  freshenTimes();
  subscribe();
  document.dispatchEvent(new CustomEvent("contentchange"));
});
