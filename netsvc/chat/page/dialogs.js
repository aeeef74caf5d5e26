/** The dialogs of the page. Each is a `<dialog>` of index.html. */

import { allowNotifications, notificationProblem } from "./attention.js";
import { COMMANDS } from "./commands.js";
import { byId, element } from "./dom.js";
import { nickElement, textElement } from "./message_row.js";
import { NAME_MAX, TEXT_MAX, byteLength } from "./protocol.js";
import { clockTime, dayName } from "./times.js";

/** A dialog with one form. It closes by Escape, by its buttons, and when `submit` returns true. */
class Dialog {
  /** @param {string} id @param {() => boolean} submit */
  constructor(id, submit) {
    /** @type {HTMLDialogElement} */
    this.dialog = byId(id);
    this.problem = this.dialog.querySelector(".problem");
    this.dialog.querySelector("form")?.addEventListener("submit", (event) => {
      event.preventDefault();
      if (submit()) this.dialog.close("done");
    });
    for (const button of this.dialog.querySelectorAll("[data-close]")) {
      button.addEventListener("click", () => this.dialog.close(""));
    }
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close(""); // on the backdrop
    });
  }

  show() {
    this.dialog.returnValue = "";
    if (!this.dialog.open) this.dialog.showModal();
  }

  /** @param {string} problem */
  showProblem(problem) {
    if (this.problem) this.problem.textContent = problem;
  }
}

/** Asks for the nick. */
export class NickDialog {
  /** @param {{choose: (nick: string) => void, dismissed: () => void}} handlers */
  constructor({ choose, dismissed }) {
    /** @type {HTMLInputElement} */
    this.input = byId("nick");
    this.dialog = new Dialog("nick-dialog", () => {
      const nick = this.input.value.trim();
      const problem = nickProblem(nick);
      this.dialog.showProblem(problem);
      if (!problem) choose(nick);
      return !problem;
    });
    this.dialog.dialog.addEventListener("close", () => {
      if (this.dialog.dialog.returnValue !== "done") dismissed();
    });
  }

  /** @param {string} nick @param {string} problem why the server refused it @param {boolean} isFirst */
  show(nick, problem, isFirst) {
    byId("nick-title").textContent = isFirst ? "Join the chat" : "Change your nick";
    byId("nick-submit").textContent = isFirst ? "Join" : "Change";
    byId("nick-cancel").textContent = isFirst ? "Join as a guest" : "Cancel";
    this.input.value = nick;
    this.dialog.showProblem(problem);
    this.dialog.show();
    this.input.select();
  }
}

/** @param {string} nick @returns {string} why it cannot be a nick; the server decides the rest */
export function nickProblem(nick) {
  if (nick === "") return "Type a nick.";
  if (/\s/u.test(nick)) return "A nick has no spaces.";
  return byteLength(nick) > NAME_MAX ? `A nick has at most ${NAME_MAX} bytes.` : "";
}

/** Asks for a room to join, and lists those that exist. */
export class JoinDialog {
  /** @param {{join: (room: string) => void, list: () => void}} handlers */
  constructor({ join, list }) {
    this.join = join;
    this.list = list;
    /** @type {HTMLInputElement} */
    this.input = byId("join-name");
    this.found = byId("found-rooms");
    this.dialog = new Dialog("join-dialog", () => {
      const name = this.input.value.trim().replace(/^#/, "");
      const problem = name === "" ? "Type the name of a room." : byteLength(name) > NAME_MAX ? `A name has at most ${NAME_MAX} bytes.` : "";
      this.dialog.showProblem(problem);
      if (!problem) join(name);
      return !problem;
    });
  }

  show() {
    this.input.value = "";
    this.dialog.showProblem("");
    this.found.replaceChildren();
    this.dialog.show();
    this.list();
  }

  /** @param {import("./protocol.js").RoomList} list */
  showRooms({ count, rooms }) {
    this.found.replaceChildren(
      ...rooms.map(({ room, members }) => {
        const join = () => {
          this.dialog.dialog.close("");
          this.join(room);
        };
        const size = element("span", { class: "detail" }, members === 1 ? "1 member" : `${members} members`);
        return element("li", {}, element("button", { type: "button", onclick: join }, element("bdi", {}, room), " ", size));
      }),
    );
    if (count > rooms.length) this.found.append(element("li", {}, `and ${count - rooms.length} more`));
  }
}

/** Searches a room. */
export class SearchDialog {
  /** @param {{search: (words: string) => void, open: (offset: number) => void}} handlers */
  constructor({ search, open }) {
    this.open = open;
    /** @type {HTMLInputElement} */
    this.input = byId("search-words");
    this.found = byId("search-results");
    this.dialog = new Dialog("search-dialog", () => {
      if (this.input.value.trim()) {
        this.dialog.showProblem("Searching…");
        search(this.input.value.trim());
      }
      return false;
    });
  }

  /** @param {string} room @param {string} words to search for at once */
  show(room, words) {
    byId("search-title").textContent = `Search ${room}`;
    this.input.value = words;
    this.dialog.showProblem(words ? "Searching…" : "");
    this.found.replaceChildren();
    this.dialog.show();
    this.input.select();
  }

  /** @param {import("./protocol.js").Entry[]} entries @param {string} problem */
  showFound(entries, problem) {
    const number = entries.length === 1 ? "1 message found." : `${entries.length} messages found, the latest first.`;
    this.dialog.showProblem(problem || (entries.length === 0 ? "Nothing was found." : number));
    this.found.replaceChildren(...[...entries].reverse().map((entry) => this.#result(entry)));
  }

  /** @param {import("./protocol.js").Entry} entry */
  #result({ time, nick, text, offset }) {
    const show = () => {
      this.dialog.dialog.close("");
      this.open(offset);
    };
    const when = element("span", { class: "detail" }, `${dayName(time)}, ${clockTime(time)}`);
    const shown = element("span", { class: "text", dir: "auto" }, text);
    return element("li", {}, element("button", { type: "button", onclick: show }, nickElement(nick), " ", when, shown));
  }
}

/** Edits the topic of a room. */
export class TopicDialog {
  /** @param {(topic: string) => void} set */
  constructor(set) {
    /** @type {HTMLInputElement} */
    this.input = byId("topic");
    this.dialog = new Dialog("topic-dialog", () => {
      const topic = this.input.value.trim();
      const over = byteLength(topic) - TEXT_MAX;
      this.dialog.showProblem(over > 0 ? `The topic is ${over} bytes too long.` : "");
      if (over <= 0) set(topic);
      return over <= 0;
    });
  }

  /** @param {import("./conversation.js").Room} room */
  show(room) {
    const { text, nick, time } = room.topic;
    byId("topic-title").textContent = `Topic of ${room.name}`;
    byId("topic-by").textContent = text && nick && time ? `Set by ${nick}, ${dayName(time)}, ${clockTime(time)}.` : "";
    this.input.value = text;
    this.dialog.showProblem("");
    this.dialog.show();
    this.input.select();
  }
}

/** Shows and changes the settings. */
export class SettingsDialog {
  /** @param {import("./settings.js").Settings} settings */
  constructor(settings) {
    this.settings = settings;
    this.dialog = new Dialog("settings-dialog", () => true);
    /** @type {HTMLSelectElement} */
    this.theme = byId("theme");
    /** @type {HTMLInputElement} */
    this.presence = byId("shows-presence");
    /** @type {HTMLInputElement} */
    this.notifies = byId("notifies");
    this.theme.addEventListener("change", () => settings.set({ theme: this.theme.value }));
    this.presence.addEventListener("change", () => settings.set({ showsPresence: this.presence.checked }));
    this.notifies.addEventListener("change", async () => {
      const notifies = this.notifies.checked && (await allowNotifications());
      settings.set({ notifies });
      this.#update();
    });
  }

  show() {
    this.#update();
    this.dialog.show();
  }

  #update() {
    const problem = notificationProblem();
    const { theme, showsPresence, notifies } = this.settings.values;
    this.theme.value = theme;
    this.presence.checked = showsPresence;
    this.notifies.checked = notifies && problem === "";
    this.notifies.disabled = problem !== "";
    byId("notifies-problem").textContent = problem;
  }
}

/** Shows the commands and keys. */
export class HelpDialog {
  constructor() {
    this.dialog = new Dialog("help-dialog", () => true);
    byId("commands").append(
      ...COMMANDS.flatMap(({ name, usage, help }) => [
        element("dt", {}, element("code", {}, `/${name} ${usage}`.trimEnd())),
        element("dd", {}, help),
      ]),
      element("dt", {}, element("code", {}, "//TEXT")),
      element("dd", {}, "Say a text that begins with /"),
    );
  }

  show() {
    this.dialog.show();
  }
}

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {string} text
 * @property {string} action what the button says
 */

/** Asks whether something is to be done. */
export class ConfirmDialog {
  constructor() {
    this.dialog = new Dialog("confirm-dialog", () => true);
  }

  /** @param {Question} question @returns {Promise<boolean>} */
  ask({ title, text, action }) {
    byId("confirm-title").textContent = title;
    byId("confirm-text").replaceChildren(textElement(text, null));
    byId("confirm-submit").textContent = action;
    this.dialog.show();
    const { dialog } = this.dialog;
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "done"), { once: true });
    });
  }
}
