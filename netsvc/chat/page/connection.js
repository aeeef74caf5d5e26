/** A WebSocket that connects again after a loss, and notices when the other side no longer answers. */

import { SUBPROTOCOL, asSentence } from "./protocol.js";

/**
 * How far the connection is.
 *
 * @enum {string}
 */
export const Link = {
  /** There is none, and none is wanted. */
  STOPPED: "stopped",
  /** The socket is being opened. */
  CONNECTING: "connecting",
  /** The socket is open. */
  OPEN: "open",
  /** The connection was lost. The next attempt comes at `retryAt`. */
  WAITING: "waiting",
};

/** Milliseconds: pauses before attempts, which double. A loss after a settled time begins with the first one. */
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;
const SETTLED_TIME = 10_000;

/** Milliseconds from the beginning of an attempt until the session is there. */
const OPENING_TIMEOUT = 10_000;

/** Milliseconds without anything received after which the server is asked, and in which it must answer. */
const QUIET_TIME = 25_000;
const ANSWER_TIMEOUT = 10_000;

/** A timer that fires this late says that the page slept. What was received meanwhile is still in a queue. */
const SLEPT = 3_000;

/** Why the server closed, by the code of RFC 6455. The browser reports 1006 for everything that it hides. */
/** @type {Record<number, string>} */
const CLOSE_REASONS = {
  1000: "The server closed the connection.",
  1001: "The server stopped.",
  1002: "The server reported a protocol error.",
  1007: "The server reported a protocol error.",
  1008: "The server refused the connection.",
  1009: "A message was too long.",
  1011: "The server failed.",
  1013: "The server is full.",
};

/**
 * @typedef {object} Handlers
 * @property {() => void} opened
 * @property {(frame: unknown) => void} received
 * @property {() => void} lost
 * @property {() => void} changed called when `state`, `reason` or `retryAt` has changed
 * @property {() => void} ask asks the server for a sign of life
 */

export class Connection {
  /** @param {string} url @param {Handlers} handlers */
  constructor(url, handlers) {
    this.url = url;
    this.handlers = handlers;
    /** @type {Link} */
    this.state = Link.STOPPED;
    /** Why there is no connection, as a sentence. */
    this.reason = "";
    /** When the next attempt comes, in ms of `performance.now`. */
    this.retryAt = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.failures = 0;
    this.settledAt = Infinity;
    this.receivedAt = 0;
    /** @type {number | null} when the server was asked; null if no answer is awaited */
    this.askedAt = null;
    this.isSlowTimerForgiven = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} of the attempt, of the opening, or of the check for life */
    this.timer = undefined;
  }

  /** Connects, unless that is done or being tried. */
  start() {
    if (this.state === Link.STOPPED || this.state === Link.WAITING) this.#connect();
  }

  /** Closes the connection, and makes none again. */
  stop() {
    this.#close();
    this.#enter(Link.STOPPED, "");
  }

  /** Tries again now, if the connection waits for its next attempt. */
  retryNow() {
    if (this.state === Link.WAITING) this.#connect();
  }

  /** Closes the connection and connects again at once. */
  restart() {
    this.#close();
    this.handlers.lost();
    this.#connect();
  }

  /**
   * Gives the connection up. The next attempt comes after a pause.
   *
   * @param {string} reason
   */
  drop(reason) {
    if (this.state !== Link.CONNECTING && this.state !== Link.OPEN) return;
    this.#close();
    // After a settled time, the first pause is short. Jitter keeps the pages of a restarted server apart.
    if (performance.now() - this.settledAt >= SETTLED_TIME) this.failures = 0;
    const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.failures) * (0.5 + Math.random() / 2);
    this.failures += 1;
    this.retryAt = performance.now() + pause;
    this.timer = setTimeout(() => this.retryNow(), pause);
    this.#enter(Link.WAITING, reason);
    this.handlers.lost();
  }

  /** The session is there: the attempt was a success. */
  settled() {
    this.settledAt = performance.now();
    this.#watch();
  }

  /** Asks at once whether the server is there. The page was hidden, or the network has changed. */
  check() {
    if (this.state === Link.WAITING) this.#connect();
    else if (this.settledAt !== Infinity && this.askedAt === null) this.#ask();
  }

  /** @param {string} frame */
  send(frame) {
    this.socket?.send(frame);
  }

  #connect() {
    this.#close();
    this.settledAt = Infinity;
    this.timer = setTimeout(() => this.drop("The server did not answer."), OPENING_TIMEOUT);
    this.#enter(Link.CONNECTING, this.reason);
    const socket = (this.socket = new WebSocket(this.url, SUBPROTOCOL));
    socket.onopen = () => {
      this.receivedAt = performance.now();
      this.#enter(Link.OPEN, "");
      this.handlers.opened();
    };
    socket.onmessage = (event) => {
      this.receivedAt = performance.now();
      this.askedAt = null;
      this.handlers.received(event.data);
    };
    socket.onclose = (event) => this.drop(this.#closeReason(event));
  }

  /** @param {CloseEvent} event */
  #closeReason(event) {
    if (event.code === 1006 && this.state === Link.CONNECTING) return "The page cannot connect to the server.";
    return event.reason ? asSentence(event.reason) : CLOSE_REASONS[event.code] ?? "The connection was lost.";
  }

  #close() {
    clearTimeout(this.timer);
    this.askedAt = null;
    const socket = this.socket;
    this.socket = null;
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  /** @param {Link} state @param {string} reason */
  #enter(state, reason) {
    this.state = state;
    this.reason = reason;
    this.handlers.changed();
  }

  #ask() {
    this.askedAt = performance.now();
    this.isSlowTimerForgiven = false;
    this.handlers.ask();
    this.#watch();
  }

  /** Does what is due for the check for life, and sets the timer for the rest. */
  #watch() {
    clearTimeout(this.timer);
    const now = performance.now();
    const due = this.askedAt === null ? this.receivedAt + QUIET_TIME : this.askedAt + ANSWER_TIMEOUT;
    if (now < due) {
      this.timer = setTimeout(() => this.#watch(), due - now);
    } else if (this.askedAt === null) {
      this.#ask();
    } else if (now > due + SLEPT && !this.isSlowTimerForgiven) {
      this.isSlowTimerForgiven = true;
      this.askedAt = now - ANSWER_TIMEOUT + SLEPT;
      this.#watch();
    } else {
      this.drop("The server did not answer.");
    }
  }
}
