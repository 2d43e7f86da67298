// Starts, stops and restarts services, asking first where that interrupts somebody.
//
// Why: one click must not take a service down; and what a click did must be said, also when it failed.
// Invariants: stop, restart and signals are confirmed; the question names what else would be stopped; a read-only
// person gets no buttons (the daemon refuses anyway).

import * as api from "./api.js";
import { h, replace, prose } from "./dom.js";
import { icon } from "./icons.js";
import { list } from "./format.js";
import { store, mayAct } from "./store.js";
import { dependants } from "./states.js";

/** A notice goes away by itself after this; faults stay until closed. */
const TOAST_MS = 5000;
/** More notices than this push the oldest away. */
const TOASTS_MAX = 4;

/** Which signals are offered, with what they usually mean. */
const SIGNALS = [
  ["HUP", "often: read the configuration again"],
  ["USR1", "often: open the log files again"],
  ["USR2", "what the program makes of it"],
  ["INT", "as Ctrl-C"],
  ["TERM", "please end"],
  ["QUIT", "end and dump core"],
  ["KILL", "end at once, nothing is saved"],
];

/** What interrupts somebody, or can't be taken back. */
const ASKED = ["stop", "restart", "replace", "cured"];

/** Does `action` to `target`, after a question where one is due. */
export async function perform(action, target) {
  if (!mayAct()) {
    toast("info", "You may look, but not act", "An operator can: see [api] operators in the configuration.");
    return;
  }
  if (action === "signal") return signal(target);
  if (ASKED.includes(action) && !(await confirm(questionOf(action, target)))) return;
  await send(action, target);
}

/** Sets how much is done about a sickness of `target`: `off`, `observe`, `enforce` or `default`. */
export async function setMode(target, mode) {
  if (mode === "enforce" && !(await confirm({ title: `Enforce on ${target}?`, text: "What its detectors call sick is replaced from now on, and what is sick now at once.", button: "Enforce", icon: "shield", tone: "accent" }))) return;
  await send("mode", target, { mode });
}

async function send(action, target, body) {
  const words = { start: "Starting", stop: "Stopping", restart: "Restarting", reload: "Reloading", reset: "Clearing the failure of", replace: "Replacing", cured: "Ending the workaround of", signal: "Signalling", mode: "Setting the mode of" };
  try {
    const done = await api.act(target, action, body);
    toast("ok", done?.message || `${words[action] ?? action} ${target}`);
  } catch (fault) {
    toast("bad", `${target}: ${fault.message}`, fault.help);
  }
}

function questionOf(action, target) {
  const name = target.split(":")[0];
  const also = action === "stop" && name === target ? dependants(store.snapshot, name) : [];
  if (action === "stop") {
    return {
      title: `Stop ${target}?`,
      text: also.length ? `${list(also, 6)} ${also.length === 1 ? "requires" : "require"} it and will be stopped first.` : "It stays down until somebody starts it again.",
      button: also.length ? `Stop ${also.length + 1} services` : "Stop",
      icon: "stop",
      tone: "bad",
    };
  }
  if (action === "replace") return { title: `Replace ${target}?`, text: "It gets no new work, a successor is started, and the old one is ended once its connections are done, as configured.", button: "Replace", icon: "replacing", tone: "accent" };
  if (action === "cured") return { title: `Is the fault of ${target} mended?`, text: "The workaround ends, and what it saves is counted anew. Its detectors go on looking.", button: "It is mended", icon: "running", tone: "accent" };
  return { title: `Restart ${target}?`, text: "It is stopped as configured, then started again. Services that require it keep running.", button: "Restart", icon: "restart", tone: "accent" };
}

/** Asks; resolves to true or false. Escape means no. */
function confirm({ title, text, button, tone, icon: sign }) {
  return new Promise((resolve) => {
    const yes = h("button", { class: `button solid ${tone}`, type: "button", value: "yes" }, icon(sign), button);
    const dialog = modal(title, [h("p", { class: "dialog-text" }, text)], [cancel(), yes]);
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
    yes.focus();
  });
}

function signal(target) {
  const choices = SIGNALS.map(([name, meaning], n) =>
    h("label", { class: "choice" }, h("input", { type: "radio", name: "signal", value: name, checked: n === 0 }), h("code", null, name), h("span", null, meaning)),
  );
  const yes = h("button", { class: "button solid accent", type: "button", value: "yes" }, icon("signal"), "Send");
  const dialog = modal(`Send a signal to ${target}`, [h("p", { class: "dialog-text" }, "It goes to the main process."), h("fieldset", { class: "choices" }, h("legend", { class: "visually-hidden" }, "Signal"), choices)], [cancel(), yes]);
  dialog.addEventListener("close", () => {
    const chosen = dialog.querySelector("input:checked")?.value;
    if (dialog.returnValue === "yes" && chosen) send("signal", target, { signal: chosen });
  });
}

const cancel = () => h("button", { class: "button", type: "button", value: "no" }, "Cancel");

/**
 * Opens a dialog that removes itself when it is closed. A button's `value` is the dialog's answer; Enter in a
 * field means the last button. It is no form: the page may send none (its security policy).
 */
export function modal(title, content, buttons) {
  const dialog = h("dialog", { class: "dialog", "aria-label": title }, h("div", { class: "dialog-body" }, h("h2", null, title), content, h("div", { class: "dialog-buttons" }, buttons)));
  for (const button of buttons) button.addEventListener("click", () => dialog.close(button.value));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("input")) dialog.close(buttons[buttons.length - 1].value);
  });
  dialog.addEventListener("close", () => setTimeout(() => dialog.remove(), 0));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close("no");
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Says what happened. */
export function toast(tone, title, detail = "") {
  const box = document.getElementById("toasts");
  const close = h("button", { class: "icon-button", type: "button", "aria-label": "Close", title: "Close", onclick: () => node.remove() }, icon("close"));
  const node = h("div", { class: `toast tone-${tone}` }, icon(tone === "bad" ? "error" : tone === "ok" ? "running" : "info"), h("div", { class: "toast-text" }, h("strong", null, title), detail ? h("span", null, prose(detail)) : null), close);
  box.append(node);
  while (TOASTS_MAX < box.children.length) box.firstElementChild.remove();
  if (tone !== "bad") setTimeout(() => node.remove(), TOAST_MS);
}

/** The buttons for one target; `node.update(alive, mayRestart)` shows those that make sense now. */
export function rowButtons(target) {
  const toggle = h("button", { class: "icon-button", type: "button" });
  const restart = h("button", { class: "icon-button", type: "button", "aria-label": `Restart ${target}`, title: "Restart (r)", onclick: () => perform("restart", target) }, icon("restart"));
  let shown = "";
  toggle.addEventListener("click", () => perform(shown, target));
  const node = h("div", { class: "row-buttons" }, toggle, restart);
  node.update = (alive, mayRestart) => {
    const wanted = alive ? "stop" : "start";
    if (wanted !== shown) {
      shown = wanted;
      toggle.setAttribute("aria-label", `${alive ? "Stop" : "Start"} ${target}`);
      toggle.title = alive ? "Stop (s)" : "Start (s)";
      replace(toggle, icon(alive ? "stop" : "play"));
    }
    restart.disabled = !mayRestart;
    node.hidden = !mayAct();
  };
  return node;
}
