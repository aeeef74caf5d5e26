/** What the text before the cursor can be completed to. Functions here are pure. */

import { COMMANDS } from "./commands.js";

/**
 * @typedef {object} Option
 * @property {string} label
 * @property {string} detail
 * @property {string} insert replaces the text from `start` to the cursor
 *
 * @typedef {object} Completion
 * @property {number} start
 * @property {Option[]} options
 *
 * @typedef {object} Names what there is to complete to, the most likely first
 * @property {string[]} nicks
 * @property {string[]} rooms
 */

const OPTIONS_MAX = 14;

/**
 * Returns the completions of the text before the cursor; null if there are none.
 *
 * @param {string} before
 * @param {Names} names
 * @param {boolean} isAsked whether the user asks for it. Otherwise a word is completed only after `/`, `@` or `#`.
 * @returns {Completion | null}
 */
export function complete(before, { nicks, rooms }, isAsked) {
  const command = /^\/([a-z]*)$/iu.exec(before);
  if (command) return completion(0, commandOptions(command[1]));
  const argument = /^\/([a-z]+)\s+(\S*)$/iu.exec(before);
  const kind = argument && COMMANDS.find(({ name }) => name === argument[1].toLowerCase())?.argument;
  if (argument && kind) {
    const start = before.length - argument[2].length;
    return completion(start, nameOptions(kind === "nick" ? nicks : rooms, argument[2], " "));
  }
  const [, sign, typed] = /** @type {RegExpExecArray} */ (/([@#]?)([^\s@#]*)$/u.exec(before));
  const start = before.length - sign.length - typed.length;
  if (start > 0 && !/\s/u.test(before[start - 1])) return null;
  if (sign === "#") return completion(start, nameOptions(rooms, `#${typed}`, " "));
  if (sign === "@" || (isAsked && typed)) return completion(start, nameOptions(nicks, typed, start === 0 ? ": " : " "));
  return null;
}

/** @param {number} start @param {Option[]} options @returns {Completion | null} */
function completion(start, options) {
  return options.length > 0 ? { start, options: options.slice(0, OPTIONS_MAX) } : null;
}

/** @param {string} typed @returns {Option[]} */
function commandOptions(typed) {
  return COMMANDS.filter(({ name }) => name.startsWith(typed.toLowerCase())).map(({ name, usage, help }) => ({
    label: `/${name} ${usage}`.trimEnd(),
    detail: help,
    insert: usage ? `/${name} ` : `/${name}`,
  }));
}

/** @param {string[]} names @param {string} typed @param {string} after @returns {Option[]} */
function nameOptions(names, typed, after) {
  const wanted = typed.toLowerCase();
  const isFound = (/** @type {string} */ name) => {
    const key = name.toLowerCase();
    return key.startsWith(wanted) || key.startsWith(`#${wanted}`);
  };
  return names.filter(isFound).map((name) => ({ label: name, detail: "", insert: name + after }));
}
