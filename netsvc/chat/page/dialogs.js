/** The dialogs of the page. Each is a `<dialog>` of index.html. */

import { COMMANDS } from "./commands.js";
import { button, byId, clock, dayName, element, grouped, nickElement, setText, textElement } from "./elements.js";
import { notificationProblem } from "./frame.js";
import { NAME_MAX, TEXT_MAX, byteLength, nickProblem } from "./protocol.js";

/** It closes by Escape, by its buttons, on the backdrop, and when `submit` returns true. */
class Dialog {
  /** @param {string} id @param {() => boolean} submit */
  constructor(id, submit = () => true) {
    /** @type {HTMLDialogElement} */
    this.dialog = byId(id);
    this.input = /** @type {HTMLInputElement} */ (this.dialog.querySelector("input"));
    this.problem = this.dialog.querySelector(".problem");
    this.dialog.addEventListener("submit", (event) => {
      event.preventDefault();
      if (submit()) this.dialog.close("done");
    });
    this.dialog.addEventListener("click", ({ target }) => {
      const isCancel = target instanceof HTMLElement && "close" in target.dataset;
      if (isCancel || target === this.dialog) this.dialog.close("");
    });
  }

  show(problem = "") {
    this.showProblem(problem);
    this.dialog.returnValue = "";
    if (!this.dialog.open) this.dialog.showModal();
  }

  /** @param {string} text @param {string} problem */
  showWith(text, problem = "") {
    this.input.value = text;
    this.show(problem);
    this.input.select();
  }

  get text() {
    return this.input.value.trim();
  }

  /** @param {string} problem */
  showProblem(problem) {
    if (this.problem) setText(this.problem, problem);
    return problem === "";
  }
}

export class NickDialog extends Dialog {
  /** @param {(nick: string) => void} choose @param {() => void} dismissed */
  constructor(choose, dismissed) {
    super("nick-dialog", () => {
      const isNick = this.showProblem(nickProblem(this.text));
      if (isNick) choose(this.text);
      return isNick;
    });
    this.dialog.addEventListener("close", () => this.dialog.returnValue || dismissed());
  }

  /** @param {string} nick @param {string} problem @param {boolean} isFirst */
  ask(nick, problem, isFirst) {
    setText(byId("nick-title"), isFirst ? "Join the chat" : "Change your nick");
    setText(byId("nick-submit"), isFirst ? "Join" : "Change");
    setText(byId("nick-cancel"), isFirst ? "Join as a guest" : "Cancel");
    this.showWith(nick, problem);
  }
}

export class JoinDialog extends Dialog {
  /** @param {(room: string) => void} join */
  constructor(join) {
    super("join-dialog", () => {
      const name = this.text.replace(/^#/, "");
      const isLong = byteLength(name) > NAME_MAX;
      const problem = isLong ? `A name has at most ${NAME_MAX} bytes.` : name ? "" : "Type the name of a room.";
      if (!problem) join(name);
      return this.showProblem(problem);
    });
    this.join = join;
  }

  /** @param {RoomList} list */
  showRooms({ count, rooms }) {
    const items = rooms.map(({ room, members }) => {
      const size = element("span", { class: "detail" }, members === 1 ? "1 member" : `${grouped(members)} members`);
      const join = () => {
        this.dialog.close();
        this.join(room);
      };
      return element("li", {}, button(join, {}, element("bdi", {}, room), " ", size));
    });
    const rest = count - rooms.length;
    if (rest > 0) items.push(element("li", {}, `and ${grouped(rest)} more`));
    byId("found-rooms").replaceChildren(...items);
  }
}

export class SearchDialog extends Dialog {
  /** @param {(words: string) => void} search @param {(offset: number) => void} open */
  constructor(search, open) {
    super("search-dialog", () => {
      if (this.text) this.search();
      return false;
    });
    this.search = () => {
      this.showProblem("Searching…");
      search(this.text);
    };
    this.open = open;
  }

  /** @param {string} room @param {string} words */
  ask(room, words) {
    setText(byId("search-title"), `Search ${room}`);
    byId("found").replaceChildren();
    this.showWith(words);
    if (words) this.search();
  }

  /** @param {Entry[]} entries @param {string} problem */
  showFound(entries, problem) {
    const many = entries.length > 0 ? `${entries.length} messages found, the latest first.` : "Nothing was found.";
    this.showProblem(problem || (entries.length === 1 ? "1 message found." : many));
    const items = entries.toReversed().map(({ time, nick, text, offset }) => {
      const when = element("span", { class: "detail" }, ` ${dayName(time)}, ${clock.format(time)}`);
      const open = () => {
        this.dialog.close();
        this.open(offset);
      };
      const shown = element("span", { class: "text", dir: "auto" }, text);
      return element("li", {}, button(open, {}, nickElement(nick), when, shown));
    });
    byId("found").replaceChildren(...items);
  }
}

export class TopicDialog extends Dialog {
  /** @param {(topic: string) => void} set */
  constructor(set) {
    super("topic-dialog", () => {
      const over = byteLength(this.text) - TEXT_MAX;
      if (over <= 0) set(this.text);
      return this.showProblem(over > 0 ? `The topic is ${over} bytes too long.` : "");
    });
  }

  /** @param {Room} room */
  ask({ name, topic: { text, nick, time } }) {
    setText(byId("topic-title"), `Topic of ${name}`);
    setText(byId("topic-by"), text && nick ? `Set by ${nick}, ${dayName(time)}, ${clock.format(time)}.` : "");
    this.showWith(text);
  }
}

export class SettingsDialog extends Dialog {
  /** @param {Settings} settings */
  constructor(settings) {
    super("settings-dialog");
    this.settings = settings;
    /** @type {HTMLSelectElement} */
    this.theme = byId("theme");
    /** @type {HTMLInputElement} */
    this.presence = byId("shows-presence");
    /** @type {HTMLInputElement} */
    this.notifies = byId("notifies");
    this.dialog.addEventListener("change", async () => {
      const { theme, presence, notifies } = this;
      const isAllowed = notifies.checked && (await Notification.requestPermission()) === "granted";
      settings.set({ theme: theme.value, showsPresence: presence.checked, notifies: isAllowed });
      this.#update();
    });
  }

  show() {
    this.#update();
    super.show();
  }

  #update() {
    const problem = notificationProblem();
    const { theme, showsPresence, notifies } = this.settings.values;
    this.theme.value = theme;
    this.presence.checked = showsPresence;
    this.notifies.checked = notifies && !problem;
    this.notifies.disabled = problem !== "";
    setText(byId("notifies-problem"), problem);
  }
}

export class HelpDialog extends Dialog {
  constructor() {
    super("help-dialog");
    const escape = { name: "/TEXT", usage: "", help: "Say a text that begins with /" };
    for (const { name, usage, help } of [...COMMANDS, escape]) {
      const command = element("code", {}, `/${name} ${usage}`.trimEnd());
      byId("commands").append(element("dt", {}, command), element("dd", {}, help));
    }
  }
}

export class ConfirmDialog extends Dialog {
  constructor() {
    super("confirm-dialog");
  }

  /** @param {Confirmation} question @returns {Promise<boolean>} */
  ask({ title, text, action }) {
    setText(byId("confirm-title"), title);
    byId("confirm-text").replaceChildren(textElement(text));
    setText(byId("confirm-submit"), action);
    this.show();
    return new Promise((resolve) => {
      this.dialog.addEventListener("close", () => resolve(this.dialog.returnValue === "done"), { once: true });
    });
  }
}
