/** A WebSocket that connects again after a loss, and notices when the other side no longer answers. */

import { SUBPROTOCOL, asSentence } from "./protocol.js";

/** @enum {string} How far the connection is. */
export const Link = {
  STOPPED: "stopped",
  CONNECTING: "connecting",
  OPEN: "open",
  WAITING: "waiting",
};

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
const LASTING_MS = 10_000;

const OPENING_TIMEOUT_MS = 10_000;

const QUIET_MS = 25_000;
const ANSWER_TIMEOUT_MS = 10_000;

/** A timer that is so late says that the page slept. What was received is still in a queue. */
const SLEPT_MS = 3_000;

const NO_ANSWER = "The server did not answer.";

/** @type {Record<number, string>} */
const CLOSE_REASONS = {
  1000: "The server closed the connection.",
  1001: "The server stopped.",
  1008: "The server refused the connection.",
  1009: "A message was too long.",
  1013: "The server is full.",
};

export class Connection {
  /** @param {string} url @param {ConnectionHandlers} handlers */
  constructor(url, handlers) {
    this.url = url;
    this.handlers = handlers;
    this.state = Link.STOPPED;
    this.reason = "";
    this.retryAt = 0;
    this.failures = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.settledAt = Infinity;
    this.receivedAt = 0;
    /** 0 if no answer is awaited. */
    this.askedAt = 0;
    this.wasForgiven = false;
    /** @type {number | undefined} */
    this.timer = undefined;
  }

  start() {
    if (this.state === Link.STOPPED || this.state === Link.WAITING) this.#connect();
  }

  stop() {
    this.#close();
    this.#enter(Link.STOPPED, "");
  }

  restart() {
    this.#close();
    this.handlers.lost();
    this.#connect();
  }

  /** Gives the connection up. The next attempt comes after a pause. @param {string} reason */
  drop(reason) {
    if (this.state !== Link.CONNECTING && this.state !== Link.OPEN) return;
    this.#close();
    const now = performance.now();
    if (now - this.settledAt >= LASTING_MS) this.failures = 0;
    // Jitter keeps the pages of a restarted server apart.
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.failures) * (0.5 + Math.random() / 2);
    this.failures += 1;
    this.retryAt = now + pause;
    this.timer = setTimeout(() => this.start(), pause);
    this.#enter(Link.WAITING, reason);
    this.handlers.lost();
  }

  settled() {
    this.settledAt = performance.now();
    this.#watch();
  }

  check() {
    if (this.state === Link.WAITING) this.#connect();
    else if (this.state === Link.OPEN && this.settledAt < Infinity && !this.askedAt) this.#ask();
  }

  /** @param {string} frame */
  send(frame) {
    this.socket?.send(frame);
  }

  #connect() {
    this.#close();
    this.settledAt = Infinity;
    this.timer = setTimeout(() => this.drop(NO_ANSWER), OPENING_TIMEOUT_MS);
    this.#enter(Link.CONNECTING, this.reason);
    const socket = (this.socket = new WebSocket(this.url, SUBPROTOCOL));
    socket.onopen = () => {
      this.#enter(Link.OPEN, "");
      this.handlers.opened();
    };
    socket.onmessage = ({ data }) => {
      this.receivedAt = performance.now();
      this.askedAt = 0;
      this.handlers.received(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (code === 1006 && this.state === Link.CONNECTING) this.drop("The page cannot connect to the server.");
      else this.drop(reason ? asSentence(reason) : (CLOSE_REASONS[code] ?? "The connection was lost."));
    };
  }

  #close() {
    clearTimeout(this.timer);
    this.askedAt = 0;
    const { socket } = this;
    this.socket = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  /** @param {Link} state @param {string} reason */
  #enter(state, reason) {
    this.state = state;
    this.reason = reason;
    this.handlers.changed();
  }

  #ask() {
    this.askedAt = performance.now();
    this.wasForgiven = false;
    this.handlers.ask();
    this.#watch();
  }

  #watch() {
    clearTimeout(this.timer);
    const now = performance.now();
    const due = this.askedAt ? this.askedAt + ANSWER_TIMEOUT_MS : this.receivedAt + QUIET_MS;
    if (now < due) {
      this.timer = setTimeout(() => this.#watch(), due - now);
    } else if (!this.askedAt) {
      this.#ask();
    } else if (now > due + SLEPT_MS && !this.wasForgiven) {
      this.wasForgiven = true;
      this.timer = setTimeout(() => this.#watch(), SLEPT_MS);
    } else {
      this.drop(NO_ANSWER);
    }
  }
}
