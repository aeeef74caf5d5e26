/** The elements of the rows of a log. */

import { element } from "./dom.js";
import { textParts } from "./message_text.js";
import { LineState } from "./pending_lines.js";
import { clockTime, dayName, dayOf, fullTime } from "./times.js";

/**
 * @typedef {import("./message_log.js").Row} Row
 *
 * @typedef {object} RowActions what the buttons in a row do
 * @property {(row: Row) => boolean} mayErase
 * @property {(row: Row) => void} erase
 * @property {(line: import("./pending_lines.js").Line) => void} edit
 * @property {(line: import("./pending_lines.js").Line) => void} dismiss
 * @property {(row: Row) => void} load
 */

/** Milliseconds in which messages of one member are grouped, and in which one may be erased. */
const GROUP_TIME = 5 * 60_000;
const ERASE_TIME = 10 * 60_000;

/** Nicks that a row of joins and leaves names of each kind. */
const NAMED_MAX = 6;

const DAY = 1;
const HEAD = 2;
const NEW = 4;

/**
 * Returns how a row is shown, as a number: whether the day, the nick, or a mark is above it.
 *
 * @param {Row} row
 * @param {Row | undefined} previous
 * @param {Row | null} firstUnread
 */
export function appearanceOf(row, previous, firstUnread) {
  if (row.kind === "gap" || row.kind === "start") return 0;
  const hasTimeAbove = previous !== undefined && previous.kind !== "gap" && previous.kind !== "start";
  let appearance = hasTimeAbove && dayOf(previous.time) === dayOf(row.time) ? 0 : DAY;
  if (row === firstUnread) appearance |= NEW;
  const isSameSpeaker =
    previous !== undefined &&
    isSpoken(previous) &&
    previous.nick === row.nick &&
    Math.abs(row.time - previous.time) < GROUP_TIME;
  if (appearance !== 0 || !isSameSpeaker) appearance |= HEAD;
  return appearance;
}

/** @param {Row} row */
function isSpoken(row) {
  return row.kind === "said" || (row.kind === "line" && !row.line?.action);
}

/** @param {Row} row */
export function isRecent(row) {
  return Date.now() - row.time < ERASE_TIME;
}

/** @param {string} nick @returns {HTMLElement} the nick in its colour */
export function nickElement(nick) {
  const shown = element("bdi", { class: "nick" }, nick);
  shown.style.setProperty("--hue", String(hue(nick)));
  return shown;
}

/** @param {string} nick @returns {number} degrees */
function hue(nick) {
  let hash = 0x811c9dc5;
  for (const character of nick.toLowerCase()) {
    hash = Math.imul(hash ^ /** @type {number} */ (character.codePointAt(0)), 0x01000193);
  }
  return ((hash ^ (hash >>> 15)) >>> 0) % 360;
}

/**
 * Returns the text of a message, with links.
 *
 * @param {string} text
 * @param {RegExp | null} mention
 * @returns {HTMLElement}
 */
export function textElement(text, mention) {
  const shown = element("span", { class: "text", dir: "auto" });
  for (const part of textParts(text, mention)) {
    if (part.kind === "link") {
      const rel = "noopener noreferrer nofollow";
      shown.append(element("a", { href: part.text, target: "_blank", rel }, part.text));
    } else if (part.kind === "text") {
      shown.append(part.text);
    } else {
      shown.append(element(part.kind === "code" ? "code" : "mark", {}, part.text));
    }
  }
  return shown;
}

/**
 * @param {Row} row
 * @param {number} appearance
 * @param {RegExp | null} mention
 * @param {RowActions} actions
 * @returns {HTMLElement}
 */
export function buildRow(row, appearance, mention, actions) {
  const built = element("div", { class: `row ${row.kind}` });
  if (appearance & DAY) built.append(element("div", { class: "day" }, element("span", {}, dayName(row.time))));
  if (appearance & NEW) built.append(element("div", { class: "new" }, element("span", {}, "New")));
  built.append(content(row, (appearance & HEAD) !== 0, mention, actions));
  return built;
}

/** @param {Row} row @param {boolean} isHead @param {RegExp | null} mention @param {RowActions} actions */
function content(row, isHead, mention, actions) {
  switch (row.kind) {
    case "gap":
      return gapElement(row, actions);
    case "start":
      return element("div", { class: "aside" }, "The log begins here.");
    case "said":
    case "action":
    case "line":
      return messageElement(row, isHead, mention, actions);
    case "presence":
      return sentence(row, presenceText(row));
    case "topic":
      return row.text
        ? sentence(row, nickElement(row.nick), " set the topic: ", textElement(row.text, null))
        : sentence(row, nickElement(row.nick), " removed the topic.");
    default:
      return sentence(row, textElement(row.text, null));
  }
}

/** @param {Row} row @param {...(Node | string)} children */
function sentence(row, ...children) {
  return element("div", { class: "message" }, timeElement(row), element("div", { class: "body" }, ...children));
}

/** @param {Row} row */
function timeElement({ time }) {
  const datetime = new Date(time).toISOString();
  return element("time", { class: "time", datetime, title: fullTime(time) }, clockTime(time));
}

/** @param {Row} row @param {boolean} isHead @param {RegExp | null} mention @param {RowActions} actions */
function messageElement(row, isHead, mention, actions) {
  const isAction = row.kind === "action" || row.line?.action;
  const body = element("div", { class: "body" });
  const text = row.text
    ? textElement(row.text, row.own ? null : mention)
    : element("span", { class: "erased" }, "This message was erased.");
  if (isAction) {
    body.append(element("span", { class: "in-third-person" }, nickElement(row.nick), " ", text));
  } else if (isHead) {
    body.append(element("div", { class: "by" }, nickElement(row.nick), element("span", { class: "hidden" }, ": ")), text);
  } else {
    body.append(element("span", { class: "hidden" }, `${row.nick}: `), text);
  }
  const message = element("div", { class: "message" }, timeElement(row), body);
  message.classList.toggle("head", isHead || isAction === true);
  message.classList.toggle("mention", !row.own && mention !== null && mention.test(row.text));
  if (row.line !== undefined) addLineState(message, body, row.line, actions);
  else if (actions.mayErase(row)) {
    message.append(element("button", { class: "small", type: "button", onclick: () => actions.erase(row) }, "Erase"));
  }
  return message;
}

/** @type {Partial<Record<LineState, string>>} */
const LINE_STATES = {
  [LineState.WAITING]: "Waiting",
  [LineState.SENT]: "Sending",
  [LineState.UNCONFIRMED]: "The server has not confirmed this yet.",
  [LineState.UNKNOWN]: "It is unknown whether this was sent.",
};

/**
 * @param {HTMLElement} message
 * @param {HTMLElement} body
 * @param {import("./pending_lines.js").Line} line
 * @param {RowActions} actions
 */
function addLineState(message, body, line, actions) {
  message.classList.add(line.state);
  const note = element("div", { class: "line-state" }, LINE_STATES[line.state] ?? `Not sent. ${line.reason}`);
  body.append(note);
  if (line.state === LineState.SENT || line.state === LineState.UNCONFIRMED) return;
  const isWaiting = line.state === LineState.WAITING;
  if (isWaiting && line.wasSent) return; // it may have arrived
  note.append(
    " ",
    element("button", { class: "small", type: "button", onclick: () => actions.edit(line) }, "Edit"),
    " ",
    element("button", { class: "small", type: "button", onclick: () => actions.dismiss(line) }, isWaiting ? "Cancel" : "Dismiss"),
  );
}

/** @param {Row} row @param {RowActions} actions */
function gapElement(row, actions) {
  const gap = row.gap;
  const shown = element("div", { class: "aside" });
  if (gap?.isLoading) {
    shown.append("Loading older messages…");
    return shown;
  }
  if (gap?.problem) shown.append(`${gap.problem} `);
  shown.append(element("button", { class: "small", type: "button", onclick: () => actions.load(row) }, "Load older messages"));
  return shown;
}

/** @param {Row} row @returns {string} who joined and who left, such as `anna and ben joined; chen left` */
export function presenceText({ entries = [] }) {
  if (entries.length === 1 && entries[0].kind === "left") return `${entries[0].nick} ${entries[0].text || "left"}`;
  /** @type {Map<string, [string, string]>} the first and the last thing that a member did */
  const members = new Map();
  const renames = [];
  for (const { kind, nick, text } of entries) {
    const known = members.get(nick);
    if (kind === "renamed") {
      renames.push(`${nick} is now ${text}`);
      members.delete(nick);
      if (known) members.set(text, known);
    } else {
      members.set(nick, [known?.[0] ?? kind, kind]);
    }
  }
  /** @param {string} first @param {string} last @param {string} verb */
  const clause = (first, last, verb) => {
    const nicks = [...members].filter(([, [a, b]]) => a === first && b === last).map(([nick]) => nick);
    return nicks.length > 0 ? [`${listed(nicks)} ${verb}`] : [];
  };
  return [
    ...clause("joined", "joined", "joined"),
    ...clause("left", "joined", "left and came back"),
    ...clause("left", "left", "left"),
    ...clause("joined", "left", "joined and left"),
    ...renames,
  ].join("; ");
}

/** @param {string[]} nicks */
function listed(nicks) {
  const shown = nicks.length > NAMED_MAX ? [...nicks.slice(0, NAMED_MAX - 1), `${nicks.length - NAMED_MAX + 1} more`] : nicks;
  return shown.length === 1 ? shown[0] : `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}`;
}
