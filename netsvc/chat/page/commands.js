/** The commands that are typed: completing, parsing and doing them. */

import { Membership, PENDING_MAX, Room } from "./conversation.js";
import { grouped } from "./elements.js";
import { TEXT_MAX, byteLength, nickProblem, roomName } from "./protocol.js";
import { Phase } from "./session.js";

/** @type {CommandHelp[]} */
export const COMMANDS = [
  { name: "nick", usage: "NAME", help: "Change your nick" },
  { name: "join", usage: "ROOM", help: "Join a room", argument: "rooms" },
  { name: "leave", usage: "[ROOM]", help: "Leave this room, or another one", argument: "rooms" },
  { name: "rooms", usage: "", help: "List the rooms" },
  { name: "who", usage: "", help: "List the members of this room" },
  { name: "msg", usage: "NICK [TEXT]", help: "Write to one member", argument: "nicks" },
  { name: "me", usage: "TEXT", help: "Say something in the third person" },
  { name: "topic", usage: "[TEXT]", help: "Show or set the topic; - removes it" },
  { name: "history", usage: "[N]", help: "Load N older messages" },
  { name: "search", usage: "[WORDS]", help: "Search this room" },
  { name: "erase", usage: "", help: "Erase your last message" },
  { name: "away", usage: "[TEXT]", help: "Say that you are away; without a text, that you are back" },
  { name: "help", usage: "", help: "Show the commands and keys" },
  { name: "quit", usage: "", help: "Leave the chat" },
];

export class CommandError extends Error {}

/** @param {string} line @throws {CommandError} */
export function parseCommand(line) {
  if (!line.startsWith("/")) return { name: "say", rest: line };
  if (line.startsWith("//")) return { name: "say", rest: line.slice(1) };
  const typed = line.slice(1).split(/\s/u, 1)[0];
  const rest = line.slice(typed.length + 1).trim();
  const name = typed.toLowerCase().replace(/^part$/u, "leave");
  const command = COMMANDS.find((each) => each.name === name);
  if (!command) {
    throw new CommandError(`There is no command /${typed.slice(0, 32)}. To send this as text, begin it with //.`);
  }
  const isOptional = command.usage === "" || command.usage.startsWith("[");
  if (rest === "" && !isOptional) throw new CommandError(`Usage: /${name} ${command.usage}`);
  return { name, rest };
}

/**
 * Returns the completions of the text before the cursor; null if there are none. Unless the user asks for them, a word
 * is completed only after `/`, `@` or `#`.
 *
 * @param {string} before
 * @param {KnownNames} names
 * @param {boolean} isAsked
 * @returns {Completion | null}
 */
export function complete(before, names, isAsked) {
  const [, verb] = /^\/([a-z]*)$/iu.exec(before) ?? [];
  if (verb !== undefined) return completion(0, commandOptions(verb.toLowerCase()));
  const [, command, argument = ""] = /^\/([a-z]+)\s+(\S*)$/iu.exec(before) ?? [];
  const kind = command && COMMANDS.find(({ name }) => name === command.toLowerCase())?.argument;
  if (kind) return completion(before.length - argument.length, nameOptions(names[kind], argument, " "));
  const [word = ""] = /\S*$/u.exec(before) ?? [];
  const start = before.length - word.length;
  if (word.startsWith("#")) return completion(start, nameOptions(names.rooms, word, " "));
  if (!word.startsWith("@") && (!isAsked || !word)) return null;
  return completion(start, nameOptions(names.nicks, word.replace(/^@/u, ""), start === 0 ? ": " : " "));
}

/** @param {number} start @param {CompletionOption[]} options */
function completion(start, options) {
  return options.length > 0 ? { start, options: options.slice(0, COMMANDS.length) } : null;
}

/** @param {string} typed */
function commandOptions(typed) {
  const commands = COMMANDS.filter(({ name }) => name.startsWith(typed));
  return commands.map(({ name, usage, help }) => {
    return { label: `/${name} ${usage}`, detail: help, insert: usage ? `/${name} ` : `/${name}` };
  });
}

/** @param {string[]} names @param {string} typed @param {string} after */
function nameOptions(names, typed, after) {
  const wanted = typed.toLowerCase();
  const found = names.filter((name) => [wanted, `#${wanted}`].some((start) => name.toLowerCase().startsWith(start)));
  return found.map((name) => ({ label: name, detail: "", insert: name + after }));
}

const UNASKED_LINES_MAX = 5;
const LINES_PER_SECOND = 5;

export class CommandRunner {
  /** @param {Session} session @param {Desk} desk */
  constructor(session, desk) {
    this.session = session;
    this.desk = desk;
    this.commands = this.#commands();
  }

  /** Returns false if the user does not want it after all. @param {string} text @throws {CommandError} */
  async run(text) {
    const lines = splitLines(text);
    if (lines.length > 1) return this.#sayLines(lines);
    const { name, rest } = parseCommand(lines[0]);
    this.commands[name](rest);
    return true;
  }

  /** @returns {Record<string, (rest: string) => void>} */
  #commands() {
    const { session, desk } = this;
    return {
      say: (text) => this.#say(this.#writable(), [text]),
      me: (text) => this.#say(this.#room(), [text], true),
      msg: (rest) => {
        const [nick, text] = splitFirst(rest);
        checkNick(nick);
        const conversation = session.openPrivate(nick);
        if (text) this.#say(conversation, [text]);
      },
      nick: (nick) => {
        checkNick(nick);
        session.rename(nick);
        if (!session.isOnline) desk.informed(`You will be ${nick} when you are connected.`);
      },
      join: (room) => session.join(room),
      leave: (room) => session.leave(room ? this.#joined(room) : this.#writable()),
      rooms: () => desk.openJoin(),
      who: () => {
        const { name, count, others } = this.#room();
        const nicks = [session.nick, ...[...others.values()].sort()];
        const more = count > nicks.length ? ` and ${grouped(count - nicks.length)} more` : "";
        desk.informed(`${grouped(count)} in ${name}: ${nicks.join(", ")}${more}`);
      },
      topic: (text) => {
        const room = this.#room();
        const { topic } = room;
        if (text) session.setTopic(room, text === "-" ? "" : text);
        else desk.informed(topic.text ? `The topic is: ${topic.text}` : "This room has no topic.");
      },
      history: (number) => {
        const room = this.#room();
        const count = number === "" ? 20 : Number(number);
        const gap = room.log.rows.find((row) => row.gap);
        if (!(count > 0)) throw new CommandError("Usage: /history [N]");
        if (!gap) throw new CommandError("There are no older messages.");
        if (session.load(room, gap, { count: Math.floor(count) })) desk.logChanged(room);
      },
      search: (words) => this.#room() && desk.openSearch(words),
      erase: () => {
        const room = this.#room();
        const row = room.log.lastOwn();
        if (!row) throw new CommandError("There is no message of yours to erase.");
        session.erase(room, row);
      },
      away: (text) => session.setAway(text),
      help: () => desk.openHelp(),
      quit: () => session.quit(),
    };
  }

  /** @param {string[]} lines */
  async #sayLines(lines) {
    const conversation = this.#writable();
    const { length } = lines;
    const seconds = Math.ceil(length / LINES_PER_SECOND);
    const time = seconds > 90 ? `${Math.ceil(seconds / 60)} minutes` : `${seconds} seconds`;
    const question = {
      title: `Send ${length} messages?`,
      text: `Each line becomes a message. Sending them takes about ${time}.`,
      action: `Send ${length} messages`,
    };
    if (length > UNASKED_LINES_MAX && !(await this.desk.confirm(question))) return false;
    this.#say(conversation, lines);
    return true;
  }

  /** @param {AnyConversation} conversation @param {string[]} texts */
  #say(conversation, texts, action = false) {
    if (this.session.pending.count + texts.length > PENDING_MAX) {
      throw new CommandError(`At most ${grouped(PENDING_MAX)} messages can wait. Nothing was sent.`);
    }
    this.session.say(conversation, texts, action);
    this.desk.toEnd();
  }

  #writable() {
    const { phase } = this.session;
    const current = this.desk.current();
    if (phase === Phase.LEFT) throw new CommandError("You left the chat. Join again first.");
    if (phase === Phase.ELSEWHERE) throw new CommandError("The chat is open in another tab. Use it here first.");
    if (!current) throw new CommandError("You are in no room.");
    if (current instanceof Room && current.membership === Membership.OUT) {
      throw new CommandError(`You are not in ${current.name}. /join ${current.name} joins it.`);
    }
    return current;
  }

  #room() {
    const current = this.#writable();
    if (current.isPrivate) throw new CommandError("This command works in rooms only.");
    return current;
  }

  /** @param {string} name */
  #joined(name) {
    const conversation = this.session.conversations.get(name.startsWith("@") ? name.toLowerCase() : roomName(name));
    if (!conversation) throw new CommandError(`You are not in ${name}.`);
    return conversation;
  }
}

/** @param {string} text */
function splitFirst(text) {
  const [first] = text.split(/\s/u, 1);
  return [first, text.slice(first.length).trim()];
}

/** @param {string} nick @throws {CommandError} */
function checkNick(nick) {
  const problem = nickProblem(nick);
  if (problem) throw new CommandError(problem);
}

/** @param {string} text @throws {CommandError} */
function splitLines(text) {
  const lines = text.split(/[\n\r\u2028\u2029]/u).map((line) => line.trimEnd()).filter(Boolean);
  for (const line of lines) {
    const over = byteLength(line) - TEXT_MAX;
    const which = lines.length > 1 ? `The line that begins with “${line.slice(0, 20)}”` : "The message";
    if (over > 0) throw new CommandError(`${which} is ${over} bytes too long. Nothing was sent.`);
  }
  return lines;
}
