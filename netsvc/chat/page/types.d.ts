/**
 * The types that the modules share, for editors and for `tsc --checkJs`. Browsers do not get this file.
 */

// Classes

type AnyConversation = Room | PrivateConversation;
type PrivateConversation = import("./conversation.js").PrivateConversation;
type Room = import("./conversation.js").Room;
type Session = import("./session.js").Session;
type Settings = import("./storage.js").Settings;
type Store = import("./storage.js").Store;

// Events and requests (protocol.js)

/** An entry of the log of a room. */
interface Entry {
  offset: number;
  /** In ms since 1970. */
  time: number;
  kind: string;
  nick: string;
  text: string;
}

type Welcome = { type: "welcome"; nick: string };
type SessionBegun = { type: "session"; token: string };
type NickSet = { type: "nick"; nick: string };
type RoomEntered = {
  type: "room";
  room: string;
  epoch: string;
  offset: number;
  count: number;
  members: string[];
};
type RoomLeft = { type: "left"; room: string };
type Resumed = { type: "resumed"; room: string; verdict: "recovered" | "lost" | "unknown"; lost: number };
type RoomEntry = Entry & { type: "entry"; room: string; own: boolean; id: string };
type Entries = { type: "entries"; room: string; review: "replay" | "history" | "search"; entries: Entry[] };
type Whisper = { type: "whisper"; sender: string; recipient: string; text: string; id: string };
type Refused = { type: "refused"; cause: string; text: string; id: string };
type NotConfirmed = { type: "not-confirmed"; id: string };
type Confirmed = { type: "confirmed"; id: string };
type TopicShown = { type: "topic"; room: string; text: string; nick: string; time: number };
type AwaySet = { type: "away"; text: string };
type RecipientAway = { type: "recipient-away"; nick: string; text: string };
type MemberList = { type: "members"; room: string; count: number; nicks: string[] };
type RoomList = { type: "rooms"; count: number; rooms: { room: string; members: number }[] };
type Replaced = { type: "replaced" };
type Notice = { type: "notice"; text: string };
type Pong = { type: "pong" };

type ChatEvent =
  | Welcome
  | SessionBegun
  | NickSet
  | RoomEntered
  | RoomLeft
  | Resumed
  | RoomEntry
  | Entries
  | Whisper
  | Refused
  | NotConfirmed
  | Confirmed
  | TopicShown
  | AwaySet
  | RecipientAway
  | MemberList
  | RoomList
  | Replaced
  | Notice
  | Pong;

/** What is done with each event, by its type. */
type EventHandlers = { [T in ChatEvent["type"]]: (event: Extract<ChatEvent, { type: T }>) => void };

interface ChatRequest {
  type: string;
  [member: string]: unknown;
}

/** Checks a member of an event and returns it, or the default if it is missing. */
type Field = (value: unknown, name: string) => unknown;

/** What a connection tells its session (connection.js). */
interface ConnectionHandlers {
  opened(): void;
  received(frame: unknown): void;
  lost(): void;
  /** `state`, `reason` or `retryAt` has changed. */
  changed(): void;
  /** Asks the server for a sign of life. */
  ask(): void;
}

// The log of a conversation (conversation.js)

interface Row {
  /** `info` is a sentence of the page, `start` the beginning of the log, `line` a pending line. */
  kind: "said" | "action" | "topic" | "notice" | "presence" | "info" | "gap" | "start" | "line";
  /** In ms since 1970. */
  time: number;
  /** Which part of the rows it belongs to. The offsets of one segment are of one log. */
  segment: number;
  /** 0 if it is no entry. */
  offset: number;
  nick: string;
  text: string;
  own: boolean;
  isMention: boolean;
  /** Changes when the row is to be shown anew. */
  version: number;
  /** In pixels, as measured in `layout`; 0 before. */
  height: number;
  layout: number;
  /** Of `presence`. */
  entries?: Entry[];
  gap?: Gap;
  line?: Line;
}

/** Entries that are not loaded. */
interface Gap {
  /** Offset of the last entry before the gap; 0 at the beginning of the log. */
  after: number;
  /** Offset of the first entry after the gap. */
  before: number;
  isLoading: boolean;
  /** Why it could not be loaded. */
  problem: string;
}

interface About {
  own: boolean;
  isMention: boolean;
}

/** A line that was typed and is not acknowledged (conversation.js). */
interface Line {
  /** Names it, also when it is sent again. */
  id: string;
  /** The key of its conversation. */
  key: string;
  text: string;
  /** Whether it is said in the third person. */
  action: boolean;
  isPrivate: boolean;
  /** Whether it may have arrived. */
  wasSent: boolean;
  /** When it was typed. */
  time: number;
  state: string;
  /** Why it was refused. */
  reason: string;
}

// The session (session.js)

/** What the session tells the page. */
interface View {
  /** The phase, the nick, or whether the member is away. */
  statusChanged(): unknown;
  /** The conversations, or what is unread in them. */
  listChanged(): unknown;
  /** The rows or the pending lines. */
  logChanged(conversation: AnyConversation): unknown;
  /** The topic, the members, or whether the member is in the room. */
  roomChanged(room: Room): unknown;
  /** The conversation is to be shown. */
  opened(conversation: AnyConversation): unknown;
  /** A message of another member. */
  received(conversation: AnyConversation, row: Row): unknown;
  isShown(conversation: AnyConversation): boolean;
  /** Whether somebody sees the last message. */
  isReading(conversation: AnyConversation): boolean;
  /** A sentence that belongs to no conversation. */
  informed(text: string): unknown;
  nickRefused(problem: string, nick: string): unknown;
  roomsListed(list: RoomList): unknown;
  found(room: Room, entries: Entry[], problem: string): unknown;
}

/** A request whose answer, or refusal, names no ID. They are answered in order. */
interface Question {
  review: "history" | "search";
  room: Room;
  gap?: Row;
  before: number;
  count: number;
}

// What is typed (commands.js, composer.js)

interface CommandHelp {
  name: string;
  /** Its arguments. */
  usage: string;
  help: string;
  /** What the first argument is, for completion. */
  argument?: "nicks" | "rooms";
}

interface Completion {
  /** Where the text begins that an option replaces, up to the cursor. */
  start: number;
  options: CompletionOption[];
}

interface CompletionOption {
  label: string;
  detail: string;
  insert: string;
}

/** What there is to complete to, the most likely first. */
interface KnownNames {
  nicks: string[];
  rooms: string[];
}

interface ComposerHandlers {
  /** Sends a text; returns whether it is sent. */
  submit(text: string): Promise<boolean>;
  names(): KnownNames;
  scroll(pages: number): void;
}

/** The page, as far as a command needs it. */
interface Desk {
  current(): AnyConversation | null;
  /** Shows the latest message. */
  toEnd(): void;
  logChanged(conversation: AnyConversation): void;
  informed(text: string): void;
  confirm(question: Confirmation): Promise<boolean>;
  openJoin(): void;
  openHelp(): void;
  openSearch(words: string): void;
}

interface Confirmation {
  title: string;
  text: string;
  /** What the button says. */
  action: string;
}

// What is shown

interface Part {
  kind: "text" | "link" | "code" | "mention";
  text: string;
}

interface LogHandlers {
  erase(row: Row): void;
  edit(line: Line): void;
  /** The log was shown or scrolled. */
  moved(): void;
}

/** What a virtual list shows. */
interface Rendering {
  rows(): Row[];
  /** Differs if the element is to be made anew. */
  appearance(row: Row, previous: Row | undefined): number;
  build(row: Row, appearance: number): HTMLElement;
  /** The height of a row that was not measured. */
  estimate(row: Row, width: number): number;
  /** @param isFromAbove whether rows above the gap are visible */
  gapVisible(row: Row, isFromAbove: boolean): void;
  rendered(): void;
}

/** An element in a virtual list, and the version and appearance of its row. */
interface Shown {
  element: HTMLElement;
  look: string;
}

/** Where a virtual list is: how far the top of a row is below that of the visible part; null at the end. */
type ListPosition = { row: Row | null; top: number } | null;

interface ListHandlers {
  open(conversation: AnyConversation): void;
  leave(conversation: AnyConversation): void;
}

interface SettingsValues {
  /** `system`, `light` or `dark`. */
  theme: string;
  /** Whether joins and leaves are shown. */
  showsPresence: boolean;
  /** Whether mentions and private messages cause notifications. */
  notifies: boolean;
  /** Whether the list of members is shown on a wide screen. */
  showsMembers: boolean;
}
