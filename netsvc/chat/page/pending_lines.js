/** The lines that were typed and that the server has not acknowledged. A reload neither loses nor doubles one. */

/**
 * What is known about a line.
 *
 * @enum {string}
 */
export const LineState = {
  /** It is sent as soon as possible. It may have been sent before; the server recognises it by its ID. */
  WAITING: "waiting",
  /** It was sent on this connection. */
  SENT: "sent",
  /** The server has it and does not know yet whether it is in the log. */
  UNCONFIRMED: "unconfirmed",
  /** The server refused it, or it could not be sent. */
  REFUSED: "refused",
  /** The session or the connection ended before the acknowledgement. */
  UNKNOWN: "unknown",
};

/** States after which nothing happens any more by itself. */
const ENDED = new Set([LineState.REFUSED, LineState.UNKNOWN]);
const IN_FLIGHT = new Set([LineState.SENT, LineState.UNCONFIRMED]);

/** Lines that may wait. */
export const PENDING_MAX = 1_000;

/**
 * @typedef {object} Line
 * @property {string} id names it, also when it is sent again
 * @property {string} key the key of its conversation
 * @property {string} text
 * @property {boolean} action whether it is said in the third person
 * @property {boolean} isPrivate
 * @property {boolean} wasSent whether it may have arrived
 * @property {number} time when it was typed
 * @property {LineState} state
 * @property {string} reason why it was refused
 */

export class PendingLines {
  /** @param {import("./storage.js").Storage} storage */
  constructor(storage) {
    this.storage = storage;
    /** @type {Map<string, Line>} */
    this.lines = new Map();
    for (const line of /** @type {Line[]} */ (storage.get("lines", []))) this.lines.set(line.id, line);
    this.prefix = Array.from(crypto.getRandomValues(new Uint8Array(5)), (byte) => byte.toString(36)).join("");
    this.lastId = 0;
    this.#connectionLost();
  }

  /** @returns {string} an ID that no other request of this session has */
  newId() {
    this.lastId += 1;
    return `${this.prefix}-${this.lastId}`;
  }

  /** How many lines wait for an acknowledgement. */
  get waiting() {
    return this.#count((line) => !ENDED.has(line.state));
  }

  /** How many lines were sent on this connection and are not acknowledged. */
  get inFlight() {
    return this.#count((line) => IN_FLIGHT.has(line.state));
  }

  /**
   * Adds lines of one conversation, in order.
   *
   * @param {{key: string, isPrivate: boolean}} conversation
   * @param {string[]} texts
   * @param {boolean} action
   */
  add({ key, isPrivate }, texts, action) {
    for (const text of texts) {
      const line = { key, isPrivate, text, action, wasSent: false, time: Date.now(), state: LineState.WAITING };
      const id = this.newId();
      this.lines.set(id, { ...line, id, reason: "" });
    }
    this.save();
  }

  /** @param {string} key @returns {Line[]} the lines of a conversation, in order */
  of(key) {
    return [...this.lines.values()].filter((line) => line.key === key);
  }

  /**
   * Takes the lines that are to be sent next, and notes that they were sent.
   *
   * @param {number} atMost
   * @param {(key: string) => boolean} isOpen whether a conversation can be written to
   * @returns {Line[]}
   */
  takeNext(atMost, isOpen) {
    const next = [];
    for (const line of this.lines.values()) {
      if (next.length >= atMost) break;
      if (line.state === LineState.WAITING && isOpen(line.key)) next.push(line);
    }
    for (const line of next) Object.assign(line, { state: LineState.SENT, wasSent: true });
    if (next.length > 0) this.save();
    return next;
  }

  /** @param {string} id @returns {Line | undefined} the line, which is removed */
  take(id) {
    const line = this.lines.get(id);
    if (line !== undefined) {
      this.lines.delete(id);
      this.save();
    }
    return line;
  }

  /**
   * @param {string} id
   * @param {LineState} state
   * @param {string} reason
   * @returns {Line | undefined}
   */
  update(id, state, reason = "") {
    const line = this.lines.get(id);
    if (line !== undefined) {
      Object.assign(line, { state, reason });
      this.save();
    }
    return line;
  }

  /** Lines in rooms are sent again. A private message is not logged, so the server would not recognise it. */
  connectionLost() {
    this.#connectionLost();
    this.save();
  }

  /**
   * The session has ended. In another one, the server does not recognise a line that was sent before.
   *
   * @param {string} reason for the lines that were not sent; empty if they still will be
   */
  sessionEnded(reason) {
    for (const line of this.lines.values()) {
      if (ENDED.has(line.state)) continue;
      if (line.wasSent) line.state = LineState.UNKNOWN;
      else if (reason) Object.assign(line, { state: LineState.REFUSED, reason });
    }
    this.save();
  }

  /**
   * The lines of a conversation cannot be sent.
   *
   * @param {string} key
   * @param {string} reason
   */
  refuseAll(key, reason) {
    for (const line of this.of(key)) {
      if (!ENDED.has(line.state)) Object.assign(line, { state: LineState.REFUSED, reason });
    }
    this.save();
  }

  /** The conversation has another key. @param {string} key @param {string} next */
  rekey(key, next) {
    for (const line of this.of(key)) line.key = next;
    this.save();
  }

  /** Forgets all lines: another tab has them. */
  clear() {
    this.lines.clear();
    this.save();
  }

  save() {
    this.storage.set("lines", [...this.lines.values()]);
  }

  #connectionLost() {
    for (const line of this.lines.values()) {
      if (!IN_FLIGHT.has(line.state)) continue;
      line.state = line.isPrivate ? LineState.UNKNOWN : LineState.WAITING;
    }
  }

  /** @param {(line: Line) => boolean} condition */
  #count(condition) {
    let count = 0;
    for (const line of this.lines.values()) if (condition(line)) count += 1;
    return count;
  }
}
