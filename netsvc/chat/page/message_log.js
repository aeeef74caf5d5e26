/**
 * The messages of one conversation, as the rows that are shown.
 *
 * The offsets of a room's log have no gaps, but what the page has loaded has some. A *gap* is a row of its own, and is
 * filled by answers to requests for the history. A *segment* is a part of the rows whose offsets belong to one log.
 *
 * @typedef {import("./protocol.js").Entry} Entry
 *
 * @typedef {object} Row
 * @property {"said" | "action" | "topic" | "notice" | "presence" | "info" | "gap" | "start" | "line"} kind `info` is a
 *   sentence of the page, `start` the beginning of the log, `line` a pending line
 * @property {number} time in ms since 1970
 * @property {number} segment
 * @property {number} offset 0 if it is not an entry
 * @property {string} nick
 * @property {string} text
 * @property {boolean} own
 * @property {boolean} isMention
 * @property {number} version changes when the row is to be shown anew
 * @property {number} height in pixels as measured; 0 before
 * @property {number} layout the layout in which it was measured
 * @property {Entry[]} [entries] of `presence`
 * @property {Gap} [gap] of `gap`
 * @property {import("./pending_lines.js").Line} [line] of `line`
 *
 * @typedef {object} Gap
 * @property {number} after offset of the last entry before the gap; 0 at the beginning
 * @property {number} before offset of the first entry after the gap
 * @property {boolean} isLoading
 * @property {string} problem why it could not be loaded
 */

/** Joins and leaves in one row. */
const GROUP_MAX = 200;
const GROUP_TIME = 30 * 60_000;

const SHOWN_KINDS = new Set(["said", "action", "topic", "notice"]);
export const PRESENCE_KINDS = new Set(["joined", "left", "renamed"]);

/** @param {Row["kind"]} kind @param {Partial<Row>} values @returns {Row} */
export function newRow(kind, values) {
  return {
    kind,
    time: Date.now(),
    segment: 0,
    offset: 0,
    nick: "",
    text: "",
    own: false,
    isMention: false,
    version: 0,
    height: 0,
    layout: 0,
    ...values,
  };
}

export class MessageLog {
  constructor() {
    /** @type {Row[]} */
    this.rows = [];
    this.segment = 0;
    /** @type {Map<number, Row>} rows of the present segment */
    this.byOffset = new Map();
  }

  /**
   * Appends a new entry.
   *
   * @param {Entry} entry
   * @param {{own: boolean, isMention: boolean}} about
   * @returns {Row | null} its row; null if it has none of its own
   */
  append(entry, about) {
    if (PRESENCE_KINDS.has(entry.kind)) {
      this.#appendPresence(entry);
      return null;
    }
    if (!SHOWN_KINDS.has(entry.kind)) return null;
    const row = this.#entryRow(entry, about);
    this.rows.push(row);
    return row;
  }

  /** Appends a sentence of the page. @param {string} text */
  inform(text) {
    this.rows.push(newRow("info", { text, segment: this.segment }));
  }

  /** Appends a gap of entries that may be loaded. @param {number} after @param {number} before */
  appendGap(after, before) {
    if (before > after + 1) this.rows.push(this.#gapRow(after, before));
  }

  /** The log was begun anew: offsets of the rows so far say nothing any more. */
  startSegment() {
    this.segment += 1;
    this.byOffset.clear();
    this.rows = this.rows.filter((row) => row.kind !== "gap");
  }

  /** @returns {Row | undefined} the last gap */
  lastGap() {
    return this.rows.findLast((row) => row.kind === "gap");
  }

  /** @param {number} offset @returns {Row | undefined} the gap that the offset is in */
  gapAround(offset) {
    return this.rows.find(({ gap }) => gap !== undefined && gap.after < offset && offset < gap.before);
  }

  /**
   * Fills a gap, or a part of it.
   *
   * @param {Row} row the gap
   * @param {Entry[]} entries the last ones before `before`, the oldest first
   * @param {number} before
   * @param {boolean} isAll whether there are no more than these
   * @param {(entry: Entry) => {own: boolean, isMention: boolean}} about
   */
  fill(row, entries, before, isAll, about) {
    const index = this.rows.indexOf(row);
    const gap = row.gap;
    if (index < 0 || gap === undefined) return;
    const from = isAll ? gap.after : Math.max(gap.after, (entries[0]?.offset ?? 1) - 1);
    const to = Math.min(before, gap.before);
    /** @type {Row[]} */
    const filled = [];
    if (from > gap.after) filled.push(this.#gapRow(gap.after, from + 1));
    else if (gap.after === 0) filled.push(newRow("start", { segment: this.segment, time: entries[0]?.time ?? 0 }));
    for (const entry of entries) {
      if (entry.offset <= from || entry.offset >= to || !SHOWN_KINDS.has(entry.kind)) continue;
      filled.push(this.#entryRow(entry, about(entry)));
    }
    if (to < gap.before) filled.push(this.#gapRow(to - 1, gap.before));
    this.rows = [...this.rows.slice(0, index), ...filled, ...this.rows.slice(index + 1)];
  }

  /** Removes the text of an entry. @param {number} offset */
  erase(offset) {
    const row = this.byOffset.get(offset);
    if (row === undefined) return;
    row.text = "";
    row.isMention = false;
    row.version += 1;
  }

  /** @returns {Row | undefined} the last message that can be erased */
  lastOwn() {
    return this.rows.findLast((row) => row.own && this.isErasable(row));
  }

  /** @param {Row} row */
  isErasable(row) {
    const isMessage = row.kind === "said" || row.kind === "action";
    return isMessage && row.offset > 0 && row.text !== "" && row.segment === this.segment;
  }

  /**
   * Removes the oldest rows if there are more than `most`.
   *
   * @param {number} most
   * @returns {boolean} whether rows were removed
   */
  trim(most) {
    if (this.rows.length <= most) return false;
    const removed = this.rows.slice(0, this.rows.length - Math.floor(most * 0.9));
    this.rows = this.rows.slice(removed.length);
    for (const row of removed) {
      if (row.segment === this.segment) this.byOffset.delete(row.offset);
    }
    const first = this.rows.find((row) => row.segment === this.segment && (row.offset > 0 || row.gap !== undefined));
    const isCut = removed.some((row) => row.segment === this.segment && (row.offset > 0 || row.gap !== undefined));
    if (isCut && first?.gap !== undefined) first.gap.after = 0;
    else if (isCut && first !== undefined) this.rows.unshift(this.#gapRow(0, first.offset));
    return true;
  }

  /** @param {Entry} entry @param {{own: boolean, isMention: boolean}} about */
  #entryRow({ kind, time, offset, nick, text }, about) {
    const known = /** @type {Row["kind"]} */ (kind);
    const row = newRow(known, { time, offset, nick, text, segment: this.segment, ...about });
    if (offset > 0) this.byOffset.set(offset, row);
    return row;
  }

  /** @param {number} after @param {number} before */
  #gapRow(after, before) {
    return newRow("gap", { segment: this.segment, gap: { after, before, isLoading: false, problem: "" } });
  }

  /** @param {Entry} entry */
  #appendPresence(entry) {
    const last = this.rows.at(-1);
    const isSame = last?.kind === "presence" && last.segment === this.segment && last.entries !== undefined;
    if (isSame && entry.time - last.time < GROUP_TIME && last.entries && last.entries.length < GROUP_MAX) {
      last.entries.push(entry);
      last.version += 1;
    } else {
      this.rows.push(newRow("presence", { time: entry.time, segment: this.segment, entries: [entry] }));
    }
  }
}
