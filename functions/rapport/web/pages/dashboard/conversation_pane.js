import { html, nothing } from "lit";
import { Conflict } from "@rapport/live";
import { markUnread } from "@rapport/live/desk";
import { ConversationView } from "@rapport/live/elements/conversation_view.js";
import { deskIcons } from "@rapport/live/elements/desk_icons.js";
import "@rapport/live/elements/drop_down.js";
import { appointmentTime, weekdayOf } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { avatar, reasonOf } from "@rapport/live/elements/parts.js";
import { text, word } from "@rapport/live/elements/texts.js";
import { withHeld } from "./held.js";

/** @import { Outbox } from "@rapport/live" */
/** @import { DropDown } from "@rapport/live/elements/drop_down.js" */
/** @import { InboxRow } from "@rapport/live/elements/inbox_list.js" */
/** @import { NoteComposer } from "@rapport/live/elements/note_composer.js" */
/** @import { Aside, Note } from "./asides.js" */
/** @import { Desk } from "./desk.js" */
/** @import { Inbox } from "./inbox.js" */
/** @import { Scheduled } from "./later_list.js" */
/** @import { Opened } from "./opened.js" */

const STATUSES = /** @type {const} */ (["open", "pending", "closed"]);
// ms: so long a message that could not be sent at its time is shown
const FAILED_LASTS = 86_400_000;
/** @type {readonly Aside[]} */
const NONE = [];

/** The conversation that is open: who has it, what is done with it, its messages and notes. */
export class ConversationPane extends PageElement {
  /** @override */
  static properties = {
    desk: { attribute: false },
    inbox: { attribute: false },
    opened: { attribute: false },
    outbox: { attribute: false },
    files: { attribute: false },
    name: {},
    showsContact: { attribute: false },
    mode: { state: true },
    refusal: { state: true },
    notice: { state: true },
    slash: { state: true },
    noteRefusal: { state: true },
    isNoting: { state: true },
    editingNote: { state: true },
    editingLater: { state: true },
    isLaterOpen: { state: true },
    isLabelling: { state: true },
    asidesOf: { state: true },
    menus: { state: true },
    laterList: { state: true },
  };

  /** The asides of the notes as they were last told. @type {{ of: unknown, editing: string, asides: Aside[] } | null} */
  #asides = null;
  /** The saved replies that a slash may become, as they were last found. @type {{ of: unknown, slash: string | null, found: { id: string, title: string, detail: string }[] | null } | null} */
  #suggested = null;
  /** What is sent later and being changed, as it was when that began. @type {Scheduled | null} */
  #changed = null;
  /** What shows the text that is begun. */
  #view = () => /** @type {any} */ (this.querySelector("conversation-view"));

  constructor() {
    super();
    /** @type {Desk | null} */
    this.desk = null;
    /** @type {Inbox | null} */
    this.inbox = null;
    /** @type {Opened | null} */
    this.opened = null;
    /** @type {Outbox | null} */
    this.outbox = null;
    /** Reads and takes files of messages. @type {unknown} */
    this.files = null;
    this.name = "";
    this.showsContact = false;
    /** @type {"reply" | "note"} */
    this.mode = "reply";
    this.refusal = "";
    this.notice = "";
    /** What follows the slash that begins the text. @type {string | null} */
    this.slash = null;
    this.noteRefusal = "";
    this.isNoting = false;
    this.editingNote = "";
    this.editingLater = "";
    /** Whether what is sent later is unfolded. */
    this.isLaterOpen = false;
    this.isLabelling = false;
    /** Makes notes and events of what is told; it comes with the first one. @type {typeof import("./asides.js").asidesOf | null} */
    this.asidesOf = null;
    /** They come with the first one that is opened. @type {typeof import("./conversation_menus.js") | null} */
    this.menus = null;
    /** Shows what is sent later; it comes with the first one. @type {typeof import("./later_list.js").laterList | null} */
    this.laterList = null;
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  willUpdate(changed) {
    if (!changed.has("opened")) return;
    this.mode = "reply";
    this.refusal = this.notice = this.noteRefusal = this.editingNote = this.editingLater = "";
    this.slash = null;
    this.#changed = null;
    this.isLaterOpen = this.isLabelling = false;
  }

  /** @override */
  render() {
    const { desk, opened } = this;
    if (!desk || !opened) return nothing;
    const shown = this.look("inbox", this.inbox?.rows);
    this.look("bookings", this.inbox?.answers);
    const typing = this.look("typing", opened.customerTypes);
    const row = shown?.pinned ?? null;
    const booking = this.inbox?.bookings.get(opened.id);
    const { window: free } = opened;
    const closed = free && !free.open ? text("chat.window.closed") : "";
    const hint = free?.open && free.closes_at ? text("chat.window.until", { time: weekdayOf(free.closes_at) }) : "";
    return html`<header class="pane-head chat-head">
        <a class="button-icon chat-back" href="#" aria-label=${text("chat.back")}>${icons.back}</a>
        ${avatar(this.name, row?.customer_id ?? opened.id)}
        <div class="chat-who">
          <h2 title=${this.name}><bdi>${this.name}</bdi></h2>
          <p class="muted">${row ? word("channel", row.channel) : ""}${booking ? html` · <bdi>${booking.service}</bdi>, ${appointmentTime(booking.startsAt, { zone: desk.account.time_zone })}` : nothing}</p>
        </div>
        ${this.#others(desk, opened)}
        <div class="chat-tools">${row ? this.#tools(desk, row) : nothing}</div>
        <button type="button" class="button-icon chat-contact" aria-label=${text("chat.contact")} aria-expanded=${this.showsContact ? "true" : "false"}
          @click=${() => this.tell("contact-toggle")}>${icons.person}</button>
      </header>
      ${row ? this.#state(desk, row) : nothing}
      ${this.refusal ? this.#told(this.refusal, true) : nothing} ${this.notice ? this.#told(this.notice, false) : nothing}
      <conversation-view
        .source=${opened.messages}
        .outbox=${this.outbox}
        .chat=${opened.chat}
        side="operator"
        .label=${this.name}
        .channel=${row?.channel ?? ""}
        .files=${this.files}
        .readTemplates=${row?.channel === "whatsapp" ? opened.readTemplates : null}
        .isTyping=${typing?.isTyping ?? false}
        .hint=${hint}
        .closed=${closed}
        .asides=${this.#asidesOf(desk, opened)}
        .top=${this.#top(desk, opened)}
        .instead=${this.mode === "note" ? this.#noteComposer(desk, opened) : null}
        .tools=${this.#later(desk, opened)}
        .suggestions=${this.#suggestions(desk)}
        .drafts=${desk.drafts}
        @composer-slash=${(/** @type {CustomEvent<{ beginning: string | null }>} */ event) => (this.slash = event.detail.beginning)}
        @composer-choice=${(/** @type {CustomEvent<string>} */ event) => this.#fill(desk, opened, event.detail)}
        @message-typed=${() => this.#typed(opened)}
        @messages-seen=${(/** @type {CustomEvent<{ conversationId: string, seq: number }>} */ event) => opened.marks.note(event.detail)}
      ></conversation-view>`;
  }

  /** Whether the view shows notes among the messages. */
  static get holdsAsides() {
    return "asides" in ConversationView.properties;
  }

  /**
   * Who else looks at the conversation, and who of them writes.
   *
   * @param {Desk} desk
   * @param {Opened} opened
   */
  #others(desk, opened) {
    const online = this.look("presence", opened.presence)?.onlineUsers ?? {};
    const others = desk.othersIn(online);
    const isTyping = this.look("staffTyping", opened.staffTypes)?.isTyping;
    if (!others.length) return nothing;
    const names = others.map(({ display_name }) => display_name).join(", ");
    const words = isTyping ? text("desk.others.write", { names }) : text("desk.others", { names });
    return html`<p class="chat-others ${isTyping ? "chat-others-write" : ""}" role="status" title=${words}>
      ${others.slice(0, 3).map((one) => avatar(one.display_name, one.user_id))}<span class="hidden">${words}</span>
    </p>`;
  }

  /**
   * @param {Desk} desk
   * @param {InboxRow} row
   */
  #tools(desk, row) {
    if (!desk.isWriter) return nothing;
    const who = row.assignee_id ? (row.assignee_id === desk.userId ? text("desk.you") : (row.assignee_name ?? "").split(" ")[0]) : "";
    return html`${row.assignee_id
        ? nothing
        : html`<button type="button" class="button" @click=${() => this.#take(desk, row)}>${text("desk.take")}</button>`}
      <drop-down
        class="chat-assignee"
        .label=${row.assignee_id ? (row.assignee_id === desk.userId ? text("desk.you.answer") : text("inbox.assignee", { name: row.assignee_name ?? "" })) : text("desk.hand-over")}
        .hasWords=${!!row.assignee_id}
        .face=${row.assignee_id ? html`${avatar(row.assignee_name ?? "", row.assignee_id)}<span class="chat-assignee-name"><bdi>${who}</bdi></span>` : deskIcons.handOver}
        button-class=${row.assignee_id ? "button" : "button-icon"}
        @drop-open=${this.#loadMenus}
        .content=${() => this.menus?.assignees(this.#menu(desk, row)) ?? nothing}
      ></drop-down>
      <label class="field-inline chat-status"
        ><span class="hidden">${text("inbox.status")}</span
        ><select @change=${(/** @type {Event} */ event) => this.#setStatus(desk, row, event)}>
          ${STATUSES.map((status) => html`<option value=${status} ?selected=${status === row.status} .selected=${status === row.status}>${word("status", status)}</option>`)}
        </select></label
      >
      <drop-down .label=${text("desk.snooze")} .face=${deskIcons.snooze} button-class="button-icon" @drop-open=${this.#loadMenus} .content=${() => this.menus?.snoozes(this.#menu(desk, row)) ?? nothing}></drop-down>
      <drop-down .label=${text("desk.labels")} .face=${deskIcons.tag} button-class="button-icon" @drop-open=${this.#loadMenus} .content=${() => this.menus?.labels(this.#menu(desk, row)) ?? nothing}></drop-down>
      <button type="button" class="button-icon" aria-label=${text("desk.unread")} title=${text("desk.unread")} @click=${() => this.#markUnread(desk, row)}>${deskIcons.unread}</button>`;
  }

  /**
   * What is special about it now: until when it waits, and its labels.
   *
   * @param {Desk} desk
   * @param {InboxRow} row
   */
  #state(desk, row) {
    const labels = this.look("labels", desk.labels) ? desk.labelRows.filter(({ id }) => !!row.label_ids?.includes(id)) : [];
    const isWaiting = row.snoozed_until && Date.parse(row.snoozed_until) > Date.now();
    if (!labels.length && !isWaiting) return nothing;
    return html`<p class="chat-state">
      ${isWaiting
        ? html`<span class="tag inbox-snoozed">${deskIcons.snooze}${text("inbox.snoozed", { time: weekdayOf(/** @type {string} */ (row.snoozed_until)) })}</span>
            ${desk.isWriter ? html`<button type="button" class="link" @click=${() => this.#snooze(desk, row, null)}>${text("desk.wake")}</button>` : nothing}`
        : nothing}
      ${labels.map((label) => html`<span class="tag label-tag" .style=${`--label: ${label.colour}`}><span class="label-dot"></span><bdi>${label.name}</bdi></span>`)}
    </p>`;
  }

  /**
   * What the menus show and do.
   *
   * @param {Desk} desk
   * @param {InboxRow} row
   */
  #menu(desk, row) {
    return {
      desk,
      row,
      online: this.look("desk", desk.presence)?.onlineUsers ?? {},
      all: this.look("labels", desk.labels) ? desk.labelRows : [],
      isLabelling: this.isLabelling,
      handOver: (/** @type {string} */ userId) => this.#handOver(desk, row, userId),
      release: () => this.#do(() => desk.call("release_conversation", { conversation_id: row.id })),
      snooze: (/** @type {Date | null} */ until) => this.#snooze(desk, row, until),
      label: (/** @type {string} */ id, /** @type {boolean} */ isLabelled) => this.#label(desk, row, id, isLabelled),
      beginLabel: (/** @type {Event} */ event) => this.#beginLabel(event),
      makeLabel: (/** @type {SubmitEvent} */ event) => this.#makeLabel(desk, row, event),
    };
  }

  /** @param {Event} event */
  #loadMenus = async (event) => {
    if (this.menus) return;
    const drop = /** @type {DropDown} */ (event.target);
    try {
      this.menus = await import("./conversation_menus.js");
    } catch (error) {
      this.refusal = reasonOf(error);
      return;
    }
    await this.updateComplete;
    await drop.enter();
  };

  /**
   * @param {Desk} desk
   * @param {Opened} opened
   */
  #asidesOf(desk, opened) {
    const notes = /** @type {readonly Note[]} */ (/** @type {unknown} */ (this.look("notes", opened.notes)?.rows ?? []));
    const { asidesOf } = this;
    if (!asidesOf) {
      if (notes.length) void import("./asides.js").then((found) => (this.asidesOf = found.asidesOf), (error) => (this.refusal = reasonOf(error)));
      return NONE;
    }
    if (this.#asides?.of !== notes || this.#asides.editing !== this.editingNote) {
      const asides = asidesOf(notes, desk, {
        editing: this.editingNote,
        edit: (id) => (this.editingNote = id),
        save: (id, note, mentions) =>
          this.#do(async () => {
            await desk.ask(desk.from("conversation_notes").update({ note, mentions }).eq("id", id).select("id"));
            if (this.editingNote === id) this.editingNote = "";
          }),
        remove: (note_id) => void this.#do(() => desk.call("delete_note", { note_id })),
      });
      this.#asides = { of: notes, editing: this.editingNote, asides };
    }
    return this.#asides.asides;
  }

  /** What stands above the composer: what is sent later, and whether a reply or a note is written. @param {Desk} desk @param {Opened} opened */
  #top(desk, opened) {
    const later = /** @type {readonly Scheduled[]} */ (/** @type {unknown} */ (this.look("scheduled", opened.scheduled)?.rows ?? []));
    const lasting = later.filter(({ status, updated_at }) => status === "waiting" || (status === "failed" && Date.parse(updated_at) > Date.now() - FAILED_LASTS));
    const shown = withHeld(lasting, this.#changed, "send_at");
    return html`${shown.length ? this.#scheduled(desk, shown) : nothing}
      ${desk.isWriter
        ? html`<div class="composer-top segments" role="group" aria-label=${text("desk.write")}>
            ${/** @type {const} */ (["reply", "note"]).map(
              (mode) => html`<button type="button" class="composer-mode-${mode}" aria-pressed=${this.mode === mode ? "true" : "false"} @click=${() => this.#write(mode)}>
                ${mode === "note" ? deskIcons.note : icons.chat}${text(`desk.mode.${mode}`)}
              </button>`,
            )}
          </div>`
        : nothing}`;
  }

  /**
   * @param {Desk} desk
   * @param {readonly Scheduled[]} rows
   */
  #scheduled(desk, rows) {
    const { laterList } = this;
    if (!laterList) {
      void import("./later_list.js").then((found) => (this.laterList = found.laterList), (error) => (this.refusal = reasonOf(error)));
      return nothing;
    }
    return laterList({
      desk,
      rows,
      isOpen: this.isLaterOpen,
      unfold: (isOpen) => (this.isLaterOpen = isOpen),
      editing: this.editingLater,
      edit: (row) => this.#editLater(row),
      change: (row, patch) => {
        if (!Object.keys(patch).length) return this.#editLater(null);
        return this.#do(async () => {
          await desk.ask(desk.from("scheduled_messages").update(patch).eq("id", row.id).select("id"));
          if (this.editingLater === row.id) this.#editLater(null);
        });
      },
    });
  }

  /**
   * @param {Desk} desk
   * @param {Opened} opened
   */
  #noteComposer(desk, opened) {
    return html`<note-composer
      .drafts=${desk.draftNotes}
      .about=${opened.id}
      .members=${desk.members.filter(({ user_id }) => user_id !== desk.userId)}
      .refusal=${this.noteRefusal}
      .isBusy=${this.isNoting}
      @note-write=${(/** @type {CustomEvent<{ note: string, mentions: string[] }>} */ event) => this.#note(desk, event.detail)}
    ></note-composer>`;
  }

  /**
   * @param {Desk} desk
   * @param {Opened} opened
   */
  #later(desk, opened) {
    if (!desk.isWriter) return null;
    return html`<drop-down
      up
      .label=${text("desk.later")}
      .face=${icons.clock}
      button-class="button-icon"
      @drop-open=${() => import("./send_later.js")}
      .content=${() => html`<send-later .desk=${desk} .conversationId=${opened.id} .words=${() => this.#view()?.words ?? ""} @send-later=${this.#scheduledNow}></send-later>`}
    ></drop-down>`;
  }

  /** @param {CustomEvent<Scheduled>} event */
  #scheduledNow = (event) => {
    const { send_at, wanted_at } = event.detail;
    this.#view()?.write?.("");
    /** @type {DropDown | null} */ (/** @type {HTMLElement} */ (event.target).closest("drop-down"))?.close();
    this.notice = send_at === wanted_at ? text("desk.later.kept", { time: weekdayOf(send_at) }) : text("desk.later.moved", { time: weekdayOf(send_at) });
  };

  /**
   * @param {string} words
   * @param {boolean} isBad
   */
  #told(words, isBad) {
    return html`<p class="chat-note ${isBad ? "chat-note-bad" : "chat-note-good"}" role=${isBad ? "alert" : "status"}>
      ${isBad ? icons.warning : deskIcons.check}<span class="chat-note-words">${words}</span>
      <button type="button" class="button-icon" aria-label=${text("notification.dismiss")} @click=${() => (this.refusal = this.notice = "")}>${icons.close}</button>
    </p>`;
  }

  /** @param {Opened} opened */
  #typed(opened) {
    opened.staffTypes.say();
    // what was refused is over once another text is begun
    if (!this.#view()?.words) this.refusal = "";
  }

  /** @param {"reply" | "note"} mode */
  async #write(mode) {
    if (mode === "note") await import("@rapport/live/elements/note_composer.js");
    this.mode = mode;
    await this.updateComplete;
    await this.#view()?.updateComplete;
    /** @type {HTMLElement | null} */ (this.querySelector(mode === "note" ? "#note-words" : "#composer-words"))?.focus();
  }

  /**
   * Does something at the desk; what is refused is told in words.
   *
   * @param {() => unknown} work
   * @returns {Promise<boolean>} whether it was done
   */
  async #do(work) {
    this.refusal = this.notice = "";
    // the panel from which it is done; one that is opened meanwhile is in use
    const open = [.../** @type {NodeListOf<DropDown>} */ (this.querySelectorAll("drop-down"))].filter(({ isOpen }) => isOpen).map((panel) => ({ panel, openings: panel.openings }));
    try {
      await work();
      for (const { panel, openings } of open) if (panel.openings === openings) panel.close();
      return true;
    } catch (error) {
      this.refusal = reasonOf(error);
      return false;
    }
  }

  /**
   * @param {Desk} desk
   * @param {InboxRow} row
   */
  #take(desk, row) {
    return this.#do(async () => {
      try {
        await desk.call("take_conversation", { conversation_id: row.id });
      } catch (error) {
        if (!(error instanceof Conflict)) throw error;
        const [state] = await desk.ask(desk.from("desk_states").select("assignee_id").eq("id", row.id));
        const name = desk.nameOf(state?.assignee_id);
        throw name ? new Conflict(text("desk.has", { name })) : error;
      }
    });
  }

  /**
   * @param {Desk} desk
   * @param {InboxRow} row
   * @param {string} user_id
   */
  #handOver(desk, row, user_id) {
    return this.#do(() => desk.call("hand_over_conversation", { conversation_id: row.id, user_id }));
  }

  /**
   * @param {Desk} desk
   * @param {InboxRow} row
   * @param {Date | null} until
   */
  #snooze(desk, row, until) {
    return this.#do(() => desk.call("snooze_conversation", { conversation_id: row.id, until: until?.toISOString() ?? null }));
  }

  /**
   * @param {Desk} desk
   * @param {InboxRow} row
   * @param {Event} event
   */
  #setStatus(desk, row, event) {
    const status = /** @type {HTMLSelectElement} */ (event.target).value;
    return this.#do(() => desk.call("set_conversation_status", { conversation_id: row.id, status }));
  }

  /**
   * @param {Desk} desk
   * @param {InboxRow} row
   * @param {string} label_id
   * @param {boolean} isLabelled
   */
  async #label(desk, row, label_id, isLabelled) {
    this.refusal = "";
    try {
      await desk.call(isLabelled ? "label_conversation" : "unlabel_conversation", { conversation_id: row.id, label_id });
    } catch (error) {
      this.refusal = reasonOf(error);
    }
  }

  /** Shows the fields of a new label, with the focus on its name: the button that had it is gone. @param {Event} event */
  async #beginLabel(event) {
    const drop = /** @type {DropDown | null} */ (/** @type {HTMLElement} */ (event.target).closest("drop-down"));
    this.isLabelling = true;
    await this.updateComplete;
    await drop?.updateComplete;
    /** @type {HTMLElement | null} */ (drop?.querySelector("input[name=name]"))?.focus();
  }

  /**
   * @param {Desk} desk
   * @param {InboxRow} row
   * @param {SubmitEvent} event
   */
  #makeLabel(desk, row, event) {
    event.preventDefault();
    const label = { account_id: desk.account.id, name: valueOf(event, "name").trim(), colour: valueOf(event, "colour") };
    return this.#do(async () => {
      const [made] = await desk.ask(desk.from("labels").insert(label).select("id"));
      await desk.call("label_conversation", { conversation_id: row.id, label_id: made.id });
      this.isLabelling = false;
    });
  }

  /**
   * @param {Desk} desk
   * @param {InboxRow} row
   */
  async #markUnread(desk, row) {
    const { opened } = this;
    if (!opened) return;
    const isDone = await this.#do(async () => {
      // what was in sight and is still to be marked would make it read again
      await opened.marks.leave(row.id);
      await markUnread(opened.messages, row.id);
    });
    // who stays here would read it again
    if (isDone && this.opened === opened) location.hash = "";
  }

  /**
   * @param {Desk} desk
   * @param {{ note: string, mentions: string[] }} written
   */
  async #note(desk, { note, mentions }) {
    const { opened } = this;
    if (!opened) return;
    this.isNoting = true;
    this.noteRefusal = "";
    try {
      await desk.ask(desk.from("conversation_notes").insert({ conversation_id: opened.id, note, mentions }).select("id"));
      const composer = /** @type {NoteComposer | null} */ (this.querySelector("note-composer"));
      // unless another is written meanwhile
      if (this.opened !== opened || !composer) desk.draftNotes.delete(opened.id);
      else if (composer.note.trim() === note) composer.clear();
    } catch (error) {
      if (this.opened === opened) this.noteRefusal = reasonOf(error);
    }
    this.isNoting = false;
  }

  /**
   * The saved replies that begin as what follows the slash: the same object until others do.
   *
   * @param {Desk} desk
   */
  #suggestions(desk) {
    const wanted = this.slash?.toLowerCase();
    if (wanted === undefined) return null;
    const of = this.look("replies", desk.replies)?.rows;
    if (this.#suggested?.of !== of || this.#suggested?.slash !== wanted) {
      const found = desk.replyRows
        .filter(({ short_code, title }) => short_code.startsWith(wanted) || title?.toLowerCase().startsWith(wanted))
        .map(({ id, short_code, title, text: words }) => ({ id, title: `/${short_code}`, detail: title || words }));
      this.#suggested = { of, slash: wanted, found };
    }
    return this.#suggested.found;
  }

  /**
   * @param {Desk} desk
   * @param {Opened} opened
   * @param {string} reply_id
   */
  async #fill(desk, opened, reply_id) {
    this.slash = null;
    await this.#do(async () => {
      const filled = await desk.call("fill_saved_reply", { reply_id, conversation_id: opened.id });
      this.#view()?.write?.(filled);
    });
  }

  /** @param {Scheduled | null} row */
  #editLater(row) {
    this.editingLater = row?.id ?? "";
    this.#changed = row;
  }
}

/**
 * @param {SubmitEvent} event
 * @param {string} name
 */
function valueOf(event, name) {
  return String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get(name) ?? "");
}

customElements.define("conversation-pane", ConversationPane);
