/** The box in which messages and commands are typed. */

import { complete } from "./completion.js";
import { byId, element } from "./dom.js";
import { TEXT_MAX, byteLength } from "./protocol.js";

/**
 * @typedef {object} ComposerHandlers
 * @property {(text: string) => Promise<boolean>} submit sends a text; returns whether it is sent
 * @property {() => import("./completion.js").Names} names
 * @property {(pages: number) => void} scroll
 */

/** Bytes that are left in a line from which on they are counted. */
const COUNTED = 150;

const HEIGHT_MAX = 170;
const RECALLED_MAX = 50;

export class Composer {
  /** @param {ComposerHandlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    /** @type {HTMLTextAreaElement} */
    this.box = byId("message");
    this.popup = byId("completions");
    this.counter = byId("counter");
    this.problem = byId("composer-problem");
    this.form = byId("composer");
    /** @type {import("./completion.js").Completion | null} */
    this.completion = null;
    this.active = -1;
    /** Texts that were sent, the last one last, and which of them is in the box. */
    /** @type {string[]} */
    this.sent = [];
    this.recalled = 0;
    this.isSubmitting = false;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
    this.box.addEventListener("keydown", (event) => this.#keyDown(event));
    this.box.addEventListener("input", () => this.#typed());
    this.box.addEventListener("blur", () => this.#closePopup());
    this.box.addEventListener("click", () => this.#closePopup());
    // The box keeps the focus while an option is chosen with the mouse.
    this.popup.addEventListener("mousedown", (event) => event.preventDefault());
    byId("send").addEventListener("mousedown", (event) => event.preventDefault());
  }

  get text() {
    return this.box.value;
  }

  set text(text) {
    this.box.value = text;
    this.#closePopup();
    this.#changed();
  }

  focus() {
    this.box.focus({ preventScroll: true });
  }

  /** Adds a text that was not sent to what is in the box. @param {string} text */
  add(text) {
    this.text = this.text ? `${this.text}\n${text}` : text;
    this.focus();
  }

  /** @param {string} placeholder @param {string} label what the screen reader says besides `Message` */
  describe(placeholder, label) {
    this.box.placeholder = placeholder;
    byId("composer-description").textContent = label;
  }

  /** Shows why the text was not sent. It stays in the box. @param {string} problem */
  showProblem(problem) {
    this.problem.textContent = problem;
    this.box.setAttribute("aria-invalid", String(problem !== ""));
  }

  #typed() {
    this.showProblem("");
    this.#changed();
    this.#openPopup(false);
  }

  #changed() {
    this.recalled = this.sent.length;
    this.box.style.height = "auto";
    this.box.style.height = `${Math.min(HEIGHT_MAX, this.box.scrollHeight + 2)}px`;
    const longest = Math.max(...this.text.split("\n").map(byteLength));
    const left = TEXT_MAX - longest;
    this.counter.textContent = left > COUNTED ? "" : left < 0 ? `${-left} bytes too long` : `${left} bytes left`;
    this.counter.classList.toggle("over", left < 0);
  }

  async #submit() {
    const { text } = this;
    if (this.isSubmitting || text.trim() === "") return;
    this.isSubmitting = true;
    this.#closePopup();
    const isSent = await this.handlers.submit(text).finally(() => (this.isSubmitting = false));
    if (!isSent) return;
    this.sent = [...this.sent.filter((each) => each !== text), text].slice(-RECALLED_MAX);
    if (this.text === text) this.text = "";
    this.showProblem("");
  }

  /** @param {KeyboardEvent} event */
  #keyDown(event) {
    // The Enter that ends the composition of a character belongs to the input method.
    if (event.isComposing || event.keyCode === 229) return;
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (this.completion !== null && this.#popupKey(event)) {
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      void this.#submit();
    } else if (event.key === "Tab" && !event.shiftKey && this.#openPopup(true)) {
      event.preventDefault();
    } else if (event.key === "PageUp" || event.key === "PageDown") {
      event.preventDefault();
      this.handlers.scroll(event.key === "PageUp" ? -1 : 1);
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      this.#recall(event);
    }
  }

  /** @param {KeyboardEvent} event @returns {boolean} whether the key was for the list of completions */
  #popupKey({ key, shiftKey }) {
    const count = this.completion?.options.length ?? 0;
    if (key === "ArrowDown" || key === "ArrowUp") {
      const step = key === "ArrowDown" ? 1 : -1;
      this.#activate(this.active < 0 && step < 0 ? count - 1 : (this.active + step + count) % count);
    } else if (key === "Escape") {
      this.#closePopup();
    } else if (key === "Tab" && !shiftKey) {
      this.#accept(Math.max(0, this.active));
    } else if (key === "Enter" && this.active >= 0) {
      this.#accept(this.active);
    } else {
      return false;
    }
    return true;
  }

  /** Puts an earlier text into the empty box. @param {KeyboardEvent} event */
  #recall(event) {
    const isRecalled = this.text === this.sent[this.recalled];
    if (this.text !== "" && !isRecalled) return;
    const next = this.recalled + (event.key === "ArrowUp" ? -1 : 1);
    if (next < 0 || next > this.sent.length || (this.text === "" && next > this.recalled)) return;
    event.preventDefault();
    this.text = this.sent[next] ?? "";
    this.recalled = next;
  }

  // Completion

  /** @param {boolean} isAsked @returns {boolean} whether there is something to complete */
  #openPopup(isAsked) {
    const { selectionStart, selectionEnd } = this.box;
    const before = this.text.slice(0, selectionStart);
    const isPossible = selectionStart === selectionEnd && !before.includes("\n");
    const found = isPossible ? complete(before, this.handlers.names(), isAsked) : null;
    if (found === null) {
      this.#closePopup();
      return false;
    }
    this.completion = found;
    this.active = -1;
    if (isAsked && found.options.length === 1) {
      this.#accept(0);
      return true;
    }
    const options = found.options.map(({ label, detail }, index) =>
      element(
        "div",
        { role: "option", id: `option-${index}`, "aria-selected": "false", onclick: () => this.#accept(index) },
        element("bdi", {}, label),
        element("span", { class: "detail" }, detail),
      ),
    );
    this.popup.replaceChildren(...options);
    this.popup.hidden = false;
    this.#activate(isAsked ? 0 : -1);
    return true;
  }

  /** @param {number} index of the option that Enter takes; -1 for none */
  #activate(index) {
    this.active = index;
    for (const [each, option] of [...this.popup.children].entries()) {
      option.setAttribute("aria-selected", String(each === index));
    }
    if (index >= 0) this.box.setAttribute("aria-activedescendant", `option-${index}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  /** @param {number} index */
  #accept(index) {
    const option = this.completion?.options[index];
    if (this.completion === null || option === undefined) return;
    const { start } = this.completion;
    this.#closePopup();
    this.box.setRangeText(option.insert, start, this.box.selectionStart, "end");
    this.#typed();
  }

  #closePopup() {
    this.completion = null;
    this.active = -1;
    this.popup.hidden = true;
    this.popup.replaceChildren();
    this.box.removeAttribute("aria-activedescendant");
  }
}
