/** Shows the state of the connection, and what the user can do about it. */

import { byId } from "./dom.js";
import { Phase } from "./session.js";

/** @typedef {import("./session.js").Session} Session */

/**
 * What is shown in a phase: the state, a sentence if there is something to say, and buttons.
 *
 * @type {Record<Phase, {state: string, sentence: string, buttons: string[]}>}
 */
const SHOWN = {
  [Phase.IDLE]: { state: "Not connected", sentence: "", buttons: [] },
  [Phase.CONNECTING]: { state: "Connecting…", sentence: "", buttons: [] },
  [Phase.BEGINNING]: { state: "Connecting…", sentence: "", buttons: [] },
  [Phase.RESUMING]: { state: "Connecting…", sentence: "", buttons: [] },
  [Phase.ONLINE]: { state: "Connected", sentence: "", buttons: [] },
  [Phase.WAITING]: { state: "Offline", sentence: "", buttons: ["retry"] },
  [Phase.ELSEWHERE]: {
    state: "In another tab",
    sentence: "This chat is open in another tab or window.",
    buttons: ["take-over", "begin-anew"],
  },
  [Phase.LEFT]: { state: "Left", sentence: "You left the chat.", buttons: ["join-again"] },
};

const BUTTONS = ["retry", "take-over", "begin-anew", "join-again"];

export class ConnectionBar {
  /** @param {Session} session @param {() => void} takeOver goes on here with the session of another tab */
  constructor(session, takeOver) {
    this.session = session;
    this.status = byId("connection-text");
    this.bar = byId("bar");
    this.sentence = byId("bar-text");
    this.countdown = byId("countdown");
    /** @type {ReturnType<typeof setInterval> | undefined} */
    this.ticking = undefined;
    byId("retry").addEventListener("click", () => session.connection.retryNow());
    byId("take-over").addEventListener("click", takeOver);
    byId("begin-anew").addEventListener("click", () => session.beginAnew());
    byId("join-again").addEventListener("click", () => session.start());
  }

  show() {
    const { phase, connection } = this.session;
    const { state, sentence, buttons } = SHOWN[phase];
    const isTrying = state === "Connecting…" && connection.failures > 0;
    if (this.status.textContent !== state) this.status.textContent = state;
    document.documentElement.dataset.phase = phase;
    this.sentence.textContent = phase === Phase.WAITING || isTrying ? connection.reason || this.sentence.textContent : sentence;
    this.bar.hidden = this.sentence.textContent === "";
    for (const id of BUTTONS) byId(id).hidden = !buttons.includes(id);
    clearInterval(this.ticking);
    if (phase === Phase.WAITING) this.ticking = setInterval(() => this.#tick(), 250);
    this.#tick();
  }

  #tick() {
    const { phase, connection } = this.session;
    const seconds = Math.max(1, Math.ceil((connection.retryAt - performance.now()) / 1_000));
    const text = phase === Phase.WAITING ? `Trying again in ${seconds} s.` : phase === Phase.CONNECTING ? "Trying…" : "";
    if (this.countdown.textContent !== text) this.countdown.textContent = text;
  }
}
