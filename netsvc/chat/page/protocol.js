/** The events and requests of the chat as JSON text. Functions here are pure. */

export const SUBPROTOCOL = "chat.v1.netsvc";

/** Bytes of UTF-8. */
export const TEXT_MAX = 1023;
export const NAME_MAX = 24;

export const ROOMS_MAX = 64;
export const HISTORY_MAX = 100;

export class ProtocolError extends Error {}

/** @param {(value: any) => boolean} isValid @param {unknown} [fallback] @returns {Field} */
function field(isValid, fallback) {
  return (value, name) => {
    if (value === undefined && fallback !== undefined) return fallback;
    if (!isValid(value)) throw new ProtocolError(`${name} is missing or has a wrong type`);
    return value;
  };
}

/** @param {Record<string, Field>} fields @returns {Field} */
function list(fields) {
  return (value = [], name) => {
    if (!Array.isArray(value)) throw new ProtocolError(`${name} is not a list`);
    return value.map((item) => record(item, fields, name));
  };
}

/** @param {any} value @param {Record<string, Field>} fields @param {string} name @returns {any} */
function record(value, fields, name) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new ProtocolError(`${name} is not an object`);
  }
  const read = Object.entries(fields).map(([member, check]) => {
    return [member, check(Object.hasOwn(value, member) ? value[member] : undefined, `${name}.${member}`)];
  });
  return Object.fromEntries(read);
}

const isText = (/** @type {any} */ value) => typeof value === "string";
const isName = (/** @type {any} */ value) => isText(value) && value !== "";
const isCount = (/** @type {any} */ value) => Number.isSafeInteger(value) && value >= 0;
const isNames = (/** @type {any} */ value) => Array.isArray(value) && value.every(isName);
const isOneOf = (/** @type {string[]} */ ...words) => (/** @type {any} */ value) => words.includes(value);

const name = field(isName);
const text = field(isText, "");
const id = text;
const count = field(isCount, 0);
const names = field(isNames, []);
const flag = field((value) => typeof value === "boolean", false);
const offset = field((value) => isCount(value) && value > 0);

const ENTRY = { offset, time: count, kind: name, nick: text, text };

/** @type {Record<string, Record<string, Field>>} */
const EVENTS = {
  welcome: { nick: name },
  session: { token: name },
  nick: { nick: name },
  room: { room: name, epoch: name, offset: count, count, members: names },
  left: { room: name },
  resumed: { room: name, verdict: field(isOneOf("recovered", "lost", "unknown")), lost: count },
  entry: { room: name, ...ENTRY, own: flag, id },
  entries: { room: name, review: field(isOneOf("replay", "history", "search")), entries: list(ENTRY) },
  whisper: { sender: name, recipient: name, text, id },
  refused: { cause: text, text, id },
  "not-confirmed": { id },
  confirmed: { id },
  topic: { room: name, text, nick: text, time: count },
  away: { text },
  "recipient-away": { nick: name, text },
  members: { room: name, count, nicks: names },
  rooms: { count, rooms: list({ room: name, members: count }) },
  replaced: {},
  notice: { text },
  pong: {},
};

/**
 * Returns the event that a frame contains, with defaults for missing members; null if its type is unknown, because a
 * later version of the server may send it.
 *
 * @param {unknown} frame
 * @returns {ChatEvent | null}
 * @throws {ProtocolError}
 */
export function decodeEvent(frame) {
  if (typeof frame !== "string") throw new ProtocolError("the frame is not text");
  let value;
  try {
    value = JSON.parse(frame);
  } catch {
    throw new ProtocolError("the frame is not JSON");
  }
  const { type } = record(value, { type: name }, "event");
  return Object.hasOwn(EVENTS, type) ? { type, ...record(value, EVENTS[type], type) } : null;
}

/**
 * Omits false members and empty IDs. Half of a surrogate pair becomes U+FFFD: the server would not read the message.
 *
 * @param {ChatRequest} request
 */
export function encodeRequest(request) {
  return JSON.stringify(request, (member, value) => {
    if (value === false || (member === "id" && value === "")) return undefined;
    return isText(value) ? value.replace(/\p{Surrogate}/gu, "\ufffd") : value;
  });
}

const encoder = new TextEncoder();

/** @param {string} line */
export function byteLength(line) {
  return encoder.encode(line).length;
}

/** Returns the name as the server writes it. @param {string} typed */
export function roomName(typed) {
  return `#${typed.replace(/^#/, "").toLowerCase()}`;
}

/** @param {string} text @param {string} name stays as it is at the beginning */
export function asSentence(text, name = "") {
  const isName = name !== "" && text.startsWith(name);
  const sentence = isName ? text : text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
}

/** Returns why a text cannot be a nick, as far as the page knows. @param {string} nick */
export function nickProblem(nick) {
  if (nick === "") return "Type a nick.";
  if (/\s/u.test(nick)) return "A nick has no spaces.";
  return byteLength(nick) > NAME_MAX ? `A nick has at most ${NAME_MAX} bytes.` : "";
}
