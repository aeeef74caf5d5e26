/** The commands that are typed. Functions here are pure. */

/**
 * @typedef {object} CommandHelp
 * @property {string} name
 * @property {string} usage its arguments
 * @property {string} help
 * @property {"nick" | "room" | ""} argument what the first argument is, for completion
 */

/** @type {CommandHelp[]} */
export const COMMANDS = [
  { name: "nick", usage: "NAME", help: "Change your nick", argument: "" },
  { name: "join", usage: "ROOM", help: "Join a room", argument: "room" },
  { name: "leave", usage: "[ROOM]", help: "Leave this room, or another one", argument: "room" },
  { name: "rooms", usage: "", help: "List the rooms", argument: "" },
  { name: "who", usage: "", help: "List the members of this room", argument: "" },
  { name: "msg", usage: "NICK [TEXT]", help: "Write to one member", argument: "nick" },
  { name: "me", usage: "TEXT", help: "Say something in the third person", argument: "" },
  { name: "topic", usage: "[TEXT]", help: "Show or set the topic; - removes it", argument: "" },
  { name: "history", usage: "[N]", help: "Load N older messages", argument: "" },
  { name: "search", usage: "[WORDS]", help: "Search this room", argument: "" },
  { name: "erase", usage: "", help: "Erase your last message", argument: "" },
  { name: "away", usage: "[TEXT]", help: "Say that you are away; without a text, that you are back", argument: "" },
  { name: "help", usage: "", help: "Show the commands and keys", argument: "" },
  { name: "quit", usage: "", help: "Leave the chat", argument: "" },
];

/** @type {Record<string, string>} other names of commands */
const ALIASES = { part: "leave", whisper: "msg", query: "msg", names: "who", list: "rooms" };

/** A typed command cannot be carried out as it is. The message says why. */
export class CommandError extends Error {}

/**
 * @typedef {object} Command
 * @property {string} name "say" for a message
 * @property {string} first the first argument, if the command has one
 * @property {string} rest the text after the command and its first argument
 */

/**
 * Parses one line. A line that does not begin with `/` is a message, and so is one that begins with `//`.
 *
 * @param {string} line
 * @returns {Command}
 * @throws {CommandError}
 */
export function parseCommand(line) {
  if (!line.startsWith("/")) return { name: "say", first: "", rest: line };
  if (line.startsWith("//")) return { name: "say", first: "", rest: line.slice(1) };
  const [, typed, rest] = /** @type {RegExpMatchArray} */ (line.match(/^\/(\S*)\s*(.*)$/su));
  const verb = typed.toLowerCase();
  const name = Object.hasOwn(ALIASES, verb) ? ALIASES[verb] : verb;
  const command = COMMANDS.find((each) => each.name === name);
  if (command === undefined) {
    throw new CommandError(`There is no command /${typed.slice(0, 32)}. To send this as text, begin it with //.`);
  }
  const hasName = command.argument !== "" || name === "nick" || name === "history";
  const [, first, after] = hasName
    ? /** @type {RegExpMatchArray} */ (rest.match(/^(\S*)\s*(.*)$/su))
    : ["", "", rest.trim()];
  const isMissing = /^[A-Z]/.test(command.usage) && (hasName ? first : after) === "";
  if (isMissing) throw new CommandError(`Usage: /${name} ${command.usage}`);
  if (name === "history" && first !== "" && !/^[1-9]\d{0,3}$/.test(first)) {
    throw new CommandError("Usage: /history [N]");
  }
  return { name, first, rest: after };
}
