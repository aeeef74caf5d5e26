/** Carries out what is typed into the box for messages. */

import { CommandError, parseCommand } from "./commands.js";
import { Membership, Room } from "./conversation.js";
import { nickProblem } from "./dialogs.js";
import { PENDING_MAX } from "./pending_lines.js";
import { TEXT_MAX, byteLength } from "./protocol.js";
import { Phase } from "./session.js";

/**
 * @typedef {import("./conversation.js").AnyConversation} AnyConversation
 *
 * @typedef {object} Desk the page, as far as a command needs it
 * @property {AnyConversation | null} current
 * @property {() => void} toEnd shows the latest message
 * @property {(conversation: AnyConversation) => void} logChanged
 * @property {(text: string) => void} informed
 * @property {(question: import("./dialogs.js").Question) => Promise<boolean>} confirm
 * @property {() => void} openJoin
 * @property {() => void} openHelp
 * @property {(words: string) => void} openSearch
 */

/** Lines above which the user is asked before they are sent, and how many the server takes in a second. */
const ASKED_LINES = 5;
const LINES_PER_SECOND = 5;

export class CommandRunner {
  /** @param {import("./session.js").Session} session @param {Desk} desk */
  constructor(session, desk) {
    this.session = session;
    this.desk = desk;
  }

  /**
   * Sends a text, or does what it says. In a text of several lines, no line is a command.
   *
   * @param {string} text
   * @returns {Promise<boolean>} false if the user does not want to send it after all
   * @throws {CommandError}
   */
  async run(text) {
    const lines = splitLines(text);
    if (lines.length > 1) return this.#sayLines(lines);
    if (lines.length === 1) this.#command(lines[0]);
    return true;
  }

  /** @param {string[]} lines @returns {Promise<boolean>} whether they are sent */
  async #sayLines(lines) {
    const conversation = this.#writable();
    if (lines.length > ASKED_LINES) {
      const seconds = Math.ceil(lines.length / LINES_PER_SECOND);
      const time = seconds > 90 ? `${Math.ceil(seconds / 60)} minutes` : `${seconds} seconds`;
      const question = {
        title: `Send ${lines.length} messages?`,
        text: `Each line becomes a message. Sending them takes about ${time}.`,
        action: `Send ${lines.length} messages`,
      };
      if (!(await this.desk.confirm(question))) return false;
    }
    this.#say(conversation, lines);
    return true;
  }

  /** @param {AnyConversation} conversation @param {string[]} texts */
  #say(conversation, texts, action = false) {
    if (this.session.pending.waiting + texts.length > PENDING_MAX) {
      throw new CommandError(`At most ${PENDING_MAX.toLocaleString("en")} messages can wait. Nothing was sent.`);
    }
    this.session.say(conversation, texts, action);
    this.desk.toEnd();
  }

  /** @returns {AnyConversation} the current conversation, if something can be said there */
  #writable() {
    const { session } = this;
    const { current } = this.desk;
    if (session.phase === Phase.LEFT) throw new CommandError("You left the chat. Join again first.");
    if (session.phase === Phase.ELSEWHERE) throw new CommandError("The chat is open in another tab. Use it here first.");
    if (current === null) throw new CommandError("You are in no room. /join ROOM joins one.");
    if (current instanceof Room && current.membership === Membership.OUT) {
      throw new CommandError(`You are not in ${current.name}. /join ${current.name} joins it.`);
    }
    return current;
  }

  /** @returns {Room} */
  #room() {
    const current = this.#writable();
    if (current.isPrivate) throw new CommandError("This command works in rooms only.");
    return current;
  }

  /** @param {string} line @throws {CommandError} */
  #command(line) {
    const { session } = this;
    const { name, first, rest } = parseCommand(line);
    switch (name) {
      case "say":
        return this.#say(this.#writable(), [rest]);
      case "me":
        return this.#say(this.#room(), [rest], true);
      case "msg":
        return this.#whisper(first, rest);
      case "nick":
        return this.#rename(first);
      case "join":
        return session.join(first);
      case "leave":
        return session.leave(first ? this.#joined(first) : this.#writable());
      case "rooms":
        return this.desk.openJoin();
      case "who":
        return session.listMembers(this.#room(), true);
      case "topic":
        return this.#topic(rest);
      case "history":
        return this.#loadHistory(Number(first || 20));
      case "search":
        this.#room();
        return this.desk.openSearch(rest);
      case "erase":
        return this.#eraseLast();
      case "away":
        return session.setAway(rest);
      case "help":
        return this.desk.openHelp();
      case "quit":
        return session.quit();
    }
  }

  /** @param {string} nick @param {string} text */
  #whisper(nick, text) {
    const problem = nickProblem(nick);
    if (problem) throw new CommandError(problem);
    const conversation = this.session.openPrivate(nick);
    if (text) this.#say(conversation, [text]);
  }

  /** @param {string} nick */
  #rename(nick) {
    const problem = nickProblem(nick);
    if (problem) throw new CommandError(problem);
    this.session.rename(nick);
    if (!this.session.isOnline) this.desk.informed(`You will be ${nick} when you are connected.`);
  }

  /** @param {string} name */
  #joined(name) {
    const key = name.startsWith("#") || name.startsWith("@") ? name.toLowerCase() : `#${name.toLowerCase()}`;
    const conversation = this.session.conversations.get(key);
    if (conversation === undefined) throw new CommandError(`You are not in ${name}.`);
    return conversation;
  }

  /** @param {string} text */
  #topic(text) {
    const room = this.#room();
    if (text) this.session.setTopic(room, text === "-" ? "" : text);
    else this.desk.informed(room.topic.text ? `The topic is: ${room.topic.text}` : "This room has no topic.");
  }

  /** @param {number} count */
  #loadHistory(count) {
    const room = this.#room();
    const gap = room.log.rows.find((row) => row.kind === "gap");
    if (gap === undefined) throw new CommandError("There are no older messages.");
    if (this.session.load(room, gap, { count })) this.desk.logChanged(room);
  }

  #eraseLast() {
    const room = this.#room();
    const row = room.log.lastOwn();
    if (row === undefined) throw new CommandError("There is no message of yours to erase.");
    this.session.erase(room, row);
  }
}

/**
 * Splits a text into the lines that are sent. Empty lines are none.
 *
 * @param {string} text
 * @returns {string[]}
 * @throws {CommandError} if one is too long
 */
function splitLines(text) {
  const lines = text.split(/[\n\r\u2028\u2029]/u).map((line) => line.trimEnd()).filter(Boolean);
  for (const line of lines) {
    const over = byteLength(line) - TEXT_MAX;
    if (over <= 0) continue;
    const which = lines.length > 1 ? `The line that begins with “${line.slice(0, 20)}”` : "The message";
    throw new CommandError(`${which} is ${over} bytes too long. Nothing was sent.`);
  }
  return lines;
}
