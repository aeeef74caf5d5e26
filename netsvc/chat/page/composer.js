/** The box in which messages and commands are typed. */

import { CommandError, complete } from "./commands.js";
import { byId, element, setText } from "./elements.js";
import { TEXT_MAX, byteLength } from "./protocol.js";

const COUNTED_BYTES = 150;

const HEIGHT_MAX_PX = 170;
const RECALLED_MAX = 50;

export class Composer {
  /** @param {ComposerHandlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    /** @type {HTMLTextAreaElement} */
    this.box = byId("message");
    this.popup = byId("completions");
    /** @type {Completion | null} */
    this.completion = null;
    this.active = -1;
    /** @type {string[]} */
    this.sent = [];
    this.recalled = 0;
    this.isSubmitting = false;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
    this.box.addEventListener("keydown", (event) => this.#keyDown(event));
    this.box.addEventListener("input", () => this.#typed());
    for (const event of ["blur", "click"]) this.box.addEventListener(event, () => this.#complete(null));
    // The box keeps the focus.
    for (const each of [this.popup, byId("send")]) {
      each.addEventListener("mousedown", (event) => event.preventDefault());
    }
  }

  get text() {
    return this.box.value;
  }

  /** @param {string} text */
  show(text) {
    this.box.value = text;
    this.showProblem("");
    this.#complete(null);
    this.#changed();
  }

  focus() {
    this.box.focus({ preventScroll: true });
  }

  /** @param {string} text */
  add(text) {
    this.show(this.text ? `${this.text}\n${text}` : text);
    this.focus();
  }

  /** @param {string} where */
  describe(where) {
    this.box.placeholder = `Message ${where}`;
    setText(byId("composer-description"), `To ${where}`);
  }

  /** @param {string} problem */
  showProblem(problem) {
    setText(byId("composer-problem"), problem);
    this.box.setAttribute("aria-invalid", String(problem !== ""));
  }

  #typed() {
    this.showProblem("");
    this.#changed();
    this.#open(false);
  }

  #changed() {
    const { style } = this.box;
    this.recalled = this.sent.length;
    style.height = "auto";
    style.height = `${Math.min(HEIGHT_MAX_PX, this.box.scrollHeight)}px`;
    const left = TEXT_MAX - Math.max(...this.text.split("\n").map(byteLength));
    setText(byId("counter"), left > COUNTED_BYTES ? "" : left < 0 ? `${-left} bytes too long` : `${left} bytes left`);
    byId("counter").classList.toggle("over", left < 0);
  }

  async #submit() {
    const { text } = this;
    if (this.isSubmitting || text.trim() === "") return;
    this.isSubmitting = true;
    this.#complete(null);
    try {
      if (!(await this.handlers.submit(text))) return;
      this.sent = [...this.sent.filter((each) => each !== text), text].slice(-RECALLED_MAX);
      this.recalled = this.sent.length;
      if (this.text === text) this.show("");
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      this.showProblem(error.message);
    } finally {
      this.isSubmitting = false;
    }
  }

  /** @param {KeyboardEvent} event */
  #keyDown(event) {
    const { key, shiftKey } = event;
    // The Enter that ends the composition of a character belongs to the input method.
    if (event.isComposing || event.keyCode === 229 || event.altKey || event.ctrlKey || event.metaKey) return;
    if (this.completion && this.#popupKey(event)) {
      event.preventDefault();
      event.stopPropagation();
    } else if (key === "Enter" && !shiftKey) {
      event.preventDefault();
      void this.#submit();
    } else if (key === "Tab" && !shiftKey && this.#open(true)) {
      event.preventDefault();
    } else if (key === "PageUp" || key === "PageDown") {
      event.preventDefault();
      this.handlers.scroll(key === "PageUp" ? -1 : 1);
    } else if ((key === "ArrowUp" && this.#recall(-1)) || (key === "ArrowDown" && this.#recall(1))) {
      event.preventDefault();
    }
  }

  /** Returns whether the key is for the completions. @param {KeyboardEvent} event */
  #popupKey({ key, shiftKey }) {
    const count = this.completion?.options.length ?? 0;
    if (key === "ArrowDown") this.#activate((this.active + 1) % count);
    else if (key === "ArrowUp") this.#activate((Math.max(0, this.active) + count - 1) % count);
    else if (key === "Escape") this.#complete(null);
    else if (key === "Tab" && !shiftKey) this.#accept(Math.max(0, this.active));
    else if (key === "Enter" && this.active >= 0) this.#accept(this.active);
    else return false;
    return true;
  }

  /** @param {number} step */
  #recall(step) {
    const next = this.recalled + step;
    if (this.text !== (this.sent[this.recalled] ?? "") || next < 0 || next > this.sent.length) return false;
    this.show(this.sent[next] ?? "");
    this.recalled = next;
    return true;
  }

  // Completion

  /** @param {boolean} isAsked */
  #open(isAsked) {
    const { selectionStart, selectionEnd } = this.box;
    const before = this.text.slice(0, selectionStart);
    const isPossible = selectionStart === selectionEnd && !before.includes("\n");
    this.#complete(isPossible ? complete(before, this.handlers.names(), isAsked) : null);
    if (isAsked) this.#activate(0);
    if (isAsked && this.completion?.options.length === 1) this.#accept(0);
    else if (!this.completion) return false;
    return true;
  }

  /** @param {Completion | null} completion */
  #complete(completion) {
    this.completion = completion;
    this.popup.hidden = completion === null;
    const options = completion?.options.map(({ label, detail }, index) => {
      const parts = [element("bdi", {}, label), element("span", { class: "detail" }, detail)];
      const option = element("div", { role: "option", id: `option-${index}` }, ...parts);
      option.addEventListener("click", () => this.#accept(index));
      return option;
    });
    this.popup.replaceChildren(...(options ?? []));
    this.#activate(-1);
  }

  /** @param {number} index */
  #activate(index) {
    this.active = index;
    for (const [each, option] of [...this.popup.children].entries()) {
      option.setAttribute("aria-selected", String(each === index));
    }
    const option = this.popup.children[index];
    option?.scrollIntoView({ block: "nearest" });
    if (option) this.box.setAttribute("aria-activedescendant", option.id);
    else this.box.removeAttribute("aria-activedescendant");
  }

  /** @param {number} index */
  #accept(index) {
    const { completion } = this;
    if (!completion) return;
    this.#complete(null);
    this.box.setRangeText(completion.options[index].insert, completion.start, this.box.selectionStart, "end");
    this.#typed();
  }
}
