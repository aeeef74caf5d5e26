/** Rooms and private conversations: what the page knows of each. */

import { MessageLog } from "./message_log.js";

/**
 * Whether the member is in a room.
 *
 * @enum {string}
 */
export const Membership = {
  /** The page has asked for it, or will when it is connected. */
  JOINING: "joining",
  IN: "in",
  /** It was in the room before the connection was lost, and resumes. */
  RESUMING: "resuming",
  /** The server has removed or refused the member. */
  OUT: "out",
};

/** @param {string} nick @returns {string} the key of the private conversation with a member; rooms begin with `#` */
export function privateKey(nick) {
  return `@${nick.toLowerCase()}`;
}

/** What rooms and private conversations have in common. */
class Conversation {
  /** @param {string} key @param {string} name */
  constructor(key, name) {
    this.key = key;
    this.name = name;
    this.log = new MessageLog();
    /** Messages that nobody has seen yet, and those of them that mention the nick. */
    this.unread = 0;
    this.mentions = 0;
    /** @type {import("./message_log.js").Row | null} the first message that was not seen */
    this.firstUnread = null;
    /** What is typed and not sent. */
    this.draft = "";
  }

  /** @param {import("./message_log.js").Row} row */
  countUnread(row) {
    if (this.unread === 0) {
      if (this.firstUnread) this.firstUnread.version += 1;
      this.firstUnread = row;
    }
    this.unread += 1;
    if (row.isMention) this.mentions += 1;
  }

  markRead() {
    this.unread = this.mentions = 0;
  }

  /** Removes the mark before the first unread message. */
  removeMark() {
    if (this.firstUnread) this.firstUnread.version += 1;
    this.firstUnread = null;
  }
}

export class Room extends Conversation {
  isPrivate = /** @type {const} */ (false);

  /** @param {string} name */
  constructor(name) {
    super(name, name);
    /** @type {Membership} */
    this.membership = Membership.JOINING;
    /** The position of the last entry that was received. The epoch is empty before it is known. */
    this.epoch = "";
    this.offset = 0;
    /** @type {import("./protocol.js").RoomEntered | null} where the log is, until the verdict follows */
    this.announced = null;
    this.topic = { text: "", nick: "", time: 0 };
    /** @type {Map<string, string>} nicks of other members, as many as are known, by their lower case */
    this.others = new Map();
    /** The number of members in all. */
    this.count = 0;
    this.areMembersStale = false;
  }

  /** Whether all members are known by nick. */
  get isComplete() {
    return this.count <= this.others.size + 1;
  }

  /** @param {string[]} nicks @param {number} count @param {string} own the nick of the member itself */
  setMembers(nicks, count, own) {
    this.others = new Map(nicks.filter((nick) => nick !== own).map((nick) => [nick.toLowerCase(), nick]));
    this.count = Math.max(count, 1);
    this.areMembersStale = false;
  }

  /** @param {import("./protocol.js").Entry} entry of presence @param {string} own */
  applyPresence({ kind, nick, text }, own) {
    if (nick === own || (kind === "renamed" && text === own)) return;
    const wasComplete = this.isComplete;
    const wasKnown = this.others.delete(nick.toLowerCase());
    if (kind === "renamed") {
      if (wasKnown) this.others.set(text.toLowerCase(), text);
      return;
    }
    const change = kind === "joined" ? 1 : -1;
    if (kind === "joined") this.others.set(nick.toLowerCase(), nick);
    if (wasComplete) this.count = this.others.size + 1;
    else if (wasKnown !== (kind === "joined")) this.count += change;
  }
}

export class PrivateConversation extends Conversation {
  isPrivate = /** @type {const} */ (true);

  /** @param {string} nick of the other member */
  constructor(nick) {
    super(privateKey(nick), nick);
  }
}

/** @typedef {Room | PrivateConversation} AnyConversation */
