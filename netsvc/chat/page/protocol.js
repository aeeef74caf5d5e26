/**
 * The events and requests of the chat as JSON text. Functions here are pure: no socket, no document.
 *
 * @typedef {{offset: number, time: number, kind: string, nick: string, text: string}} Entry  `time` in ms since 1970
 * @typedef {"recovered" | "lost" | "unknown"} Verdict
 * @typedef {"replay" | "history" | "search"} Review
 *
 * @typedef {{type: "welcome", nick: string}} Welcome
 * @typedef {{type: "session", token: string}} SessionBegun
 * @typedef {{type: "nick", nick: string}} NickSet
 * @typedef {{type: "room", room: string, epoch: string, offset: number, count: number, members: string[]}} RoomEntered
 * @typedef {{type: "left", room: string}} RoomLeft
 * @typedef {{type: "resumed", room: string, verdict: Verdict, lost: number}} Resumed
 * @typedef {Entry & {type: "entry", room: string, own: boolean, id: string}} RoomEntry
 * @typedef {{type: "entries", room: string, review: Review, entries: Entry[]}} Entries
 * @typedef {{type: "whisper", sender: string, recipient: string, text: string, id: string}} Whisper
 * @typedef {{type: "refused", cause: string, text: string, id: string}} Refused
 * @typedef {{type: "not-confirmed", id: string}} NotConfirmed
 * @typedef {{type: "confirmed", id: string}} Confirmed
 * @typedef {{type: "topic", room: string, text: string, nick: string, time: number}} TopicShown
 * @typedef {{type: "away", text: string}} AwaySet
 * @typedef {{type: "recipient-away", nick: string, text: string}} RecipientAway
 * @typedef {{type: "members", room: string, count: number, nicks: string[]}} MemberList
 * @typedef {{room: string, members: number}} ListedRoom
 * @typedef {{type: "rooms", count: number, rooms: ListedRoom[]}} RoomList
 * @typedef {{type: "replaced"}} Replaced
 * @typedef {{type: "notice", text: string}} Notice
 * @typedef {{type: "pong"}} Pong
 * @typedef {Welcome | SessionBegun | NickSet | RoomEntered | RoomLeft | Resumed | RoomEntry | Entries | Whisper
 *   | Refused | NotConfirmed | Confirmed | TopicShown | AwaySet | RecipientAway | MemberList | RoomList | Replaced
 *   | Notice | Pong} ChatEvent
 * @typedef {{type: string, [member: string]: unknown}} Request
 */

/** The WebSocket subprotocol: the version of this protocol. */
export const SUBPROTOCOL = "chat.v1.netsvc";

/** Bytes of UTF-8 of the longest message, and of the longest nick or room name. */
export const TEXT_MAX = 1023;
export const NAME_MAX = 24;

/** Rooms that a session can have when it resumes. */
export const ROOMS_MAX = 64;

/** Old entries in one answer. */
export const HISTORY_MAX = 100;

/** What was received is not an event of the protocol. */
export class ProtocolError extends Error {}

/**
 * Reads one member of an event: checks the value and returns it, or the default if it is missing.
 * @typedef {(value: unknown, name: string) => unknown} Field
 */

/**
 * @param {(value: any) => boolean} isValid
 * @param {unknown} [fallback] for a missing member; without one, the member is required
 * @returns {Field}
 */
function field(isValid, fallback) {
  return (value, name) => {
    if (value === undefined && fallback !== undefined) return fallback;
    if (!isValid(value)) throw new ProtocolError(`${name} is missing or has a wrong type`);
    return value;
  };
}

/** @param {Record<string, Field>} fields @returns {Field} */
function list(fields) {
  return (value, name) => {
    if (value === undefined) return [];
    if (!Array.isArray(value)) throw new ProtocolError(`${name} is not a list`);
    return value.map((item) => record(item, fields, name));
  };
}

/** @param {unknown} value @param {Record<string, Field>} fields @param {string} name @returns {any} */
function record(value, fields, name) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new ProtocolError(`${name} is not an object`);
  }
  const given = /** @type {Record<string, unknown>} */ (value);
  /** @type {Record<string, unknown>} */
  const read = {};
  for (const [member, check] of Object.entries(fields)) {
    read[member] = check(Object.hasOwn(given, member) ? given[member] : undefined, `${name}.${member}`);
  }
  return read;
}

const isText = (/** @type {any} */ value) => typeof value === "string";
const isName = (/** @type {any} */ value) => typeof value === "string" && value !== "";
const isCount = (/** @type {any} */ value) => Number.isSafeInteger(value) && value >= 0;
const isNames = (/** @type {any} */ value) => Array.isArray(value) && value.every(isName);
const isOneOf = (/** @type {string[]} */ ...words) => (/** @type {any} */ value) => words.includes(value);

const name = field(isName);
const text = field(isText, "");
const id = field(isText, "");
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
 * Returns the event that a frame contains, with the defaults of missing members. Members that this version does not
 * know are dropped. An event of an unknown type is null: a later version of the server may send it.
 *
 * @param {unknown} frame the data of a WebSocket message
 * @returns {ChatEvent | null}
 * @throws {ProtocolError} if the frame is not an event
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
  if (!Object.hasOwn(EVENTS, type)) return null;
  return { type, ...record(value, EVENTS[type], type) };
}

/**
 * Returns the JSON text of a request. Members that are undefined, false, or an empty ID are omitted.
 *
 * @param {Request} request
 * @returns {string}
 */
export function encodeRequest(request) {
  return JSON.stringify(request, (member, value) =>
    value === false || (member === "id" && value === "") ? undefined : value,
  );
}

const encoder = new TextEncoder();

/** @param {string} line @returns {number} its length in bytes of UTF-8 */
export function byteLength(line) {
  return encoder.encode(line).length;
}

/**
 * Returns the form of a room's name that the server uses, as far as the page can know it.
 *
 * @param {string} typed with or without `#`
 */
export function roomName(typed) {
  return `#${typed.replace(/^#/, "").toLowerCase()}`;
}

/** @param {string} text of the server, which begins with a small letter @returns {string} */
export function asSentence(text) {
  const sentence = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
}
