/**
 * The member's session: what it is in, what it has received, and what it still has to send.
 *
 * After a loss, the session is resumed: each entry is received once and in order, and each line is appended once.
 */

import { Connection, Link } from "./connection.js";
import { Membership, PrivateConversation, Room, privateKey } from "./conversation.js";
import { PRESENCE_KINDS, newRow } from "./message_log.js";
import { mentionPattern } from "./message_text.js";
import { LineState, PendingLines } from "./pending_lines.js";
import { HISTORY_MAX, ProtocolError, ROOMS_MAX, asSentence, decodeEvent, encodeRequest, roomName } from "./protocol.js";

/**
 * @typedef {import("./conversation.js").AnyConversation} AnyConversation
 * @typedef {import("./message_log.js").Row} Row
 * @typedef {import("./protocol.js").Entry} Entry
 * @typedef {import("./protocol.js").ChatEvent} ChatEvent
 */

/**
 * How far the session is.
 *
 * @enum {string}
 */
export const Phase = {
  /** It has not begun: the nick is not chosen. */
  IDLE: "idle",
  CONNECTING: "connecting",
  /** A new session was asked for. */
  BEGINNING: "beginning",
  /** The server was asked to continue the session. */
  RESUMING: "resuming",
  ONLINE: "online",
  /** The connection was lost and is tried again. */
  WAITING: "waiting",
  /** Another tab has the session. */
  ELSEWHERE: "elsewhere",
  /** The member has left for good. */
  LEFT: "left",
};

/** What may follow what. */
/** @type {Record<Phase, Phase[]>} */
const FOLLOWING = {
  [Phase.IDLE]: [Phase.CONNECTING, Phase.ELSEWHERE, Phase.LEFT],
  [Phase.CONNECTING]: [Phase.BEGINNING, Phase.RESUMING, Phase.WAITING, Phase.ELSEWHERE, Phase.LEFT],
  [Phase.BEGINNING]: [Phase.ONLINE, Phase.CONNECTING, Phase.WAITING, Phase.LEFT],
  [Phase.RESUMING]: [Phase.ONLINE, Phase.CONNECTING, Phase.WAITING, Phase.ELSEWHERE, Phase.LEFT],
  [Phase.ONLINE]: [Phase.CONNECTING, Phase.WAITING, Phase.ELSEWHERE, Phase.LEFT],
  [Phase.WAITING]: [Phase.CONNECTING, Phase.ELSEWHERE, Phase.LEFT],
  [Phase.ELSEWHERE]: [Phase.CONNECTING, Phase.LEFT],
  [Phase.LEFT]: [Phase.CONNECTING],
};

/** The room in which every session begins. */
const LOBBY = "#lobby";

/** Lines that are sent and not acknowledged at the same time. The server is so asked other things soon. */
const IN_FLIGHT_MAX = 8;

/** Messages of a room that are kept: of the one that is read, and of others. */
const KEPT_READ = 20_000;
const KEPT_OTHER = 2_000;

/** Old messages that are asked for at once. */
const HISTORY_STEP = 60;

/** Members from which on the server sums up joins and leaves, so that the page asks who is there. */
const CROWD = 50;

/** Private conversations that are kept, and messages of each. */
const PRIVATE_MAX = 40;
const PRIVATE_ROWS_MAX = 200;

/** Milliseconds after which a change of the positions is stored. */
const SAVE_DELAY = 1_000;

/** The nick of a member that has chosen none. */
const GUEST = /^guest-\d+$/;

/** Refusals of a room, which may come before the session is resumed. */
const ROOM_CAUSES = new Set(["too_many_rooms", "invite_only"]);

/**
 * What the session tells the page.
 *
 * @typedef {object} View
 * @property {() => void} statusChanged the phase, the nick, or who is away
 * @property {() => void} listChanged the conversations, or what is unread in them
 * @property {(conversation: AnyConversation) => void} logChanged rows or pending lines
 * @property {(room: Room) => void} roomChanged its topic, its members, or whether the member is in it
 * @property {(conversation: AnyConversation) => void} opened it is to be shown
 * @property {(conversation: AnyConversation, row: Row) => void} received a message of another member
 * @property {(conversation: AnyConversation) => boolean} isShown
 * @property {(conversation: AnyConversation) => boolean} isReading whether somebody sees its last message
 * @property {(text: string) => void} informed a sentence that belongs to no conversation
 * @property {(problem: string, nick: string) => void} nickRefused
 * @property {(list: import("./protocol.js").RoomList) => void} roomsListed
 * @property {(room: Room, entries: Entry[], problem: string) => void} found
 */

/**
 * A request whose answer, or refusal, names no ID. They are answered in order.
 *
 * @typedef {object} Question
 * @property {"history" | "search"} review
 * @property {Room} room
 * @property {Row} [gap]
 * @property {number} before
 * @property {number} count
 */

export class Session {
  /**
   * @param {string} url
   * @param {View} view
   * @param {import("./storage.js").Storage} tabStorage what this tab keeps across a reload
   * @param {import("./storage.js").Storage} userStorage what all tabs share
   */
  constructor(url, view, tabStorage, userStorage) {
    this.view = view;
    this.tabStorage = tabStorage;
    this.userStorage = userStorage;
    /** @type {Phase} */
    this.phase = Phase.IDLE;
    this.nick = "";
    this.wantedNick = userStorage.get("nick", "");
    /** Whether it was chosen while there was no connection. */
    this.hasNewNick = false;
    this.away = "";
    /** Names the session for other tabs. It is not secret, as the token is. */
    this.name = "";
    this.token = "";
    /** @type {Map<string, AnyConversation>} by key */
    this.conversations = new Map();
    this.pending = new PendingLines(tabStorage);
    /** @type {RegExp | null} */
    this.mention = null;
    /** @type {Map<string, Room>} rooms that the server was asked to join, by the IDs of the requests */
    this.joins = new Map();
    /** @type {Map<string, {what: string, conversation: AnyConversation | null}>} other requests, by ID */
    this.requests = new Map();
    /** @type {Question[]} */
    this.questions = [];
    /** @type {Set<Room>} rooms whose members are to be shown as a sentence */
    this.whoAsked = new Set();
    this.awaitsLobby = false;
    this.awaitsEndOfResume = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.saveTimer = undefined;
    this.connection = new Connection(url, {
      opened: () => this.#opened(),
      received: (frame) => this.#received(frame),
      lost: () => this.#lost(),
      changed: () => this.#linkChanged(),
      ask: () => this.#send({ type: "ping" }),
    });
    this.#restore();
  }

  // The state of the session

  /** @returns {boolean} */
  get isOnline() {
    return this.phase === Phase.ONLINE;
  }

  /** @returns {Room[]} */
  get rooms() {
    return /** @type {Room[]} */ ([...this.conversations.values()].filter((each) => !each.isPrivate));
  }

  /** Connects. A session that this tab had before is resumed. */
  start() {
    this.connection.start();
  }

  /** Another tab has the session. The user decides what to do. */
  yield() {
    this.#enter(Phase.ELSEWHERE);
    this.connection.stop();
    this.#lost();
  }

  /** Begins a session of its own: another tab goes on with the present one. */
  beginAnew() {
    this.#forgetSession();
    this.pending.clear();
    this.start();
  }

  /** Leaves for good. */
  quit() {
    if (this.isOnline) this.#send({ type: "quit" });
    this.#enter(Phase.LEFT);
    this.connection.stop();
    this.#lost();
    this.#forgetSession();
    this.pending.sessionEnded("You left the chat.");
    this.#allLogsChanged();
  }

  // What the user does

  /**
   * Says lines in a room, or sends them to a member. They are sent when that is possible.
   *
   * @param {AnyConversation} conversation
   * @param {string[]} texts
   * @param {boolean} action
   */
  say(conversation, texts, action = false) {
    this.pending.add(conversation, texts, action);
    conversation.removeMark();
    this.#flush();
    this.view.logChanged(conversation);
  }

  /** Forgets a line that was not sent. @param {string} id */
  dismiss(id) {
    const line = this.pending.take(id);
    const conversation = line && this.conversations.get(line.key);
    if (conversation) this.view.logChanged(conversation);
  }

  /** @param {string} nick */
  rename(nick) {
    this.wantedNick = nick;
    this.userStorage.set("nick", nick);
    this.hasNewNick = !this.isOnline;
    if (this.isOnline && nick !== this.nick) this.#request("nick", null, { nick });
  }

  /** @param {string} name of a room, as it was typed */
  join(name) {
    const known = this.conversations.get(roomName(name));
    if (known instanceof Room && known.membership !== Membership.OUT) {
      this.view.opened(known);
      return;
    }
    if (this.rooms.length >= ROOMS_MAX) {
      this.view.informed(`You can be in at most ${ROOMS_MAX} rooms.`);
      return;
    }
    const room = known instanceof Room ? known : this.#addRoom(roomName(name));
    room.membership = Membership.JOINING;
    if (this.isOnline) this.#join(room);
    this.#listChanged();
    this.view.opened(room);
  }

  /** Leaves a room, or closes a private conversation. @param {AnyConversation} conversation */
  leave(conversation) {
    if (conversation instanceof Room && this.isOnline && conversation.membership !== Membership.OUT) {
      this.#request("part", conversation, { room: conversation.name });
    }
    const unsent = this.pending.of(conversation.key);
    for (const { id } of unsent) this.pending.take(id);
    this.conversations.delete(conversation.key);
    this.#listChanged();
    this.saveSoon();
    if (unsent.length > 0) {
      const lines = unsent.map(({ text }) => text).join(" / ");
      this.view.informed(`You left ${conversation.name}. Not acknowledged were: ${lines}`);
    }
  }

  /** Opens a private conversation. @param {string} nick @returns {PrivateConversation} */
  openPrivate(nick) {
    const conversation = this.#privateWith(nick);
    this.view.opened(conversation);
    return conversation;
  }

  /** @param {Room} room @param {string} text empty to remove the topic */
  setTopic(room, text) {
    if (this.#mustBeOnline()) this.#request("topic", room, { room: room.name, text });
  }

  /** @param {string} text empty for back */
  setAway(text) {
    if (this.#mustBeOnline()) this.#send({ type: "away", text });
  }

  /** @param {Room} room @param {Row} row */
  erase(room, row) {
    if (this.#mustBeOnline()) this.#request("erase", room, { room: room.name, offset: row.offset });
  }

  listRooms() {
    if (this.#mustBeOnline()) this.#send({ type: "rooms" });
  }

  /** Asks who is in a room, if that is not known, or to show it as a sentence. @param {Room} room */
  listMembers(room, asSentence = false) {
    if (asSentence && !this.#mustBeOnline()) return;
    const isWanted = asSentence || room.areMembersStale;
    if (!isWanted || !this.isOnline || room.membership !== Membership.IN) return;
    if (asSentence) this.whoAsked.add(room);
    room.areMembersStale = false;
    this.#send({ type: "members", room: room.name });
  }

  /** @param {Room} room @param {string} words */
  search(room, words) {
    if (!this.isOnline) {
      this.view.found(room, [], "You are offline. Try again when you are connected.");
      return;
    }
    this.questions.push({ review: "search", room, before: 0, count: 0 });
    this.#send({ type: "search", room: room.name, words });
  }

  /**
   * Loads older messages into a gap.
   *
   * @param {Room} room
   * @param {Row} row the gap
   * @param {{forward?: boolean, around?: number, count?: number}} [options] forward: those after the gap's beginning;
   *   around: those around an offset
   * @returns {boolean} whether they were asked for
   */
  load(room, row, { forward = false, around = 0, count = HISTORY_STEP } = {}) {
    const gap = row.gap;
    if (gap === undefined || gap.isLoading || !this.isOnline || room.membership !== Membership.IN) return false;
    count = Math.min(count, HISTORY_MAX);
    let { before } = gap;
    if (around > 0) before = Math.min(before, around + Math.ceil(count / 2));
    else if (forward && gap.after > 0) before = Math.min(before, gap.after + 1 + count);
    gap.isLoading = true;
    gap.problem = "";
    row.version += 1;
    this.questions.push({ review: "history", room, gap: row, before, count });
    this.#send({ type: "history", room: room.name, count, before });
    return true;
  }

  /** Notes that somebody has seen the last message. @param {AnyConversation} conversation */
  markRead(conversation) {
    if (conversation.unread === 0) return;
    conversation.markRead();
    this.view.listChanged();
  }

  // What is stored

  /** Stores the session soon. */
  saveSoon() {
    this.saveTimer ??= setTimeout(() => this.save(), SAVE_DELAY);
  }

  /** Stores the session, so that a reload continues it. */
  save() {
    clearTimeout(this.saveTimer);
    this.saveTimer = undefined;
    const rooms = this.rooms.map(({ name, epoch, offset, topic, unread, mentions, draft }) => {
      return { name, epoch, offset, topic, unread, mentions, draft };
    });
    const privates = [...this.conversations.values()]
      .filter((each) => each.isPrivate)
      .slice(-PRIVATE_MAX)
      .map(({ name, unread, draft, log }) => {
        const rows = log.rows.slice(-PRIVATE_ROWS_MAX);
        return { name, unread, draft, rows: rows.map(({ kind, time, nick, text, own }) => [kind, time, nick, text, own]) };
      });
    const session = this.token ? { name: this.name, token: this.token, nick: this.nick } : {};
    this.tabStorage.set("session", { ...session, rooms, privates });
  }

  #restore() {
    const stored = /** @type {any} */ (this.tabStorage.get("session", {}));
    this.token = stored.token ?? "";
    this.name = stored.name ?? "";
    this.#setNick(stored.nick ?? "");
    const rooms = stored.rooms ?? this.userStorage.get("rooms", [""]).filter(Boolean).map((name) => ({ name }));
    for (const { name, ...values } of rooms) {
      const room = this.#addRoom(name);
      Object.assign(room, values);
      if (!this.token) room.epoch = "";
      if (room.epoch) {
        room.membership = Membership.RESUMING;
        room.log.appendGap(0, room.offset + 1);
      }
    }
    for (const { name, rows, ...values } of stored.privates ?? []) {
      const conversation = this.#addPrivate(name);
      Object.assign(conversation, values);
      conversation.mentions = conversation.unread;
      conversation.log.rows = rows.map((/** @type {any} */ [kind, time, nick, text, own]) =>
        newRow(kind, { time, nick, text, own }),
      );
    }
  }

  #forgetSession() {
    this.token = this.name = "";
    this.away = "";
    for (const room of this.rooms) {
      if (room.membership !== Membership.OUT) room.membership = Membership.JOINING;
    }
    this.save();
  }

  // The connection

  #linkChanged() {
    const { state } = this.connection;
    if (state === Link.CONNECTING) this.#enter(Phase.CONNECTING);
    else if (state === Link.WAITING) this.#enter(Phase.WAITING);
  }

  /** @param {Phase} phase */
  #enter(phase) {
    if (phase !== this.phase && !FOLLOWING[this.phase].includes(phase)) {
      throw new Error(`${phase} cannot follow ${this.phase}`);
    }
    this.phase = phase;
    this.view.statusChanged();
  }

  #opened() {
    if (!this.token) {
      this.awaitsLobby = true;
      for (const room of this.rooms) {
        if (room.membership !== Membership.OUT) room.membership = Membership.JOINING;
      }
      this.#enter(Phase.BEGINNING);
      this.#send({ type: "begin" });
      return;
    }
    const resuming = this.rooms.filter((room) => room.epoch && room.membership === Membership.RESUMING);
    const positions = resuming.map(({ name, epoch, offset }) => ({ room: name, epoch, offset }));
    this.#enter(Phase.RESUMING);
    this.#send({ type: "resume", token: this.token, nick: this.nick, positions });
  }

  #lost() {
    this.joins.clear();
    this.requests.clear();
    this.whoAsked.clear();
    this.awaitsEndOfResume = this.awaitsLobby = false;
    for (const { gap } of this.questions.splice(0)) this.#loadFailed(gap, "");
    this.pending.connectionLost();
    for (const room of this.rooms) {
      room.announced = null;
      if (room.membership === Membership.IN) room.membership = Membership.RESUMING;
      room.areMembersStale = true;
    }
    this.#allLogsChanged();
    this.saveSoon();
  }

  /** @param {import("./protocol.js").Request} request */
  #send(request) {
    this.connection.send(encodeRequest(request));
  }

  /**
   * Sends a request whose refusal is shown.
   *
   * @param {string} type
   * @param {AnyConversation | null} conversation
   * @param {Record<string, unknown>} members
   */
  #request(type, conversation, members) {
    const id = this.pending.newId();
    this.requests.set(id, { what: type, conversation });
    this.#send({ type, ...members, id });
  }

  #mustBeOnline() {
    if (!this.isOnline) this.view.informed("You are offline. Try again when you are connected.");
    return this.isOnline;
  }

  /** Sends the lines that can be sent. */
  #flush() {
    if (!this.isOnline) return;
    const lines = this.pending.takeNext(IN_FLIGHT_MAX - this.pending.inFlight, (key) => {
      const conversation = this.conversations.get(key);
      return conversation?.isPrivate || conversation?.membership === Membership.IN;
    });
    for (const { id, key, text, action } of lines) {
      const conversation = this.conversations.get(key);
      if (conversation?.isPrivate) this.#send({ type: "whisper", nick: conversation.name, text, id });
      else this.#send({ type: "say", room: key, text, action, id });
    }
  }

  // Events

  /** @param {unknown} frame */
  #received(frame) {
    try {
      const event = decodeEvent(frame);
      if (event !== null) this.#event(event);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.connection.drop(`The server sent something that this page cannot read (${error.message}).`);
    }
  }

  /** @param {ChatEvent} event */
  #event(event) {
    switch (event.type) {
      case "entry":
        return this.#entry(event);
      case "welcome":
      case "nick":
        return this.#nickSet(event.nick);
      case "session":
        return this.#sessionBegan(event.token);
      case "room":
        return this.#roomEntered(event);
      case "left":
        return this.#roomLeft(event.room);
      case "resumed":
        return this.#resumed(event);
      case "entries":
        return this.#entries(event);
      case "whisper":
        return this.#whispered(event);
      case "refused":
        return this.#refused(event);
      case "not-confirmed":
        return this.#lineChanged(this.pending.update(event.id, LineState.UNCONFIRMED));
      case "confirmed":
        return this.#acknowledged(event.id);
      case "topic":
        return this.#topicShown(event);
      case "away":
        this.away = event.text;
        this.view.informed(event.text ? `You are away: ${event.text}` : "You are back.");
        return this.view.statusChanged();
      case "recipient-away":
        return this.#recipientAway(event);
      case "members":
        return this.#membersListed(event);
      case "rooms":
        return this.view.roomsListed(event);
      case "replaced":
        return this.yield();
      case "notice":
        return this.view.informed(event.text);
      case "pong":
        return this.#resumeEnded();
    }
  }

  // The session begins

  /** @param {string} nick */
  #setNick(nick) {
    this.nick = nick;
    this.mention = mentionPattern(nick);
  }

  /** @param {string} nick */
  #nickSet(nick) {
    const asked = this.nick;
    this.#setNick(nick);
    this.view.statusChanged();
    this.saveSoon();
    // While the connection was lost, somebody else may have taken the nick.
    if (this.awaitsEndOfResume && nick !== asked && this.wantedNick) this.rename(this.wantedNick);
  }

  /** @param {string} token */
  #sessionBegan(token) {
    const isNew = this.phase === Phase.BEGINNING;
    if (!isNew && (this.phase !== Phase.RESUMING || token !== this.token)) return;
    this.#enter(Phase.ONLINE);
    this.connection.settled();
    if (isNew) {
      this.token = token;
      this.name = this.pending.newId();
      if (this.wantedNick && this.wantedNick !== this.nick) this.rename(this.wantedNick);
    } else {
      this.awaitsEndOfResume = true;
      if (this.hasNewNick) this.rename(this.wantedNick);
      this.#send({ type: "ping" }); // answered when all rooms are resumed
    }
    this.#joinAll(Membership.JOINING);
    this.save();
    this.view.statusChanged(); // now with the name of the session
    this.#flush();
  }

  #resumeEnded() {
    if (!this.awaitsEndOfResume) return;
    this.awaitsEndOfResume = false;
    this.#joinAll(Membership.RESUMING); // those that the server could not resume
  }

  /** @param {Membership} membership of the rooms to join */
  #joinAll(membership) {
    for (const room of this.rooms) {
      const comesByItself = this.awaitsLobby && room.name === LOBBY;
      if (room.membership === membership && !comesByItself) this.#join(room);
    }
  }

  /** @param {Room} room */
  #join(room) {
    const id = this.pending.newId();
    room.membership = Membership.JOINING;
    this.joins.set(id, room);
    this.#send({ type: "join", room: room.name, id });
  }

  // Rooms

  /** @param {string} name */
  #addRoom(name) {
    const room = new Room(name);
    this.conversations.set(room.key, room);
    return room;
  }

  #listChanged() {
    this.userStorage.set("rooms", this.rooms.map((room) => room.name));
    this.view.listChanged();
  }

  /**
   * Returns the room that the server means. It may call a room by another name than the one that was asked for.
   *
   * @param {string} name
   * @returns {Room | null} null for a lobby that is not wanted
   */
  #enteredRoom(name) {
    const known = this.conversations.get(name);
    const join = [...this.joins].find(([, { key }]) => key === name);
    const wasLobby = this.awaitsLobby;
    this.awaitsLobby = false;
    if (join) this.joins.delete(join[0]);
    if (known instanceof Room) return known;
    if (wasLobby) return this.rooms.length > 0 ? null : this.#addRoom(name);
    const [id, room] = this.joins.entries().next().value ?? ["", this.#addRoom(name)];
    this.joins.delete(id);
    if (room.name !== name) {
      this.conversations.delete(room.key);
      this.pending.rekey(room.key, name);
      room.key = room.name = name;
      this.conversations.set(name, room);
    }
    return room;
  }

  /** @param {import("./protocol.js").RoomEntered} event */
  #roomEntered(event) {
    const room = this.#enteredRoom(event.room);
    if (room === null) {
      this.#send({ type: "part", room: event.room });
      return;
    }
    room.setMembers(event.members, event.count, this.nick);
    room.topic = room.membership === Membership.JOINING ? { text: "", nick: "", time: 0 } : room.topic;
    if (room.membership === Membership.RESUMING || room.membership === Membership.IN) {
      room.announced = event; // the verdict follows
    } else {
      this.#arrive(room, event);
    }
    this.#listChanged();
    this.view.roomChanged(room);
  }

  /** The member is in a room without a verdict. @param {Room} room @param {import("./protocol.js").RoomEntered} event */
  #arrive(room, { epoch, offset }) {
    if (room.epoch === epoch && offset >= room.offset) {
      room.log.appendGap(room.offset, offset + 1); // it was in the room in an earlier session
    } else {
      if (room.epoch) this.#beginLog(room);
      room.log.appendGap(0, offset + 1);
    }
    this.#isIn(room, epoch, offset);
  }

  /** @param {Room} room @param {string} epoch @param {number} offset */
  #isIn(room, epoch, offset) {
    Object.assign(room, { epoch, offset, membership: Membership.IN, announced: null });
    this.saveSoon();
    this.#flush();
    this.view.logChanged(room);
    this.view.roomChanged(room);
  }

  /** @param {Room} room */
  #beginLog(room) {
    room.log.startSegment();
    room.log.inform("The log of this room was begun anew. It is unknown what is missing.");
  }

  /** @param {import("./protocol.js").Resumed} event */
  #resumed({ room: name, verdict, lost }) {
    const room = this.conversations.get(name);
    if (!(room instanceof Room)) return;
    const { announced } = room;
    if (verdict === "unknown" && announced !== null) {
      this.#beginLog(room);
      room.log.appendGap(0, announced.offset + 1);
      this.#isIn(room, announced.epoch, announced.offset);
      return;
    }
    if (verdict === "lost") {
      const messages = lost === 1 ? "1 message is" : `${lost.toLocaleString("en")} messages are`;
      room.log.inform(`${messages} lost: the server no longer keeps older ones.`);
    }
    room.areMembersStale = true; // what follows may contain joins and leaves from before the list was made
    this.#isIn(room, room.epoch, room.offset + lost);
  }

  /** @param {string} name */
  #roomLeft(name) {
    const room = this.conversations.get(name);
    if (!(room instanceof Room) || room.membership === Membership.JOINING) return;
    this.#isOut(room, "You are no longer in this room.");
  }

  /** @param {Room} room @param {string} reason */
  #isOut(room, reason) {
    room.membership = Membership.OUT;
    room.log.inform(reason);
    this.pending.refuseAll(room.key, reason);
    this.view.logChanged(room);
    this.view.roomChanged(room);
    this.view.listChanged();
  }

  /** @param {import("./protocol.js").TopicShown} event */
  #topicShown({ room: name, text, nick, time }) {
    const room = this.conversations.get(name);
    if (!(room instanceof Room)) return;
    room.topic = { text, nick, time };
    this.view.roomChanged(room);
  }

  /** @param {import("./protocol.js").MemberList} event */
  #membersListed({ room: name, count, nicks }) {
    const room = this.conversations.get(name);
    if (!(room instanceof Room)) return;
    room.setMembers(nicks, count, this.nick);
    this.view.roomChanged(room);
    if (this.whoAsked.delete(room)) {
      const more = count > nicks.length ? ` and ${(count - nicks.length).toLocaleString("en")} more` : "";
      room.log.inform(`${count.toLocaleString("en")} in ${room.name}: ${nicks.join(", ")}${more}`);
      this.view.logChanged(room);
    }
  }

  // Entries

  /** @param {import("./protocol.js").RoomEntry} event */
  #entry(event) {
    if (event.own && event.id) this.#acknowledged(event.id);
    const room = this.conversations.get(event.room);
    if (!(room instanceof Room) || room.membership !== Membership.IN) return;
    if (event.offset <= room.offset) return; // received before
    if (event.offset > room.offset + 1) {
      this.connection.drop("A message was missing.");
      return;
    }
    room.offset = event.offset;
    this.#apply(room, event);
    room.log.trim(this.view.isShown(room) ? KEPT_READ : KEPT_OTHER);
    this.view.logChanged(room);
    this.saveSoon();
  }

  /** @param {Room} room @param {import("./protocol.js").RoomEntry} event */
  #apply(room, event) {
    const row = room.log.append(event, { own: event.own, isMention: !event.own && this.#isMention(event) });
    if (event.kind === "erased") room.log.erase(Number(event.text));
    else if (event.kind === "topic") room.topic = { text: event.text, nick: event.nick, time: event.time };
    else if (event.kind === "notice") room.areMembersStale = room.count > CROWD;
    else if (PRESENCE_KINDS.has(event.kind)) this.#presence(room, event);
    if (event.kind === "topic" || event.kind === "notice") this.view.roomChanged(room);
    if (row !== null && !event.own && (event.kind === "said" || event.kind === "action")) {
      this.#messageReceived(room, row);
    }
  }

  /** @param {Room} room @param {import("./protocol.js").RoomEntry} event */
  #presence(room, event) {
    room.applyPresence(event, this.nick);
    this.view.roomChanged(room);
    const conversation = event.kind === "renamed" && this.conversations.get(privateKey(event.nick));
    if (!conversation || this.conversations.has(privateKey(event.text))) return;
    this.conversations.delete(conversation.key);
    this.pending.rekey(conversation.key, privateKey(event.text));
    conversation.key = privateKey(event.text);
    conversation.name = event.text;
    conversation.log.inform(`${event.nick} is now ${event.text}.`);
    this.conversations.set(conversation.key, conversation);
    this.view.listChanged();
    this.view.logChanged(conversation);
  }

  /** @param {AnyConversation} conversation @param {Row} row */
  #messageReceived(conversation, row) {
    if (!this.view.isReading(conversation)) {
      conversation.countUnread(row);
      this.view.listChanged();
    }
    this.view.received(conversation, row);
  }

  /** @param {Entry} entry */
  #isMention({ kind, text }) {
    return (kind === "said" || kind === "action") && this.mention !== null && this.mention.test(text);
  }

  /** @param {import("./protocol.js").Entries} event */
  #entries({ room: name, review, entries }) {
    const room = this.conversations.get(name);
    const index = this.questions.findIndex((each) => each.review === review && each.room.name === name);
    const [question] = index < 0 ? [] : this.questions.splice(index, 1);
    if (!(room instanceof Room)) return;
    if (review === "search") {
      this.view.found(room, entries, "");
      return;
    }
    const gap = review === "replay" ? room.log.lastGap() : question?.gap;
    if (!gap?.gap) return;
    const before = question?.before ?? gap.gap.before;
    const isAll = question !== undefined && entries.length < question.count;
    if (entries.length === 0 && !isAll) return;
    room.log.fill(gap, entries, before, isAll, (entry) => {
      const own = entry.nick === this.nick;
      return { own, isMention: !own && this.#isMention(entry) };
    });
    this.view.logChanged(room);
  }

  /** @param {Row | undefined} row @param {string} problem */
  #loadFailed(row, problem) {
    if (row?.gap === undefined) return;
    row.gap.isLoading = false;
    row.gap.problem = problem;
    row.version += 1;
  }

  // Private messages

  /** @param {string} nick @returns {PrivateConversation} */
  #privateWith(nick) {
    const known = this.conversations.get(privateKey(nick));
    if (known instanceof PrivateConversation) return known;
    const conversation = this.#addPrivate(nick);
    this.view.listChanged();
    return conversation;
  }

  /** @param {string} nick */
  #addPrivate(nick) {
    const conversation = new PrivateConversation(nick);
    this.conversations.set(conversation.key, conversation);
    return conversation;
  }

  /** @param {import("./protocol.js").Whisper} event */
  #whispered({ sender, recipient, text, id }) {
    const own = sender === this.nick;
    if (own && id) this.#acknowledged(id);
    const conversation = this.#privateWith(own ? recipient : sender);
    const row = newRow("said", { nick: sender, text, own, isMention: !own });
    conversation.log.rows.push(row);
    conversation.log.trim(KEPT_OTHER);
    if (!own) this.#messageReceived(conversation, row);
    this.view.logChanged(conversation);
    this.saveSoon();
  }

  /** @param {import("./protocol.js").RecipientAway} event */
  #recipientAway({ nick, text }) {
    const conversation = this.#privateWith(nick);
    conversation.log.inform(`${nick} is away: ${text}`);
    this.view.logChanged(conversation);
  }

  // Lines of the user, and refusals

  /** @param {string} id */
  #acknowledged(id) {
    this.requests.delete(id);
    const line = this.pending.take(id);
    this.#lineChanged(line);
    if (line !== undefined) this.#flush();
  }

  /** @param {import("./pending_lines.js").Line | undefined} line */
  #lineChanged(line) {
    const conversation = line && this.conversations.get(line.key);
    if (conversation) this.view.logChanged(conversation);
  }

  #allLogsChanged() {
    for (const conversation of this.conversations.values()) this.view.logChanged(conversation);
  }

  /** @param {import("./protocol.js").Refused} refused */
  #refused(refused) {
    const { cause, text, id } = refused;
    const sentence = asSentence(text);
    const joining = this.joins.get(id);
    const request = this.requests.get(id);
    if (this.phase === Phase.RESUMING && !ROOM_CAUSES.has(cause)) {
      this.#resumeRefused(cause, sentence);
    } else if (joining !== undefined) {
      this.joins.delete(id);
      this.#joinRefused(joining, cause, sentence);
    } else if (id && this.pending.update(id, LineState.REFUSED, sentence)) {
      this.#lineChanged(this.pending.lines.get(id));
      this.#flush();
    } else if (request !== undefined) {
      this.requests.delete(id);
      if (request.what === "nick") this.#nickRefused(sentence);
      else if (request.what !== "part") this.#inform(request.conversation, sentence);
    } else if (this.questions.length > 0 && !id) {
      this.#questionRefused(/** @type {Question} */ (this.questions.shift()), sentence);
    } else {
      this.view.informed(sentence);
    }
  }

  /** @param {string} sentence */
  #nickRefused(sentence) {
    const refused = this.wantedNick;
    if (!GUEST.test(this.nick)) {
      this.wantedNick = this.nick;
      this.userStorage.set("nick", this.nick);
    }
    this.view.nickRefused(sentence, refused);
  }

  /** @param {AnyConversation | null} conversation @param {string} text */
  #inform(conversation, text) {
    if (conversation === null) {
      this.view.informed(text);
      return;
    }
    conversation.log.inform(text);
    this.view.logChanged(conversation);
  }

  /** @param {Question} question @param {string} sentence */
  #questionRefused({ review, room, gap }, sentence) {
    if (review === "search") this.view.found(room, [], sentence);
    this.#loadFailed(gap, sentence);
    this.view.logChanged(room);
  }

  /** @param {Room} room @param {string} cause @param {string} sentence */
  #joinRefused(room, cause, sentence) {
    if (room.membership !== Membership.JOINING) return;
    if (cause === "already_in_room" || room.log.rows.length === 0) {
      // It is another name of a room in the list, or the member never was in it.
      this.pending.refuseAll(room.key, sentence);
      if (this.pending.of(room.key).length === 0) {
        this.conversations.delete(room.key);
        this.#listChanged();
        this.view.informed(sentence);
        return;
      }
    }
    this.#isOut(room, sentence);
  }

  /** @param {string} cause @param {string} sentence */
  #resumeRefused(cause, sentence) {
    if (cause === "store_failed") {
      this.connection.drop(sentence);
      return;
    }
    this.pending.sessionEnded("");
    this.#forgetSession();
    this.view.informed(`The session could not be continued, and a new one begins. The server says: ${sentence}`);
    this.connection.restart();
  }
}
