/** The page of the chat. It connects the parts. */

import { CommandRunner } from "./commands.js";
import { Composer } from "./composer.js";
import { Room } from "./conversation.js";
import { ConfirmDialog, HelpDialog, JoinDialog, NickDialog, SearchDialog, SettingsDialog, TopicDialog } from "./dialogs.js";
import { byId, dayOf, nickElement, onClick, oncePerFrame, setText, textElement } from "./elements.js";
import { Announcer, Attention, ConnectionBar, ConversationList, Drawers, MembersList, notify } from "./frame.js";
import { LogView } from "./log_view.js";
import { Phase, Session } from "./session.js";
import { Settings, Store, TabGuard } from "./storage.js";

const ATTENTION_MS = 250;
const DAY_CHECK_MS = 30_000;

class Page {
  constructor() {
    /** @type {AnyConversation | null} */
    this.current = null;
    this.tabStore = new Store(() => sessionStorage);
    const userStore = new Store(() => localStorage);
    this.drawList = oncePerFrame(() => this.#drawList());
    this.drawRoom = oncePerFrame(() => this.#drawRoom());
    /** @type {number | undefined} */
    this.attentionTimer = undefined;
    this.day = dayOf(Date.now());
    this.shownNick = "";

    const url = new URL("ws", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const session = new Session(url.href, this.#view(), this.tabStore, userStore);
    /** @type {Session} */
    this.session = session;
    this.guard = new TabGuard(`netsvc-chat ${url.pathname}`, () => session.yield());
    this.bar = new ConnectionBar(session, () => {
      this.guard.take(session.name);
      session.start();
    });
    this.drawers = new Drawers();
    this.announcer = new Announcer();
    this.attention = new Attention();
    this.list = new ConversationList({
      open: (conversation) => this.#open(conversation),
      leave: (conversation) => session.leave(conversation),
    });
    this.members = new MembersList((nick) => session.openPrivate(nick));
    /** @type {LogView} */
    this.log = new LogView(byId("messages"), session, {
      erase: (row) => void this.#erase(row),
      edit: ({ id, text, action }) => {
        session.dismiss(id);
        this.composer.add(action ? `/me ${text}` : text.replace(/^\//, "//"));
      },
      moved: () => this.#logMoved(),
    });
    const runner = new CommandRunner(session, this.#desk());
    this.composer = new Composer({
      submit: (text) => runner.run(text),
      names: () => this.#names(),
      scroll: (pages) => byId("messages").scrollBy(0, pages * byId("messages").clientHeight * 0.9),
    });
    this.settings = new Settings(userStore, () => this.#applySettings());
    this.nickDialog = new NickDialog(
      (nick) => {
        session.rename(nick);
        if (session.phase === Phase.IDLE) session.start();
      },
      () => session.phase === Phase.IDLE && session.start(),
    );
    this.joinDialog = new JoinDialog((room) => session.join(room));
    this.searchDialog = new SearchDialog(
      (words) => this.room && session.search(this.room, words),
      (offset) => this.log.scrollTo(offset),
    );
    this.topicDialog = new TopicDialog((topic) => this.room && session.setTopic(this.room, topic));
    this.settingsDialog = new SettingsDialog(this.settings);
    this.helpDialog = new HelpDialog();
    this.confirmDialog = new ConfirmDialog();
    this.#listen();
  }

  async start() {
    const { session } = this;
    this.#applySettings();
    const key = this.tabStore.get("current", "");
    this.#select(session.conversations.get(key) ?? session.rooms[0] ?? null);
    this.#statusChanged();
    if (session.token && (await this.guard.isUsedElsewhere(session.name))) session.yield();
    else if (session.token || session.wantedNick) session.start();
    else this.nickDialog.ask("", "", true);
  }

  #listen() {
    const { session } = this;
    onClick("open-join", () => this.#openJoin());
    onClick("join-first", () => this.#openJoin());
    onClick("open-nick", () => this.nickDialog.ask(session.nick, "", false));
    onClick("open-settings", () => this.settingsDialog.show());
    onClick("open-help", () => this.helpDialog.show());
    onClick("open-topic", () => this.room && this.topicDialog.ask(this.room));
    onClick("open-search", () => this.#openSearch(""));
    onClick("open-rooms", () => this.drawers.toggle("rooms"));
    onClick("open-members", () => {
      if (!this.drawers.toggle("members")) this.settings.set({ showsMembers: !this.settings.values.showsMembers });
    });
    onClick("jump", () => this.#jump());
    byId("messages").addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey, target }) => {
      const isTyping = key.length === 1 && key !== " " && !ctrlKey && !metaKey && !altKey;
      if (isTyping && target === byId("messages")) this.composer.focus();
    });
    document.addEventListener("keydown", (event) => this.#keyDown(event));
    document.addEventListener("visibilitychange", () => this.#visibilityChanged());
    addEventListener("focus", () => this.#logMoved());
    for (const event of ["online", "offline", "pageshow"]) addEventListener(event, () => session.connection.check());
    addEventListener("pagehide", () => this.#save());
    setInterval(() => this.#checkDay(), DAY_CHECK_MS);
  }

  get room() {
    return this.current instanceof Room ? this.current : null;
  }

  /** @returns {View} */
  #view() {
    return {
      statusChanged: () => this.#statusChanged(),
      listChanged: () => {
        const { conversations } = this.session;
        if (!conversations.has(this.current?.key ?? "")) this.#select([...conversations.values()][0] ?? null);
        this.drawList();
        this.attentionTimer ??= setTimeout(() => this.#drawAttention(), ATTENTION_MS);
      },
      logChanged: (conversation) => this.log.changed(conversation),
      roomChanged: (room) => room === this.current && this.drawRoom(),
      opened: (conversation) => this.#open(conversation),
      received: (conversation, { nick, text, isMention }) => {
        const where = conversation.isPrivate ? "privately" : `in ${conversation.name}`;
        if (conversation === this.current) this.announcer.announce(`${nick}: ${text}`);
        else if (isMention) this.announcer.announce(`${nick} ${where}: ${text}`);
        if (isMention && this.settings.values.notifies && !document.hasFocus()) {
          notify(`${nick} ${where}`, text, conversation.key, () => this.#open(conversation));
        }
      },
      isShown: (conversation) => conversation === this.current,
      isReading: (conversation) => this.#isReading(conversation),
      informed: (text) => this.#inform(text),
      nickRefused: (problem, nick) => this.nickDialog.ask(nick, `${problem} You are ${this.session.nick}.`, false),
      roomsListed: (list) => this.joinDialog.showRooms(list),
      found: (room, entries, problem) => room === this.current && this.searchDialog.showFound(entries, problem),
    };
  }

  /** @returns {Desk} */
  #desk() {
    return {
      current: () => this.current,
      toEnd: () => this.log.toEnd(),
      logChanged: (conversation) => this.log.changed(conversation),
      informed: (text) => this.#inform(text),
      confirm: (question) => this.confirmDialog.ask(question),
      openJoin: () => this.#openJoin(),
      openHelp: () => this.helpDialog.show(),
      openSearch: (words) => this.#openSearch(words),
    };
  }

  #statusChanged() {
    const { nick, away, phase, name } = this.session;
    if (nick !== this.shownNick) this.log.renew(); // mentions
    this.shownNick = nick;
    this.guard.claimed = [Phase.IDLE, Phase.ELSEWHERE, Phase.LEFT].includes(phase) ? "" : name;
    this.bar.show();
    this.drawRoom();
    const shown = nick || "Choose a nick";
    const suffix = away ? " (away)" : "";
    byId("open-nick").replaceChildren(nickElement(shown), suffix);
    byId("open-nick").setAttribute("aria-label", `Your nick: ${shown}${suffix}. Change it`);
  }

  // What the user does

  /** @param {AnyConversation} conversation */
  #open(conversation) {
    this.drawers.close();
    this.#select(conversation);
    this.#focusMessage();
  }

  /** On a phone, the focus would open the keyboard. */
  #focusMessage() {
    if (matchMedia("(pointer: fine)").matches) this.composer.focus();
  }

  #openJoin() {
    this.joinDialog.showWith("");
    if (this.session.isOnline) this.session.listRooms();
  }

  /** @param {string} words */
  #openSearch(words) {
    if (this.room) this.searchDialog.ask(this.room.name, words);
  }

  /** @param {AnyConversation} conversation */
  #isReading(conversation) {
    return conversation === this.current && !document.hidden && this.log.isAtEnd;
  }

  /** @param {string} text */
  #inform(text) {
    this.announcer.announce(text);
    this.current?.log.inform(text);
    if (this.current) this.log.changed(this.current);
  }

  /** @param {AnyConversation | null} conversation */
  #select(conversation) {
    const { current, composer } = this;
    if (conversation === current) return;
    if (current) current.draft = composer.isSubmitting ? "" : composer.text;
    current?.removeMark();
    this.current = conversation;
    this.tabStore.set("current", conversation?.key ?? "");
    this.#drawRoom();
    composer.show(conversation?.draft ?? "");
    this.log.show(conversation);
    this.drawList();
  }

  /** @param {number} step @param {boolean} isUnread */
  #selectNext(step, isUnread) {
    const all = [...this.session.conversations.values()];
    const shown = [...this.session.rooms, ...all.filter((each) => each.isPrivate)];
    const index = this.current ? shown.indexOf(this.current) : -1;
    const following = [...shown.slice(index + 1), ...shown.slice(0, Math.max(0, index))];
    const next = (step > 0 ? following : following.reverse()).find((each) => !isUnread || each.unread > 0);
    if (next) this.#open(next);
  }

  #logMoved() {
    const { current, log } = this;
    if (current && this.#isReading(current)) this.session.markRead(current);
    byId("jump").hidden = current === null || log.isAtEnd;
    setText(byId("jump"), current?.unread ? `Jump to latest (${current.unread} new)` : "Jump to latest");
  }

  #jump() {
    this.log.toEnd();
    this.composer.focus();
  }

  /** @param {Row} row */
  async #erase(row) {
    const { room } = this;
    const question = { title: "Erase this message?", text: row.text, action: "Erase" };
    if (room && (await this.confirmDialog.ask(question))) this.session.erase(room, row);
  }

  /** @param {KeyboardEvent} event */
  #keyDown(event) {
    if (document.querySelector("dialog[open]") || event.isComposing) return;
    if (event.altKey && !event.ctrlKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      this.#selectNext(event.key === "ArrowUp" ? -1 : 1, event.shiftKey);
    } else if (event.key === "Escape" && !this.drawers.close()) {
      this.#jump();
    }
  }

  #visibilityChanged() {
    if (document.hidden) {
      this.#save();
      return;
    }
    this.session.connection.check();
    this.#checkDay();
    this.#logMoved();
  }

  #checkDay() {
    const day = dayOf(Date.now());
    if (day !== this.day) this.log.renew();
    this.day = day;
  }

  #save() {
    if (this.current) this.current.draft = this.composer.text;
    this.session.save();
  }

  /** @returns {KnownNames} */
  #names() {
    const { conversations, rooms } = this.session;
    const speakers = this.current?.log.rows.slice(-200).reverse() ?? [];
    const partners = [...conversations.values()].filter((each) => each.isPrivate);
    const nicks = [
      ...speakers.filter(({ nick, own }) => nick && !own).map(({ nick }) => nick),
      ...[...(this.room?.others.values() ?? [])].sort(),
      ...partners.map(({ name }) => name),
    ];
    return { nicks: [...new Set(nicks)], rooms: rooms.map(({ name }) => name) };
  }

  // Drawing

  #drawList() {
    const all = [...this.session.conversations.values()];
    this.list.show(all, this.current);
    const others = all.filter((each) => each !== this.current);
    const mentions = others.reduce((sum, each) => sum + each.mentions, 0);
    // Not as text: the name of the button stays the same.
    const isUnread = others.some((each) => each.unread);
    byId("open-rooms").dataset.badge = mentions > 0 ? String(mentions) : isUnread ? "•" : "";
  }

  #drawAttention() {
    clearTimeout(this.attentionTimer);
    this.attentionTimer = undefined;
    const sum = { unread: 0, mentions: 0 };
    for (const { unread, mentions } of this.session.conversations.values()) {
      sum.unread += unread;
      sum.mentions += mentions;
    }
    this.attention.show(this.current?.name ?? "", sum.unread, sum.mentions);
  }

  #drawRoom() {
    const { current, room, session, drawers } = this;
    setText(byId("title"), current?.name ?? "Chat");
    const topic = room?.topic.text ? textElement(room.topic.text) : room ? "No topic" : "";
    byId("topic-text").replaceChildren(current?.isPrivate ? "Private. Only this tab keeps the messages." : topic);
    for (const id of ["open-topic", "open-search", "open-members"]) byId(id).hidden = !room;
    const isFirst = current !== null && byId("composer").hidden;
    for (const id of ["messages", "composer"]) byId(id).hidden = !current;
    if (isFirst && document.activeElement === document.body) this.#focusMessage();
    byId("empty").hidden = current !== null || session.phase === Phase.IDLE;
    drawers.showsMembers = room !== null && this.settings.values.showsMembers;
    drawers.update();
    if (room) this.members.show(room, session.nick);
    if (room && drawers.areMembersVisible) session.listMembers(room);
    this.composer.describe(current?.isPrivate ? `${current.name} privately` : (current?.name ?? ""));
    this.#drawAttention();
  }

  #applySettings() {
    const { theme, showsPresence } = this.settings.values;
    document.documentElement.dataset.theme = theme;
    this.log.showsPresence = showsPresence;
    this.log.renew();
    this.drawRoom();
  }
}

void new Page().start();
