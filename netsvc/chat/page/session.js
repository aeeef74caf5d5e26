/** The member's session. After a loss, it is resumed: no entry and no line is lost or doubled. */

import { Connection, Link } from "./connection.js";
import { LineState, Membership, PRESENCE_KINDS, PendingLines, PrivateConversation, Room, newRow, privateKey } from "./conversation.js";
import { grouped, mentionPattern } from "./elements.js";
import { HISTORY_MAX, ProtocolError, ROOMS_MAX, asSentence, decodeEvent, encodeRequest, roomName } from "./protocol.js";

const { IN, JOINING, OUT, RESUMING } = Membership;

/** @enum {string} How far the session is. */
export const Phase = {
  IDLE: "idle",
  CONNECTING: "connecting",
  BEGINNING: "beginning",
  RESUMING: "resuming",
  ONLINE: "online",
  WAITING: "waiting",
  ELSEWHERE: "elsewhere",
  LEFT: "left",
};

/** What may follow what. */
const FOLLOWING = {
  [Phase.IDLE]: [Phase.CONNECTING, Phase.ELSEWHERE, Phase.LEFT],
  [Phase.CONNECTING]: [Phase.BEGINNING, Phase.RESUMING, Phase.WAITING, Phase.ELSEWHERE, Phase.LEFT],
  [Phase.BEGINNING]: [Phase.ONLINE, Phase.WAITING, Phase.LEFT],
  [Phase.RESUMING]: [Phase.ONLINE, Phase.CONNECTING, Phase.WAITING, Phase.ELSEWHERE, Phase.LEFT],
  [Phase.ONLINE]: [Phase.WAITING, Phase.ELSEWHERE, Phase.LEFT],
  [Phase.WAITING]: [Phase.CONNECTING, Phase.ELSEWHERE, Phase.LEFT],
  [Phase.ELSEWHERE]: [Phase.CONNECTING, Phase.LEFT],
  [Phase.LEFT]: [Phase.CONNECTING],
};

const LOBBY = "#lobby";

const GUEST = /^guest-\d+$/;

/** The server takes 5 lines a second. More that wait there would delay other requests. */
const IN_FLIGHT_MAX = 4;

const KEPT_READ = 20_000;
const KEPT_OTHER = 2_000;

const HISTORY_STEP = 60;

/** Above this number of members, the server sums up joins and leaves. */
const CROWD = 50;

const PRIVATE_MAX = 40;
const PRIVATE_ROWS_MAX = 200;

const SAVE_DELAY = 1_000;

/** Refusals of a room, which may come before the session is resumed. */
const ROOM_CAUSES = new Set(["too_many_rooms", "invite_only"]);

const OFFLINE = "You are offline. Try again when you are connected.";

export class Session {
  /** @param {string} url @param {View} view @param {Store} tabStore of this tab @param {Store} userStore of all tabs */
  constructor(url, view, tabStore, userStore) {
    this.view = view;
    this.tabStore = tabStore;
    this.userStore = userStore;
    this.phase = Phase.IDLE;
    this.nick = "";
    this.wantedNick = userStore.get("nick", "");
    this.hasNewNick = false;
    this.away = "";
    /** For other tabs. Unlike the token, it is not secret. */
    this.name = "";
    this.token = "";
    /** @type {Map<string, AnyConversation>} by key */
    this.conversations = new Map();
    this.pending = new PendingLines(tabStore);
    /** @type {RegExp | null} */
    this.mention = null;
    /** @type {Map<string, Room>} by the IDs of the requests */
    this.joins = new Map();
    /** @type {Map<string, (problem: string, cause: string) => void>} what to do if a request is refused */
    this.refusals = new Map();
    /** @type {Question[]} */
    this.questions = [];
    this.awaitsLobby = false;
    this.awaitsEndOfResume = false;
    /** @type {number | undefined} */
    this.saveTimer = undefined;
    this.handlers = this.#eventHandlers();
    this.connection = new Connection(url, {
      opened: () => this.#opened(),
      received: (frame) => this.#received(frame),
      lost: () => this.#lost(),
      changed: () => this.#linkChanged(),
      ask: () => this.#send({ type: "ping" }),
    });
    this.#restore();
  }

  get isOnline() {
    return this.phase === Phase.ONLINE;
  }

  get rooms() {
    return [...this.conversations.values()].filter((each) => each instanceof Room);
  }

  start() {
    this.connection.start();
  }

  /** Another tab has the session. The user decides what to do. */
  yield() {
    this.#enter(Phase.ELSEWHERE);
    this.connection.stop();
    this.#lost();
  }

  /** Another tab goes on with the present session. */
  beginAnew() {
    this.#forgetSession();
    this.pending.clear();
    this.start();
  }

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

  /** @param {AnyConversation} conversation @param {string[]} texts */
  say(conversation, texts, action = false) {
    this.pending.add(conversation, texts, action);
    conversation.removeMark();
    this.#flush();
    this.view.logChanged(conversation);
  }

  /** @param {string} id */
  dismiss(id) {
    this.#lineChanged(this.pending.take(id));
  }

  /** @param {string} nick */
  rename(nick) {
    this.wantedNick = nick;
    this.userStore.set("nick", nick);
    this.hasNewNick = !this.isOnline;
    if (this.isOnline && nick !== this.nick) {
      this.#request({ type: "nick", nick }, (problem) => this.#nickRefused(problem));
    }
  }

  /** @param {string} name */
  join(name) {
    const known = this.#room(roomName(name));
    if (known && known.membership !== OUT) {
      this.view.opened(known);
    } else if (this.rooms.length >= ROOMS_MAX) {
      this.view.informed(`You can be in at most ${ROOMS_MAX} rooms.`);
    } else {
      const room = known ?? this.#addRoom(roomName(name));
      room.membership = JOINING;
      if (this.isOnline) this.#join(room);
      this.#listChanged();
      this.view.opened(room);
    }
  }

  /** @param {AnyConversation} conversation */
  leave(conversation) {
    const { key, name } = conversation;
    if (conversation instanceof Room && this.isOnline && conversation.membership !== OUT) {
      this.#request({ type: "part", room: name }, () => {});
    }
    const unsent = this.pending.of(key);
    for (const { id } of unsent) this.pending.take(id);
    this.conversations.delete(key);
    this.#listChanged();
    this.saveSoon();
    if (unsent.length > 0) {
      this.view.informed(`You left ${name}. Not acknowledged were: ${unsent.map(({ text }) => text).join(" / ")}`);
    }
  }

  /** @param {string} nick */
  openPrivate(nick) {
    const conversation = this.#privateWith(nick);
    this.view.opened(conversation);
    return conversation;
  }

  /** @param {Room} room @param {string} text */
  setTopic(room, text) {
    this.#ask({ type: "topic", room: room.name, text }, room);
  }

  /** @param {string} text */
  setAway(text) {
    this.#ask({ type: "away", text });
  }

  /** @param {Room} room @param {Row} row */
  erase(room, { offset }) {
    this.#ask({ type: "erase", room: room.name, offset }, room);
  }

  listRooms() {
    this.#ask({ type: "rooms" });
  }

  /** Asks who is in a room, if that is not known. @param {Room} room */
  listMembers(room) {
    if (!room.areMembersStale || room.membership !== IN || !this.isOnline) return;
    room.areMembersStale = false;
    this.#send({ type: "members", room: room.name });
  }

  /** @param {Room} room @param {string} words */
  search(room, words) {
    if (!this.isOnline) {
      this.view.found(room, [], OFFLINE);
      return;
    }
    this.questions.push({ review: "search", room, before: 0, count: 0 });
    this.#send({ type: "search", room: room.name, words });
  }

  /**
   * Loads messages into a gap: those around an offset, or at its beginning or end. Returns whether it asks for them.
   *
   * @param {Room} room
   * @param {Row} row
   * @param {{isForward?: boolean, around?: number, count?: number}} [options]
   */
  load(room, row, { isForward = false, around = 0, count = HISTORY_STEP } = {}) {
    const { gap } = row;
    if (!gap || gap.isLoading || !this.isOnline || room.membership !== IN) return false;
    count = Math.min(count, HISTORY_MAX);
    let { before } = gap;
    if (around > 0) before = Math.min(before, around + Math.ceil(count / 2));
    else if (isForward && gap.after > 0) before = Math.min(before, gap.after + 1 + count);
    gap.isLoading = true;
    gap.problem = "";
    row.version += 1;
    this.questions.push({ review: "history", room, gap: row, before, count });
    this.#send({ type: "history", room: room.name, count, before });
    return true;
  }

  /** @param {AnyConversation} conversation */
  markRead(conversation) {
    if (conversation.unread === 0) return;
    conversation.unread = conversation.mentions = 0;
    this.view.listChanged();
  }

  // What is stored

  saveSoon() {
    this.saveTimer ??= setTimeout(() => this.save(), SAVE_DELAY);
  }

  save() {
    clearTimeout(this.saveTimer);
    this.saveTimer = undefined;
    const rooms = this.rooms.map(({ name, epoch, offset, topic, unread, mentions, draft }) => {
      return { name, epoch, offset, topic, unread, mentions, draft };
    });
    const privates = [...this.conversations.values()].filter((each) => each.isPrivate).slice(-PRIVATE_MAX);
    const session = this.token ? { name: this.name, token: this.token, nick: this.nick } : {};
    this.tabStore.set("session", {
      ...session,
      rooms,
      privates: privates.map(({ name, unread, draft, log }) => {
        const rows = log.rows.slice(-PRIVATE_ROWS_MAX);
        const kept = rows.map(({ kind, time, nick, text, own }) => ({ kind, time, nick, text, own }));
        return { name, unread, draft, rows: kept };
      }),
    });
  }

  #restore() {
    const stored = /** @type {any} */ (this.tabStore.get("session", {}));
    this.token = stored.token ?? "";
    this.name = stored.name ?? "";
    this.#setNick(stored.nick ?? "");
    const rooms = stored.rooms ?? this.userStore.get("rooms", [""]).filter(Boolean).map((name) => ({ name }));
    for (const { name, ...values } of rooms) {
      const room = Object.assign(this.#addRoom(name), values);
      if (!this.token) room.epoch = "";
      if (!room.epoch) continue;
      room.membership = RESUMING;
      room.log.appendGap(0, room.offset + 1);
    }
    for (const { name, rows, ...values } of stored.privates ?? []) {
      const conversation = Object.assign(this.#addPrivate(name), values);
      conversation.mentions = conversation.unread;
      for (const { kind, ...row } of rows) conversation.log.rows.push(newRow(kind, row));
    }
  }

  #forgetSession() {
    this.token = this.name = this.away = "";
    this.#willJoin();
    this.save();
  }

  #willJoin() {
    for (const room of this.rooms) {
      if (room.membership !== OUT) room.membership = JOINING;
    }
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
      this.#willJoin();
      this.#enter(Phase.BEGINNING);
      this.#send({ type: "begin" });
      return;
    }
    const resuming = this.rooms.filter((room) => room.membership === RESUMING);
    const positions = resuming.map(({ name, epoch, offset }) => ({ room: name, epoch, offset }));
    this.#enter(Phase.RESUMING);
    this.#send({ type: "resume", token: this.token, nick: this.nick, positions });
  }

  #lost() {
    this.joins.clear();
    this.refusals.clear();
    this.awaitsEndOfResume = this.awaitsLobby = false;
    for (const { gap } of this.questions.splice(0)) this.#loadFailed(gap, "");
    this.pending.connectionLost();
    for (const room of this.rooms) {
      room.announced = null;
      if (room.membership === IN) room.membership = RESUMING;
    }
    this.#allLogsChanged();
    this.saveSoon();
  }

  /** @param {ChatRequest} request */
  #send(request) {
    this.connection.send(encodeRequest(request));
  }

  /** @param {ChatRequest} request @param {(problem: string, cause: string) => void} refused */
  #request(request, refused) {
    const id = this.pending.newId();
    this.refusals.set(id, refused);
    this.#send({ ...request, id });
    return id;
  }

  /** @param {ChatRequest} request @param {Room} [room] where a refusal is shown */
  #ask(request, room) {
    if (!this.isOnline) this.view.informed(OFFLINE);
    else if (room) this.#request(request, (problem) => this.#inform(room, problem));
    else this.#send(request);
  }

  #flush() {
    if (!this.isOnline) return;
    const lines = this.pending.takeNext(IN_FLIGHT_MAX, ({ key, isPrivate }) => {
      return isPrivate || this.#room(key)?.membership === IN;
    });
    for (const { id, key, text, action, isPrivate } of lines) {
      if (isPrivate) this.#send({ type: "whisper", nick: this.conversations.get(key)?.name, text, id });
      else this.#send({ type: "say", room: key, text, action, id });
    }
  }

  // Events

  /** @param {unknown} frame */
  #received(frame) {
    try {
      const event = decodeEvent(frame);
      if (event !== null) /** @type {(event: ChatEvent) => void} */ (this.handlers[event.type])(event);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.connection.drop(`The server sent something that this page cannot read (${error.message}).`);
    }
  }

  /** @returns {EventHandlers} */
  #eventHandlers() {
    return {
      entry: (event) => {
        if (event.own && event.id) this.#acknowledged(event.id);
        const room = this.#room(event.room);
        if (room?.membership !== IN || event.offset <= room.offset) return; // received before
        if (event.offset > room.offset + 1) {
          this.connection.drop("A message was missing.");
          return;
        }
        room.offset = event.offset;
        this.#apply(room, event);
        room.log.trim(this.view.isShown(room) ? KEPT_READ : KEPT_OTHER);
        this.view.logChanged(room);
        this.saveSoon();
      },
      welcome: ({ nick }) => this.#nickSet(nick),
      nick: ({ nick }) => this.#nickSet(nick),
      session: ({ token }) => this.#sessionBegan(token),
      room: (event) => {
        const room = this.#enteredRoom(event.room);
        if (room === null) {
          this.#send({ type: "part", room: event.room });
          return;
        }
        room.setMembers(event.members, event.count, this.nick);
        if (room.membership === RESUMING || room.membership === IN) {
          room.announced = event; // the verdict follows
        } else {
          room.topic = { text: "", nick: "", time: 0 };
          this.#arrive(room, event);
        }
        this.#listChanged();
        this.view.roomChanged(room);
      },
      left: ({ room: name }) => {
        const room = this.#room(name);
        if (room && room.membership !== JOINING) this.#isOut(room, "You are no longer in this room.");
      },
      resumed: ({ room: name, verdict, lost }) => {
        const room = this.#room(name);
        if (!room) return;
        if (verdict === "unknown" && room.announced) {
          const { epoch, offset } = room.announced;
          this.#beginLog(room);
          room.log.appendGap(0, offset + 1);
          this.#isIn(room, epoch, offset);
          return;
        }
        if (verdict === "lost") {
          const messages = lost === 1 ? "1 message is" : `${grouped(lost)} messages are`;
          room.log.inform(`${messages} lost: the server no longer keeps older ones.`);
        }
        room.areMembersStale = true; // what follows may contain joins and leaves from before the list was made
        this.#isIn(room, room.epoch, room.offset + lost);
      },
      entries: ({ room: name, review, entries }) => {
        const index = this.questions.findIndex((each) => each.review === review && each.room.name === name);
        const question = index < 0 ? undefined : this.questions.splice(index, 1)[0];
        const room = this.#room(name);
        if (room && review === "search") this.view.found(room, entries, "");
        const row = review === "replay" ? room?.log.lastGap() : question?.gap;
        if (!room || !row?.gap) return;
        const isAll = question !== undefined && entries.length < question.count;
        if (entries.length === 0 && !isAll) return;
        room.log.fill(row, entries, question?.before ?? row.gap.before, isAll, (entry) => {
          const own = entry.nick === this.nick;
          return { own, isMention: !own && this.#isMention(entry) };
        });
        this.view.logChanged(room);
      },
      whisper: ({ sender, recipient, text, id }) => {
        const own = sender === this.nick;
        if (own && id) this.#acknowledged(id);
        const conversation = this.#privateWith(own ? recipient : sender);
        const row = newRow("said", { nick: sender, text, own, isMention: !own });
        conversation.log.rows.push(row);
        conversation.log.trim(KEPT_OTHER);
        if (!own) this.#messageReceived(conversation, row);
        this.view.logChanged(conversation);
        this.saveSoon();
      },
      refused: ({ cause, text, id }) => {
        const problem = asSentence(text, this.wantedNick);
        const refused = this.refusals.get(id);
        const question = id ? undefined : this.questions.shift();
        if (this.phase === Phase.RESUMING && !ROOM_CAUSES.has(cause)) {
          this.#resumeRefused(cause, problem);
        } else if (refused) {
          this.refusals.delete(id);
          refused(problem, cause);
        } else if (id && this.pending.lines.has(id)) {
          this.#lineChanged(this.pending.update(id, LineState.REFUSED, problem));
          this.#flush();
        } else if (question) {
          const { review, room, gap } = question;
          if (review === "search") this.view.found(room, [], problem);
          this.#loadFailed(gap, problem);
          this.view.logChanged(room);
        } else {
          this.view.informed(problem);
        }
      },
      "not-confirmed": ({ id }) => this.#lineChanged(this.pending.update(id, LineState.UNCONFIRMED)),
      confirmed: ({ id }) => this.#acknowledged(id),
      topic: ({ room: name, ...topic }) => {
        const room = this.#room(name);
        if (!room) return;
        room.topic = topic;
        this.view.roomChanged(room);
      },
      away: ({ text }) => {
        this.away = text;
        this.view.informed(text ? `You are away: ${text}` : "You are back.");
        this.view.statusChanged();
      },
      "recipient-away": ({ nick, text }) => this.#inform(this.#privateWith(nick), `${nick} is away: ${text}`),
      members: ({ room: name, nicks, count }) => {
        const room = this.#room(name);
        room?.setMembers(nicks, count, this.nick);
        if (room) this.view.roomChanged(room);
      },
      rooms: (list) => this.view.roomsListed(list),
      replaced: () => this.yield(),
      notice: ({ text }) => this.view.informed(asSentence(text)),
      pong: () => {
        if (!this.awaitsEndOfResume) return;
        this.awaitsEndOfResume = false;
        this.#joinAll(RESUMING); // those that the server could not resume
      },
    };
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
      if (this.wantedNick) this.rename(this.wantedNick);
    } else {
      this.awaitsEndOfResume = true;
      if (this.hasNewNick) this.rename(this.wantedNick);
      this.#send({ type: "ping" }); // answered when all rooms are resumed
    }
    this.#joinAll(JOINING);
    this.save();
    this.view.statusChanged(); // now with the name of the session
    this.#flush();
  }

  /** @param {Membership} membership */
  #joinAll(membership) {
    for (const room of this.rooms) {
      const comesByItself = this.awaitsLobby && room.name === LOBBY;
      if (room.membership === membership && !comesByItself) this.#join(room);
    }
  }

  /** @param {Room} room */
  #join(room) {
    room.membership = JOINING;
    const id = this.#request({ type: "join", room: room.name }, (problem, cause) => {
      this.joins.delete(id);
      this.#joinRefused(room, problem, cause);
    });
    this.joins.set(id, room);
  }

  /** @param {string} problem */
  #nickRefused(problem) {
    const refused = this.wantedNick;
    if (!GUEST.test(this.nick)) {
      this.wantedNick = this.nick;
      this.userStore.set("nick", this.nick);
    }
    this.view.nickRefused(problem, refused);
  }

  // Rooms

  /** @param {string} name */
  #room(name) {
    const room = this.conversations.get(name);
    return room instanceof Room ? room : null;
  }

  /** @param {string} name */
  #addRoom(name) {
    const room = new Room(name);
    this.conversations.set(room.key, room);
    return room;
  }

  #listChanged() {
    this.userStore.set("rooms", this.rooms.map((room) => room.name));
    this.view.listChanged();
  }

  /**
   * Returns the room that the server means, perhaps by another name than was asked for; null for an unwanted lobby.
   *
   * @param {string} name
   */
  #enteredRoom(name) {
    const known = this.#room(name);
    const wasLobby = this.awaitsLobby;
    this.awaitsLobby = false;
    const joins = [...this.joins];
    const [id, room] = joins.find(([, { key }]) => key === name) ?? (known || wasLobby ? [] : joins[0]) ?? [];
    if (id) this.joins.delete(id);
    if (known) return known;
    if (!room) return wasLobby && this.rooms.length > 0 ? null : this.#addRoom(name);
    this.conversations.delete(room.key);
    this.pending.rekey(room.key, name);
    room.key = room.name = name;
    this.conversations.set(name, room);
    return room;
  }

  /** The member is in a room without a verdict. @param {Room} room @param {RoomEntered} event */
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
    Object.assign(room, { epoch, offset, membership: IN, announced: null });
    this.saveSoon();
    this.#flush();
    this.view.logChanged(room);
    this.view.roomChanged(room);
  }

  /** @param {Room} room */
  #beginLog({ log }) {
    log.startSegment();
    log.inform("The log of this room was begun anew. It is unknown what is missing.");
  }

  /** @param {Room} room @param {string} reason */
  #isOut(room, reason) {
    room.membership = OUT;
    this.pending.refuseAll(room.key, reason);
    this.#inform(room, reason);
    this.view.roomChanged(room);
    this.view.listChanged();
  }

  /** @param {Room} room @param {string} problem @param {string} cause */
  #joinRefused(room, problem, cause) {
    if (room.membership !== JOINING) return;
    const isOtherName = cause === "already_in_room";
    if ((!isOtherName && room.log.rows.length > 0) || this.pending.of(room.key).length > 0) {
      this.#isOut(room, problem);
      return;
    }
    this.conversations.delete(room.key);
    this.#listChanged();
    this.view.informed(problem);
  }

  // Entries

  /** @param {Room} room @param {RoomEntry} event */
  #apply(room, event) {
    const { kind, nick, text, time, own } = event;
    const row = room.log.append(event, { own, isMention: !own && this.#isMention(event) });
    if (kind === "said" || kind === "action") {
      if (row && !own) this.#messageReceived(room, row);
    } else if (kind === "erased") {
      room.log.erase(Number(text));
    } else {
      if (kind === "topic") room.topic = { text, nick, time };
      else if (kind === "notice") room.areMembersStale = room.count > CROWD;
      else if (PRESENCE_KINDS.has(kind)) room.applyPresence(event, this.nick);
      if (kind === "renamed") this.#partnerRenamed(nick, text);
      this.view.roomChanged(room);
    }
  }

  /** @param {string} from @param {string} to */
  #partnerRenamed(from, to) {
    const conversation = this.conversations.get(privateKey(from));
    if (!conversation || this.conversations.has(privateKey(to))) return;
    this.conversations.delete(conversation.key);
    this.pending.rekey(conversation.key, privateKey(to));
    conversation.key = privateKey(to);
    conversation.name = to;
    this.conversations.set(conversation.key, conversation);
    this.#inform(conversation, `${from} is now ${to}.`);
    this.view.listChanged();
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

  /** @param {Row | undefined} row @param {string} problem */
  #loadFailed(row, problem) {
    if (!row?.gap) return;
    row.gap.isLoading = false;
    row.gap.problem = problem;
    row.version += 1;
  }

  // Private messages

  /** @param {string} nick */
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

  // Lines of the user, and refusals

  /** @param {string} id */
  #acknowledged(id) {
    this.refusals.delete(id);
    const line = this.pending.take(id);
    this.#lineChanged(line);
    if (line) this.#flush();
  }

  /** @param {Line | undefined} line */
  #lineChanged(line) {
    const conversation = line && this.conversations.get(line.key);
    if (conversation) this.view.logChanged(conversation);
  }

  #allLogsChanged() {
    for (const conversation of this.conversations.values()) this.view.logChanged(conversation);
  }

  /** @param {AnyConversation} conversation @param {string} text */
  #inform(conversation, text) {
    conversation.log.inform(text);
    this.view.logChanged(conversation);
  }

  /** @param {string} cause @param {string} problem */
  #resumeRefused(cause, problem) {
    if (cause === "store_failed") {
      this.connection.drop(problem);
      return;
    }
    this.pending.sessionEnded("");
    this.#forgetSession();
    this.view.informed(`The session could not be continued, and a new one begins. The server says: ${problem}`);
    this.connection.restart();
  }
}
