/** Rooms and private conversations: their members, the rows that are shown of their logs, and the lines that wait. */

const GROUP_MAX = 200;
const GROUP_MS = 30 * 60_000;

const SHOWN_KINDS = new Set(["said", "action", "topic", "notice"]);
export const PRESENCE_KINDS = new Set(["joined", "left", "renamed"]);

/** @param {Row["kind"]} kind @param {Partial<Row>} values @returns {Row} */
export function newRow(kind, values) {
  const position = { segment: 0, offset: 0 };
  const shown = { version: 0, height: 0, layout: 0 };
  return { kind, time: Date.now(), nick: "", text: "", own: false, isMention: false, ...position, ...shown, ...values };
}

export class MessageLog {
  constructor() {
    /** @type {Row[]} */
    this.rows = [];
    this.segment = 0;
    /** @type {Map<number, Row>} */
    this.byOffset = new Map();
  }

  /** Returns the row of the entry, if it has one of its own. @param {Entry} entry @param {About} about */
  append(entry, about) {
    if (PRESENCE_KINDS.has(entry.kind)) this.#appendPresence(entry);
    return SHOWN_KINDS.has(entry.kind) ? this.#append(this.#entryRow(entry, about)) : null;
  }

  /** @param {string} text */
  inform(text) {
    this.#append(newRow("info", { text, segment: this.segment }));
  }

  /** @param {number} after @param {number} before */
  appendGap(after, before) {
    if (before > after + 1) this.#append(this.#gapRow(after, before));
  }

  /** The offsets of the rows so far say nothing any more. */
  startSegment() {
    this.segment += 1;
    this.byOffset.clear();
    this.rows = this.rows.filter((row) => !row.gap);
  }

  lastGap() {
    return this.rows.findLast((row) => row.gap);
  }

  /** @param {number} offset */
  gapAround(offset) {
    return this.rows.find(({ gap }) => gap && gap.after < offset && offset < gap.before);
  }

  /**
   * Fills a gap, or a part of it.
   *
   * @param {Row} row
   * @param {Entry[]} entries the last ones before `before`, the oldest first
   * @param {number} before
   * @param {boolean} isAll whether there are no more than these
   * @param {(entry: Entry) => About} about
   */
  fill(row, entries, before, isAll, about) {
    const index = this.rows.indexOf(row);
    const { gap } = row;
    if (index < 0 || !gap) return;
    const from = isAll ? gap.after : Math.max(gap.after, (entries[0]?.offset ?? 1) - 1);
    const to = Math.min(before, gap.before);
    const inside = entries.filter(({ kind, offset }) => from < offset && offset < to && SHOWN_KINDS.has(kind));
    const filled = inside.map((entry) => this.#entryRow(entry, about(entry)));
    if (from > gap.after) filled.unshift(this.#gapRow(gap.after, from + 1));
    else if (gap.after === 0) filled.unshift(newRow("start", { segment: this.segment }));
    if (to < gap.before) filled.push(this.#gapRow(to - 1, gap.before));
    this.rows = this.rows.toSpliced(index, 1, ...filled);
  }

  /** @param {number} offset */
  erase(offset) {
    const row = this.byOffset.get(offset);
    if (row) Object.assign(row, { text: "", isMention: false, version: row.version + 1 });
  }

  lastOwn() {
    return this.rows.findLast((row) => row.own && this.isErasable(row));
  }

  /** @param {Row} row */
  isErasable({ kind, offset, text, segment }) {
    return (kind === "said" || kind === "action") && offset > 0 && text !== "" && segment === this.segment;
  }

  /** @param {number} most */
  trim(most) {
    if (this.rows.length <= most) return;
    /** @param {Row} row */
    const isOfLog = ({ segment, offset, gap }) => segment === this.segment && (offset > 0 || gap !== undefined);
    const removed = this.rows.slice(0, -Math.floor(most * 0.9));
    this.rows = this.rows.slice(removed.length);
    for (const { segment, offset } of removed) if (segment === this.segment) this.byOffset.delete(offset);
    const first = this.rows.find(isOfLog);
    if (!first || !removed.some(isOfLog)) return;
    if (first.gap) first.gap.after = 0;
    else this.rows.unshift(this.#gapRow(0, first.offset));
  }

  /** @param {Row} row */
  #append(row) {
    this.rows.push(row);
    return row;
  }

  /** @param {Entry} entry @param {About} about */
  #entryRow({ kind, time, offset, nick, text }, about) {
    const shown = /** @type {Row["kind"]} */ (kind);
    const row = newRow(shown, { time, offset, nick, text, segment: this.segment, ...about });
    this.byOffset.set(offset, row);
    return row;
  }

  /** @param {number} after @param {number} before */
  #gapRow(after, before) {
    return newRow("gap", { segment: this.segment, gap: { after, before, isLoading: false, problem: "" } });
  }

  /** @param {Entry} entry */
  #appendPresence(entry) {
    const last = this.rows.at(-1);
    const group = last?.segment === this.segment && entry.time - last.time < GROUP_MS ? last.entries : undefined;
    if (last && group && group.length < GROUP_MAX) {
      group.push(entry);
      last.version += 1;
    } else {
      this.#append(newRow("presence", { time: entry.time, segment: this.segment, entries: [entry] }));
    }
  }
}

/** @enum {string} Whether the member is in a room. */
export const Membership = {
  JOINING: "joining",
  IN: "in",
  RESUMING: "resuming",
  OUT: "out",
};

/** Returns the key of a private conversation. That of a room begins with `#`. @param {string} nick */
export function privateKey(nick) {
  return `@${nick.toLowerCase()}`;
}

class Conversation {
  /** @param {string} key @param {string} name */
  constructor(key, name) {
    this.key = key;
    this.name = name;
    this.log = new MessageLog();
    this.unread = 0;
    this.mentions = 0;
    /** @type {Row | null} marked as new */
    this.firstUnread = null;
    this.draft = "";
  }

  /** @param {Row} row */
  countUnread(row) {
    if (this.unread === 0) {
      this.removeMark();
      this.firstUnread = row;
    }
    this.unread += 1;
    if (row.isMention) this.mentions += 1;
  }

  removeMark() {
    if (this.firstUnread) this.firstUnread.version += 1;
    this.firstUnread = null;
  }
}

export class Room extends Conversation {
  isPrivate = /** @type {const} */ (false);

  /** @param {string} name */
  constructor(name) {
    super(name, name);
    this.membership = Membership.JOINING;
    /** The position of the last entry that was received. */
    this.epoch = "";
    this.offset = 0;
    /** @type {RoomEntered | null} where the log is, until the verdict follows */
    this.announced = null;
    this.topic = { text: "", nick: "", time: 0 };
    /** @type {Map<string, string>} other members, by their lower case */
    this.others = new Map();
    this.count = 0;
    this.areMembersStale = false;
  }

  /** @param {string[]} nicks @param {number} count @param {string} own */
  setMembers(nicks, count, own) {
    this.others = new Map(nicks.filter((nick) => nick !== own).map((nick) => [nick.toLowerCase(), nick]));
    this.count = count;
    this.areMembersStale = false;
  }

  /** @param {Entry} entry of presence @param {string} own */
  applyPresence({ kind, nick, text }, own) {
    if (nick === own || (kind === "renamed" && text === own)) return;
    const { others } = this;
    const unknown = this.count - others.size;
    const wasKnown = others.delete(nick.toLowerCase());
    const now = kind === "renamed" && wasKnown ? text : kind === "joined" ? nick : "";
    if (now) others.set(now.toLowerCase(), now);
    this.count = others.size + unknown;
  }
}

export class PrivateConversation extends Conversation {
  isPrivate = /** @type {const} */ (true);

  /** @param {string} nick */
  constructor(nick) {
    super(privateKey(nick), nick);
  }
}

/** @enum {string} What is known about a line. */
export const LineState = {
  /** It may have been sent before. The server recognises it by its ID. */
  WAITING: "waiting",
  SENT: "sent",
  UNCONFIRMED: "unconfirmed",
  REFUSED: "refused",
  /** The session or the connection ended before the acknowledgement. */
  UNKNOWN: "unknown",
};

const { WAITING, SENT, UNCONFIRMED, REFUSED, UNKNOWN } = LineState;

export const PENDING_MAX = 1_000;

/** @param {Line} line */
const isInFlight = ({ state }) => state === SENT || state === UNCONFIRMED;

/** @param {Line} line */
const isAlive = (line) => line.state === WAITING || isInFlight(line);

export class PendingLines {
  /** @param {Store} store */
  constructor(store) {
    this.store = store;
    /** @type {Line[]} */
    const stored = store.get("lines", []);
    this.lines = new Map(stored.map((line) => [line.id, line]));
    this.prefix = [...crypto.getRandomValues(new Uint8Array(5))].map((byte) => byte.toString(36)).join("");
    this.lastId = 0;
    this.connectionLost();
  }

  newId() {
    this.lastId += 1;
    return `${this.prefix}-${this.lastId}`;
  }

  get count() {
    return this.#all().filter(isAlive).length;
  }

  /** @param {AnyConversation} conversation @param {string[]} texts @param {boolean} action */
  add({ key, isPrivate }, texts, action) {
    for (const text of texts) {
      const id = this.newId();
      const line = { id, key, isPrivate, text, action, wasSent: false, time: Date.now(), state: WAITING, reason: "" };
      this.lines.set(id, line);
    }
    this.#save();
  }

  /** @param {string} key */
  of(key) {
    return this.#all().filter((line) => line.key === key);
  }

  /** Returns what is to be sent now. @param {number} inFlightMax @param {(line: Line) => boolean} isPossible */
  takeNext(inFlightMax, isPossible) {
    const free = inFlightMax - this.#all().filter(isInFlight).length;
    const waiting = this.#all().filter((line) => line.state === WAITING && isPossible(line));
    const next = waiting.slice(0, Math.max(0, free));
    this.#change(next, () => ({ state: SENT, wasSent: true }));
    return next;
  }

  /** @param {string} id */
  take(id) {
    const line = this.lines.get(id);
    if (this.lines.delete(id)) this.#save();
    return line;
  }

  /** @param {string} id @param {LineState} state @param {string} reason */
  update(id, state, reason = "") {
    const line = this.lines.get(id);
    if (line) this.#change([line], () => ({ state, reason }));
    return line;
  }

  /** Lines in rooms are sent again. A private message is not logged, so the server would not recognise it. */
  connectionLost() {
    this.#change(this.#all().filter(isInFlight), ({ isPrivate }) => ({ state: isPrivate ? UNKNOWN : WAITING }));
  }

  /** Another session does not recognise lines of this one. @param {string} reason if none is sent any more */
  sessionEnded(reason) {
    const ended = this.#all().filter((line) => isAlive(line) && (line.wasSent || reason));
    this.#change(ended, ({ wasSent }) => (wasSent ? { state: UNKNOWN } : { state: REFUSED, reason }));
  }

  /** @param {string} key @param {string} reason */
  refuseAll(key, reason) {
    this.#change(this.of(key).filter(isAlive), () => ({ state: REFUSED, reason }));
  }

  /** @param {string} key @param {string} next */
  rekey(key, next) {
    this.#change(this.of(key), () => ({ key: next }));
  }

  clear() {
    this.lines.clear();
    this.#save();
  }

  #all() {
    return [...this.lines.values()];
  }

  /** @param {Line[]} lines @param {(line: Line) => Partial<Line>} values */
  #change(lines, values) {
    for (const line of lines) Object.assign(line, values(line));
    if (lines.length > 0) this.#save();
  }

  #save() {
    this.store.set("lines", this.#all());
  }
}
