/**
 * The page of the chat. It connects the parts: the session, the lists, the log, the box for messages, and the dialogs.
 *
 * The names by which tests and screen readers find the parts are listed in index.html.
 */

import { Announcer } from "./announcer.js";
import { Attention, notify } from "./attention.js";
import { CommandRunner } from "./command_runner.js";
import { CommandError } from "./commands.js";
import { Composer } from "./composer.js";
import { ConnectionBar } from "./connection_bar.js";
import { Room } from "./conversation.js";
import { ConversationList } from "./conversation_list.js";
import { ConfirmDialog, HelpDialog, JoinDialog, NickDialog, SearchDialog, SettingsDialog, TopicDialog } from "./dialogs.js";
import { byId, element, oncePerFrame } from "./dom.js";
import { Drawers } from "./drawers.js";
import { LogView } from "./log_view.js";
import { MemberList } from "./member_list.js";
import { nickElement, textElement } from "./message_row.js";
import { Phase, Session } from "./session.js";
import { Settings } from "./settings.js";
import { Storage } from "./storage.js";
import { TabGuard } from "./tab_guard.js";
import { dayOf } from "./times.js";

/** @typedef {import("./conversation.js").AnyConversation} AnyConversation */
/** @typedef {import("./message_log.js").Row} Row */

/** Milliseconds in which changes of the title and the icon are collected. */
const ATTENTION_DELAY = 250;

class Page {
  constructor() {
    /** @type {AnyConversation | null} */
    this.current = null;
    this.tabStorage = new Storage(() => window.sessionStorage);
    this.userStorage = new Storage(() => window.localStorage);
    this.drawList = oncePerFrame(() => this.#drawList());
    this.drawRoom = oncePerFrame(() => this.#drawRoom());
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.attentionTimer = undefined;
    this.day = dayOf(Date.now());
    this.shownNick = "";

    const url = new URL("ws", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const session = new Session(url.href, this, this.tabStorage, this.userStorage);
    /** @type {Session} */
    this.session = session;
    this.guard = new TabGuard(`netsvc-chat ${url.pathname}`, () => session.yield());
    this.bar = new ConnectionBar(session, () => this.#takeOver());
    this.drawers = new Drawers();
    this.announcer = new Announcer();
    this.attention = new Attention();
    this.list = new ConversationList({
      open: (conversation) => this.select(conversation),
      leave: (conversation) => session.leave(conversation),
    });
    this.members = new MemberList((nick) => session.openPrivate(nick));
    /** @type {LogView} */
    this.log = new LogView(byId("messages"), session, {
      erase: (conversation, row) => void this.#erase(conversation, row),
      edit: ({ id, text, action }) => {
        session.dismiss(id);
        this.composer.add(action ? `/me ${text}` : text.startsWith("/") ? `/${text}` : text);
      },
      dismiss: ({ id }) => session.dismiss(id),
      load: (conversation, row, forward) => {
        if (!conversation.isPrivate && session.load(conversation, row, { forward })) this.log.changed(conversation);
      },
      moved: () => this.#logMoved(),
    });
    this.runner = new CommandRunner(session, this);
    this.composer = new Composer({
      submit: (text) => this.#submit(text),
      names: () => this.#names(),
      scroll: (pages) => byId("messages").scrollBy(0, pages * byId("messages").clientHeight * 0.9),
    });
    this.settings = new Settings(this.userStorage, () => this.#applySettings());
    this.nickDialog = new NickDialog({
      choose: (nick) => {
        session.rename(nick);
        if (session.phase === Phase.IDLE) session.start();
      },
      dismissed: () => session.phase === Phase.IDLE && session.start(),
    });
    this.joinDialog = new JoinDialog({
      join: (room) => session.join(room),
      list: () => session.isOnline && session.listRooms(),
    });
    this.searchDialog = new SearchDialog({
      search: (words) => this.current instanceof Room && session.search(this.current, words),
      open: (offset) => this.log.scrollTo(offset),
    });
    this.topicDialog = new TopicDialog((topic) => this.current instanceof Room && session.setTopic(this.current, topic));
    this.settingsDialog = new SettingsDialog(this.settings);
    this.helpDialog = new HelpDialog();
    this.confirmDialog = new ConfirmDialog();
    this.#listen();
  }

  async start() {
    const { session } = this;
    this.#applySettings();
    const key = this.tabStorage.get("current", "");
    this.select(session.conversations.get(key) ?? session.rooms[0] ?? null);
    this.bar.show();
    if (session.token && (await this.guard.isUsedElsewhere(session.name))) session.yield();
    else if (session.token || session.wantedNick) session.start();
    else this.nickDialog.show("", "", true);
  }

  #listen() {
    const { session } = this;
    byId("open-join").addEventListener("click", () => this.openJoin());
    byId("open-nick").addEventListener("click", () => this.nickDialog.show(session.nick, "", false));
    byId("open-settings").addEventListener("click", () => this.settingsDialog.show());
    byId("open-help").addEventListener("click", () => this.openHelp());
    byId("open-topic").addEventListener("click", () => this.current instanceof Room && this.topicDialog.show(this.current));
    byId("open-search").addEventListener("click", () => this.openSearch(""));
    byId("open-rooms").addEventListener("click", () => this.drawers.toggle("rooms"));
    byId("open-members").addEventListener("click", () => {
      if (!this.drawers.toggle("members")) this.settings.set({ showsMembers: !this.settings.values.showsMembers });
    });
    byId("jump").addEventListener("click", () => {
      this.log.toEnd();
      this.composer.focus();
    });
    byId("messages").addEventListener("keydown", (event) => {
      const isTyping = event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey;
      if (isTyping && event.target === event.currentTarget) this.composer.focus();
    });
    document.addEventListener("keydown", (event) => this.#keyDown(event));
    document.addEventListener("visibilitychange", () => this.#visibilityChanged());
    window.addEventListener("focus", () => this.#logMoved());
    window.addEventListener("online", () => session.connection.check());
    window.addEventListener("offline", () => session.connection.check());
    window.addEventListener("pageshow", (event) => event.persisted && session.connection.check());
    window.addEventListener("pagehide", () => this.#save());
    setInterval(() => this.#checkDay(), 30_000);
  }

  // What the session tells (session.js, View)

  statusChanged() {
    const { session } = this;
    if (session.nick !== this.shownNick) {
      this.shownNick = session.nick;
      this.log.renew(); // mentions
    }
    const isHere = session.phase !== Phase.ELSEWHERE && session.phase !== Phase.LEFT;
    this.guard.claim(isHere ? session.name : "");
    this.bar.show();
    this.drawRoom();
    const nick = session.nick || "Choose a nick";
    const button = byId("open-nick");
    button.replaceChildren(nickElement(nick), ...(session.away ? [element("span", { class: "detail" }, " (away)")] : []));
    button.setAttribute("aria-label", `Your nick: ${nick}. Change it`);
  }

  listChanged() {
    if (this.current === null || !this.session.conversations.has(this.current.key)) {
      this.select([...this.session.conversations.values()][0] ?? null);
    }
    this.drawList();
    this.attentionTimer ??= setTimeout(() => this.#drawAttention(), ATTENTION_DELAY);
  }

  /** @param {AnyConversation} conversation */
  logChanged(conversation) {
    this.log.changed(conversation);
  }

  /** @param {Room} room */
  roomChanged(room) {
    if (room === this.current) this.drawRoom();
  }

  /** @param {AnyConversation} conversation */
  opened(conversation) {
    this.select(conversation);
  }

  /** @param {AnyConversation} conversation @param {Row} row */
  received(conversation, row) {
    const isHidden = document.visibilityState === "hidden" || !document.hasFocus();
    const where = conversation.isPrivate ? "privately" : `in ${conversation.name}`;
    if (conversation === this.current) this.announcer.announce(`${row.nick}: ${row.text}`);
    else if (row.isMention) this.announcer.announce(`${row.nick} ${where}: ${row.text}`);
    if (row.isMention && isHidden && this.settings.values.notifies) {
      notify(`${row.nick} ${where}`, row.text, conversation.key, () => this.select(conversation));
    }
  }

  /** @param {AnyConversation} conversation */
  isShown(conversation) {
    return conversation === this.current;
  }

  /** @param {AnyConversation} conversation */
  isReading(conversation) {
    return conversation === this.current && document.visibilityState === "visible" && this.log.isAtEnd;
  }

  /** @param {string} text */
  informed(text) {
    this.announcer.announce(text);
    if (this.current === null) return;
    this.current.log.inform(text);
    this.log.changed(this.current);
  }

  /** @param {string} problem @param {string} nick */
  nickRefused(problem, nick) {
    this.nickDialog.show(nick, `${problem} You are ${this.session.nick}.`, false);
  }

  /** @param {import("./protocol.js").RoomList} list */
  roomsListed(list) {
    this.joinDialog.showRooms(list);
  }

  /** @param {Room} room @param {import("./protocol.js").Entry[]} entries @param {string} problem */
  found(room, entries, problem) {
    if (room === this.current) this.searchDialog.showFound(entries, problem);
  }

  // The current conversation

  /** @param {AnyConversation | null} conversation */
  select(conversation) {
    this.drawers.close();
    if (conversation !== this.current) {
      if (this.current !== null) {
        this.current.draft = this.composer.isSubmitting ? "" : this.composer.text;
        this.current.removeMark();
      }
      this.current = conversation;
      this.tabStorage.set("current", conversation?.key ?? "");
      this.#drawRoom();
      this.composer.showProblem("");
      this.composer.text = conversation?.draft ?? "";
      this.log.show(conversation);
      this.drawList();
    }
    if (conversation !== null && window.matchMedia("(pointer: fine)").matches) this.composer.focus();
  }

  /** @param {number} step @param {boolean} isUnread whether to skip those without unread messages */
  #selectNext(step, isUnread) {
    const all = [...this.session.conversations.values()];
    const shown = [...all.filter((each) => !each.isPrivate), ...all.filter((each) => each.isPrivate)];
    const index = this.current === null ? -1 : shown.indexOf(this.current);
    for (let count = 1; count <= shown.length; count += 1) {
      const next = shown[(index + step * count + shown.length * (count + 1)) % shown.length];
      if (!isUnread || next.unread > 0) {
        this.select(next);
        return;
      }
    }
  }

  #logMoved() {
    const { current } = this;
    const jump = byId("jump");
    if (current !== null && this.isReading(current)) this.session.markRead(current);
    jump.hidden = current === null || this.log.isAtEnd;
    const label = current?.unread ? `Jump to latest (${current.unread} new)` : "Jump to latest";
    if (jump.textContent !== label) jump.textContent = label;
  }

  /** @param {string} words to search for at once */
  openSearch(words) {
    if (!(this.current instanceof Room)) return;
    this.searchDialog.show(this.current.name, words);
    if (words) this.session.search(this.current, words);
  }

  /** @param {AnyConversation} room @param {Row} row */
  async #erase(room, row) {
    if (!(room instanceof Room)) return;
    const question = { title: "Erase this message?", text: row.text, action: "Erase" };
    if (await this.confirm(question)) this.session.erase(room, row);
  }

  // What is typed (command_runner.js, Desk)

  toEnd() {
    this.log.toEnd();
  }

  openJoin() {
    this.joinDialog.show();
  }

  openHelp() {
    this.helpDialog.show();
  }

  /** @param {import("./dialogs.js").Question} question @returns {Promise<boolean>} */
  confirm(question) {
    return this.confirmDialog.ask(question);
  }

  /** @param {string} text @returns {Promise<boolean>} whether it is sent */
  async #submit(text) {
    try {
      return await this.runner.run(text);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      this.composer.showProblem(error.message);
      return false;
    }
  }

  /** @returns {import("./completion.js").Names} */
  #names() {
    const { current, session } = this;
    const recent = new Set();
    for (const row of current?.log.rows.slice(-200).reverse() ?? []) if (row.nick && !row.own) recent.add(row.nick);
    const others = current instanceof Room ? [...current.others.values()].sort() : [];
    for (const nick of others) recent.add(nick);
    for (const each of session.conversations.values()) if (each.isPrivate) recent.add(each.name);
    return { nicks: [...recent], rooms: session.rooms.map((room) => room.name) };
  }

  // Drawing

  #drawList() {
    this.list.show(this.session.conversations.values(), this.current);
    const others = [...this.session.conversations.values()].filter((each) => each !== this.current && each.unread > 0);
    const mentions = others.reduce((sum, each) => sum + each.mentions, 0);
    const badge = byId("elsewhere-badge");
    badge.textContent = others.length === 0 ? "" : mentions > 0 ? String(mentions) : "•";
    badge.classList.toggle("mentions", mentions > 0);
  }

  #drawAttention() {
    clearTimeout(this.attentionTimer);
    this.attentionTimer = undefined;
    let unread = 0;
    let mentions = 0;
    for (const conversation of this.session.conversations.values()) {
      unread += conversation.unread;
      mentions += conversation.mentions;
    }
    this.attention.show(this.current?.name ?? "", unread, mentions);
  }

  #drawRoom() {
    const { current, session } = this;
    const room = current instanceof Room ? current : null;
    byId("title").textContent = current?.name ?? "Chat";
    const topic = byId("topic-text");
    if (current?.isPrivate) topic.replaceChildren("Private. This tab alone keeps the messages.");
    else if (room?.topic.text) topic.replaceChildren(textElement(room.topic.text, null));
    else topic.replaceChildren(room === null ? "" : "No topic");
    topic.classList.toggle("none", !room?.topic.text);
    for (const id of ["open-topic", "open-search", "open-members"]) byId(id).hidden = room === null;
    this.drawers.showMembers(room !== null && this.settings.values.showsMembers);
    this.members.show(room, session.nick);
    if (room !== null && this.drawers.areMembersVisible) session.listMembers(room);
    byId("messages").hidden = current === null;
    byId("composer").hidden = current === null;
    this.#drawEmpty();
    const where = current === null ? "" : current.isPrivate ? `${current.name} privately` : current.name;
    this.composer.describe(`Message ${where}`, `To ${where}`);
    this.#drawAttention();
  }

  #drawEmpty() {
    const empty = byId("empty");
    empty.hidden = this.current !== null || this.session.phase === Phase.IDLE;
    if (empty.hidden || empty.firstChild) return;
    const join = element("button", { type: "button", class: "primary", onclick: () => this.openJoin() }, "Join a room");
    empty.append(element("p", {}, "You are in no room."), join);
  }

  #applySettings() {
    const { theme, showsPresence } = this.settings.values;
    document.documentElement.dataset.theme = theme;
    if (this.log.showsPresence !== showsPresence) {
      this.log.showsPresence = showsPresence;
      this.log.renew();
    }
    this.drawRoom();
  }

  // The window

  /** @param {KeyboardEvent} event */
  #keyDown(event) {
    if (document.querySelector("dialog[open]")) return;
    if (event.altKey && !event.ctrlKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      this.#selectNext(event.key === "ArrowUp" ? -1 : 1, event.shiftKey);
    } else if (event.key === "Escape" && !event.isComposing) {
      if (this.drawers.close()) return;
      this.log.toEnd();
      this.composer.focus();
    }
  }

  #visibilityChanged() {
    if (document.visibilityState === "hidden") {
      this.#save();
      return;
    }
    this.session.connection.check();
    this.#checkDay();
    this.#logMoved();
  }

  #checkDay() {
    if (this.day === dayOf(Date.now())) return;
    this.day = dayOf(Date.now());
    this.log.renew();
  }

  #takeOver() {
    this.guard.take(this.session.name);
    this.session.start();
  }

  #save() {
    if (this.current !== null) this.current.draft = this.composer.text;
    this.session.save();
  }
}

void new Page().start();
