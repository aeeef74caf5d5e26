/** Shows the log of one conversation. */

import { newRow } from "./message_log.js";
import { appearanceOf, buildRow, isRecent } from "./message_row.js";
import { VirtualList } from "./virtual_list.js";

/**
 * @typedef {import("./conversation.js").AnyConversation} AnyConversation
 * @typedef {import("./message_log.js").Row} Row
 * @typedef {import("./pending_lines.js").Line} Line
 *
 * @typedef {object} LogHandlers
 * @property {(conversation: AnyConversation, row: Row) => void} erase
 * @property {(line: Line) => void} edit
 * @property {(line: Line) => void} dismiss
 * @property {(conversation: AnyConversation, row: Row, forward: boolean) => void} load
 * @property {() => void} moved the log was shown or scrolled
 */

/** Pixels of a line, and of what is above the first line of a member, for rows that were not measured. */
const LINE_HEIGHT = 22;
const HEAD_HEIGHT = 14;
const CHARACTER_WIDTH = 7.5;

export class LogView {
  /**
   * @param {HTMLElement} scroller
   * @param {import("./session.js").Session} session
   * @param {LogHandlers} handlers
   */
  constructor(scroller, session, handlers) {
    this.session = session;
    this.handlers = handlers;
    /** @type {AnyConversation | null} */
    this.conversation = null;
    this.showsPresence = true;
    /** @type {WeakMap<Line, Row>} */
    this.lineRows = new WeakMap();
    /** @type {WeakMap<AnyConversation, {row: Row | null, top: number} | null>} */
    this.positions = new WeakMap();
    /** @type {number} an offset to scroll to as soon as it is loaded */
    this.wantedOffset = 0;
    const actions = {
      mayErase: (/** @type {Row} */ row) => row.own && isRecent(row) && this.conversation?.log.isErasable(row) === true,
      erase: (/** @type {Row} */ row) => this.conversation && handlers.erase(this.conversation, row),
      edit: handlers.edit,
      dismiss: handlers.dismiss,
      load: (/** @type {Row} */ row) => this.conversation && handlers.load(this.conversation, row, false),
    };
    this.list = new VirtualList(scroller, {
      rows: () => this.#rows(),
      appearance: (row, previous) => appearanceOf(row, previous, this.conversation?.firstUnread ?? null),
      build: (row, _, appearance) => buildRow(row, appearance, this.conversation?.isPrivate ? null : session.mention, actions),
      estimate: ({ text, nick }, width) => {
        const lines = Math.ceil((text.length + 1) / Math.max(10, (width - 90) / CHARACTER_WIDTH));
        return lines * LINE_HEIGHT + (nick ? HEAD_HEIGHT : 0);
      },
      gapVisible: (row, forward) => {
        if (this.conversation && !row.gap?.problem) handlers.load(this.conversation, row, forward);
      },
      rendered: handlers.moved,
    });
  }

  get isAtEnd() {
    return this.list.isAtEnd;
  }

  /** @param {AnyConversation | null} conversation */
  show(conversation) {
    if (this.conversation !== null) this.positions.set(this.conversation, this.list.position());
    this.conversation = conversation;
    this.wantedOffset = 0;
    this.list.restore((conversation && this.positions.get(conversation)) ?? null);
  }

  /** Rows or pending lines of a conversation have changed. @param {AnyConversation} conversation */
  changed(conversation) {
    if (conversation !== this.conversation) return;
    if (this.wantedOffset > 0 && conversation.log.byOffset.has(this.wantedOffset)) this.scrollTo(this.wantedOffset);
    else this.list.changed();
  }

  /** Makes all elements anew: a setting, the nick, or the day has changed. */
  renew() {
    this.list.renew();
  }

  toEnd() {
    this.list.toEnd();
  }

  /** Scrolls to a message of a room, which is loaded if it is not there. @param {number} offset */
  scrollTo(offset) {
    const { conversation } = this;
    if (conversation === null || conversation.isPrivate) return;
    const row = conversation.log.byOffset.get(offset);
    this.wantedOffset = 0;
    if (row !== undefined) {
      const shown = this.list.toRow(row);
      shown?.classList.add("found");
      return;
    }
    const gap = conversation.log.gapAround(offset);
    if (gap && this.session.load(conversation, gap, { around: offset })) this.wantedOffset = offset;
  }

  /** @returns {Row[]} the rows of the log, and after them those of the pending lines */
  #rows() {
    const { conversation } = this;
    if (conversation === null) return [];
    const { rows } = conversation.log;
    const shown = this.showsPresence ? rows.slice() : rows.filter((row) => row.kind !== "presence");
    for (const line of this.session.pending.of(conversation.key)) shown.push(this.#lineRow(line));
    return shown;
  }

  /** @param {Line} line */
  #lineRow(line) {
    const { nick } = this.session;
    let row = this.lineRows.get(line);
    if (row?.text !== line.text || row.nick !== nick || row.line?.state !== line.state) {
      const version = (row?.version ?? 0) + 1;
      const { time, text } = line;
      row = newRow("line", { time, text, nick, own: true, version, line: { ...line } });
      this.lineRows.set(line, row);
    }
    return row;
  }
}
