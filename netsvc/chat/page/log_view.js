/**
 * Shows the log of a conversation. Of its many rows, only those near the visible part are in the document.
 *
 * Rows are measured when they are shown; the heights of others are estimated. The list stays at its end while it is
 * there. Elsewhere, the first visible row stays where it is, whatever is added or removed.
 */

import { LineState, newRow } from "./conversation.js";
import { button, calendar, clock, dayName, dayOf, element, nickElement, oncePerFrame, textElement } from "./elements.js";

const OVERSCAN_PX = 600;
const GAP_DISTANCE_PX = 2_000;

const NEAR_END_PX = 24;

/** Heights that are measured can make other rows visible. */
const PASSES_MAX = 6;

export class VirtualList {
  /** @param {HTMLElement} scroller @param {Rendering} rendering */
  constructor(scroller, rendering) {
    this.scroller = scroller;
    this.rendering = rendering;
    this.window = element("div", { class: "window" });
    this.space = element("div", { class: "space" }, this.window);
    scroller.append(this.space);
    /** @type {ListPosition} */
    this.position = null;
    this.layout = 1;
    this.width = 0;
    /** @type {Row[]} */
    this.rows = [];
    this.tops = new Float64Array(1);
    this.scrollTop = 0;
    /** @type {Map<Row, Shown>} */
    this.shown = new Map();
    this.changed = oncePerFrame(() => this.#render());
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    const observer = new ResizeObserver(() => this.changed());
    observer.observe(scroller);
    observer.observe(this.window);
  }

  /** @param {ListPosition} position */
  show(position) {
    this.position = position;
    this.#render();
  }

  /** @param {Row} row */
  showRow(row) {
    this.show({ row, top: this.scroller.clientHeight / 3 });
    return this.shown.get(row)?.element;
  }

  /** Makes all elements anew. */
  renew() {
    this.layout += 1;
    this.window.replaceChildren();
    this.shown.clear();
    this.changed();
  }

  #render() {
    const { scroller } = this;
    const { clientHeight: height, clientWidth: width } = scroller;
    if (height === 0) return;
    if (width !== this.width) this.layout += 1;
    this.width = width;
    this.rows = this.rendering.rows();
    let top = this.#arrange(height);
    for (let pass = 0; pass < PASSES_MAX; pass += 1) {
      this.#place(this.#indexAt(top - OVERSCAN_PX), this.#indexAt(top + height + OVERSCAN_PX));
      const isAsExpected = this.#measure();
      top = this.#arrange(height);
      if (isAsExpected) break;
    }
    if (Math.abs(scroller.scrollTop - top) >= 1) scroller.scrollTop = top;
    this.scrollTop = scroller.scrollTop;
    this.#reportGaps(height);
    this.rendering.rendered();
  }

  /** Returns where the visible part is to begin. @param {number} height of that part */
  #arrange(height) {
    const { rows, position } = this;
    if (this.tops.length <= rows.length) this.tops = new Float64Array(rows.length * 2);
    const { tops } = this;
    let end = 0;
    for (let index = 0; index < rows.length; index += 1) {
      const row = rows[index];
      tops[index] = end;
      end += row.layout === this.layout ? row.height : row.height || this.rendering.estimate(row, this.width);
    }
    tops[rows.length] = end;
    this.space.style.height = `${end}px`;
    const most = Math.max(0, end - height);
    if (position === null) return most;
    const index = position.row ? rows.lastIndexOf(position.row) : -1;
    const wanted = index < 0 ? this.scroller.scrollTop : tops[index] - position.top;
    return Math.min(Math.max(0, wanted), most);
  }

  /** @param {number} top */
  #indexAt(top) {
    let low = 0;
    let high = this.rows.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.tops[middle] <= top) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** @param {number} first @param {number} last */
  #place(first, last) {
    const { rows, shown, rendering } = this;
    const placed = rows.slice(first, last + 1);
    const kept = new Set(placed);
    for (const [row, { element: old }] of shown) {
      if (kept.has(row)) continue;
      this.#remove(old);
      shown.delete(row);
    }
    let next = this.window.firstElementChild;
    for (const [index, row] of placed.entries()) {
      const appearance = rendering.appearance(row, rows[first + index - 1]);
      const look = `${row.version} ${appearance}`;
      let current = shown.get(row);
      if (current?.look !== look) {
        const old = current?.element;
        current = { element: rendering.build(row, appearance), look };
        shown.set(row, current);
        row.layout = 0;
        this.window.insertBefore(current.element, next);
        if (next === old) next = next?.nextElementSibling ?? null;
        if (old) this.#remove(old);
      } else if (next === current.element) {
        next = next.nextElementSibling;
      } else {
        this.window.insertBefore(current.element, next);
      }
    }
    this.window.style.transform = `translateY(${this.tops[first]}px)`;
  }

  /** Does not lose the keyboard's place with a removed row. @param {HTMLElement} removed */
  #remove(removed) {
    if (removed.contains(document.activeElement)) this.scroller.focus({ preventScroll: true });
    removed.remove();
  }

  /** Returns whether all heights were as expected. */
  #measure() {
    let isAsExpected = true;
    for (const [row, { element: each }] of this.shown) {
      const { height } = each.getBoundingClientRect();
      isAsExpected &&= Math.abs(height - row.height) < 0.1;
      Object.assign(row, { height, layout: this.layout });
    }
    return isAsExpected;
  }

  #scrolled() {
    const { rows, tops, scroller } = this;
    const top = scroller.scrollTop;
    if (Math.abs(top - this.scrollTop) < 1) return; // not by the user
    let index = this.#indexAt(top);
    while (rows[index]?.gap) index += 1;
    const isAtEnd = top >= tops[rows.length] - scroller.clientHeight - NEAR_END_PX;
    this.show(isAtEnd ? null : { row: rows[index] ?? null, top: (tops[index] ?? top) - top });
  }

  /** @param {number} height */
  #reportGaps(height) {
    const top = this.scrollTop;
    const last = this.#indexAt(top + height + GAP_DISTANCE_PX);
    for (let index = this.#indexAt(top - GAP_DISTANCE_PX); index <= last; index += 1) {
      const isFromAbove = this.position !== null && this.tops[index] > top + 1 && this.rows[index - 1]?.offset > 0;
      if (this.rows[index]?.gap) this.rendering.gapVisible(this.rows[index], isFromAbove);
    }
  }
}

const GROUP_MS = 5 * 60_000;
const ERASE_MS = 10 * 60_000;

const NAMED_MAX = 6;

/** For rows that were not measured. */
const LINE_PX = 22;
const HEAD_PX = 14;
const CHARACTER_PX = 7.5;

/** What is above a row. */
const DAY = 1;
const HEAD = 2;
const NEW = 4;

const { WAITING, SENT, UNCONFIRMED, UNKNOWN } = LineState;

/** @type {Record<string, string>} */
const LINE_STATES = {
  [WAITING]: "Waiting",
  [SENT]: "Sending",
  [UNCONFIRMED]: "The server has not confirmed this yet.",
  [UNKNOWN]: "It is unknown whether this was sent.",
};

export class LogView {
  /** @param {HTMLElement} scroller @param {Session} session @param {LogHandlers} handlers */
  constructor(scroller, session, handlers) {
    this.session = session;
    this.handlers = handlers;
    /** @type {AnyConversation | null} */
    this.conversation = null;
    this.showsPresence = true;
    /** @type {WeakMap<Line, Row>} */
    this.lineRows = new WeakMap();
    /** @type {WeakMap<AnyConversation, ListPosition>} */
    this.positions = new WeakMap();
    this.wantedOffset = 0;
    this.list = new VirtualList(scroller, {
      rows: () => this.#rows(),
      appearance: (row, previous) => this.#appearance(row, previous),
      build: (row, appearance) => this.#build(row, appearance),
      estimate: ({ text, nick }, width) => {
        const lines = Math.ceil((text.length + 1) / Math.max(10, (width - 90) / CHARACTER_PX));
        return lines * LINE_PX + (nick ? HEAD_PX : 0);
      },
      gapVisible: (row, isFromAbove) => !row.gap?.problem && this.#load(row, isFromAbove),
      rendered: handlers.moved,
    });
  }

  get isAtEnd() {
    return this.list.position === null;
  }

  /** @param {AnyConversation | null} conversation */
  show(conversation) {
    if (this.conversation) this.positions.set(this.conversation, this.list.position);
    this.conversation = conversation;
    this.wantedOffset = 0;
    this.list.show((conversation && this.positions.get(conversation)) ?? null);
  }

  /** @param {AnyConversation} conversation */
  changed(conversation) {
    if (conversation !== this.conversation) return;
    if (conversation.log.byOffset.has(this.wantedOffset)) this.scrollTo(this.wantedOffset);
    else this.list.changed();
  }

  renew() {
    this.list.renew();
  }

  toEnd() {
    this.list.show(null);
  }

  /** Scrolls to a message, and loads it if needed. @param {number} offset */
  scrollTo(offset) {
    const { conversation } = this;
    if (!conversation || conversation.isPrivate) return;
    const row = conversation.log.byOffset.get(offset);
    const gap = conversation.log.gapAround(offset);
    this.wantedOffset = 0;
    if (row) this.list.showRow(row)?.classList.add("found");
    else if (gap && this.session.load(conversation, gap, { around: offset })) this.wantedOffset = offset;
  }

  /** @param {Row} row @param {boolean} isForward */
  #load(row, isForward) {
    const { conversation } = this;
    const isAsked = conversation && !conversation.isPrivate && this.session.load(conversation, row, { isForward });
    if (isAsked) this.list.changed();
  }

  #rows() {
    if (!this.conversation) return [];
    const { key, log } = this.conversation;
    const rows = log.rows.filter((row) => this.showsPresence || row.kind !== "presence");
    return rows.concat(this.session.pending.of(key).map((line) => this.#lineRow(line)));
  }

  /** @param {Line} line */
  #lineRow(line) {
    const { nick } = this.session;
    const known = this.lineRows.get(line);
    if (known?.nick === nick && known.line?.state === line.state) return known;
    const { time, text } = line;
    const row = newRow("line", { time, text, nick, own: true, line: { ...line } });
    this.lineRows.set(line, row);
    return row;
  }

  /** @param {Row} row @param {Row | undefined} previous */
  #appearance(row, previous) {
    if (!hasTime(row)) return 0;
    const isSameDay = previous && hasTime(previous) && dayOf(previous.time) === dayOf(row.time);
    const above = (isSameDay ? 0 : DAY) | (row === this.conversation?.firstUnread ? NEW : 0);
    const isGroup = previous && isSpoken(previous) && previous.nick === row.nick;
    return above || !isGroup || row.time - previous.time > GROUP_MS ? above | HEAD : 0;
  }

  // The elements of rows

  /** @param {Row} row @param {number} appearance */
  #build(row, appearance) {
    const built = element("div", { class: `row ${row.kind}` });
    if (appearance & DAY) built.append(element("div", { class: "day" }, dayName(row.time)));
    if (appearance & NEW) built.append(element("div", { class: "new" }, "New"));
    built.append(this.#content(row, (appearance & HEAD) > 0));
    return built;
  }

  /** @param {Row} row @param {boolean} isHead */
  #content(row, isHead) {
    const { kind, nick, text, entries, gap } = row;
    if (gap) return this.#gap(row, gap);
    if (kind === "start") return element("div", { class: "aside" }, "The log begins here.");
    if (kind === "presence") return message(row, presenceText(entries ?? []));
    if (kind === "topic" && text) return message(row, nickElement(nick), " set the topic: ", textElement(text));
    if (kind === "topic") return message(row, nickElement(nick), " removed the topic.");
    if (kind === "notice" || kind === "info") return message(row, textElement(text));
    return this.#said(row, isHead);
  }

  /** @param {Row} row @param {boolean} isHead */
  #said(row, isHead) {
    const { kind, nick, text, own, line } = row;
    const mention = own || this.conversation?.isPrivate ? null : this.session.mention;
    const erased = () => element("span", { class: "erased" }, "This message was erased.");
    const shownText = text ? textElement(text, mention) : erased();
    const isAction = kind === "action" || line?.action === true;
    const hidden = element("span", { class: "hidden" }, isHead ? ": " : `${nick}: `);
    const by = isHead ? element("div", { class: "by" }, nickElement(nick), hidden) : hidden;
    const inThirdPerson = () => element("span", { class: "third-person" }, nickElement(nick), " ", shownText);
    const shown = message(row, ...(isAction ? [inThirdPerson()] : [by, shownText]));
    shown.classList.toggle("head", isHead || isAction);
    shown.classList.toggle("mention", mention?.test(text) === true);
    if (line) {
      shown.classList.add(line.state);
      shown.lastElementChild?.append(this.#lineState(line));
    } else if (own && Date.now() - row.time < ERASE_MS && this.conversation?.log.isErasable(row)) {
      shown.append(button(() => this.handlers.erase(row), { class: "small" }, "Erase"));
    }
    return shown;
  }

  /** @param {Line} line */
  #lineState(line) {
    const { state, reason, wasSent } = line;
    const note = element("div", { class: "line-state" }, LINE_STATES[state] ?? `Not sent. ${reason}`);
    const mayArrive = state === SENT || state === UNCONFIRMED || (state === WAITING && wasSent);
    if (mayArrive) return note;
    const edit = button(() => this.handlers.edit(line), { class: "small" }, "Edit");
    const dismiss = () => this.session.dismiss(line.id);
    note.append(" ", edit, " ", button(dismiss, { class: "small" }, state === WAITING ? "Cancel" : "Dismiss"));
    return note;
  }

  /** @param {Row} row @param {Gap} gap */
  #gap(row, { isLoading, problem }) {
    const shown = element("div", { class: "aside" }, isLoading ? "Loading older messages…" : problem);
    if (!isLoading) shown.append(button(() => this.#load(row, false), { class: "small" }, "Load older messages"));
    return shown;
  }
}

/** @param {Row} row */
const hasTime = ({ kind }) => kind !== "gap" && kind !== "start";

/** @param {Row} row */
const isSpoken = ({ kind, line }) => kind === "said" || (kind === "line" && !line?.action);

/** @param {Row} row @param {...(Node | string)} children */
function message({ time }, ...children) {
  const attributes = { class: "time", datetime: new Date(time).toISOString(), title: calendar.format(time) };
  const body = element("div", { class: "body" }, ...children);
  return element("div", { class: "message" }, element("time", attributes, clock.format(time)), body);
}

/** Returns who joined and who left, such as `anna and ben joined; chen left`. @param {Entry[]} entries */
export function presenceText(entries) {
  const [{ kind: only, nick: who, text: reason }] = entries;
  if (entries.length === 1 && only === "left") return `${who} ${reason || "left"}`;
  /** @type {Map<string, string>} the first and the last thing that each member did */
  const changes = new Map();
  const renames = [];
  for (const { kind, nick, text } of entries) {
    const first = changes.get(nick)?.split(" ")[0];
    if (kind !== "renamed") {
      changes.set(nick, `${first || kind} ${kind}`);
      continue;
    }
    renames.push(`${nick} is now ${text}`);
    changes.set(text, changes.get(nick) ?? "");
    changes.delete(nick);
  }
  const verbs = {
    "joined joined": "joined",
    "left joined": "left and came back",
    "left left": "left",
    "joined left": "joined and left",
  };
  const clauses = Object.entries(verbs).map(([change, verb]) => {
    const nicks = [...changes.keys()].filter((nick) => changes.get(nick) === change);
    return nicks.length > 0 ? `${listed(nicks)} ${verb}` : "";
  });
  return [...clauses, ...renames].filter(Boolean).join("; ");
}

/** @param {string[]} nicks */
function listed(nicks) {
  const rest = nicks.length - NAMED_MAX + 1;
  const shown = rest > 1 ? [...nicks.slice(0, -rest), `${rest} more`] : nicks;
  return shown.join(", ").replace(/, ([^,]*)$/, " and $1");
}
