// Made from the schema by `uv run python -m tests.schema_types.generate`: edit sql/, run it again.
// Times are ISO 8601 texts in UTC, days ISO 8601 dates.

export type Json = string | number | boolean | null | {
  [key: string]: Json | undefined;
} | Json[];
export type Database = {
  public: {
    Tables: {
      /** WhatsApp's messages about an account, its numbers and its templates, as they came. For owners and admins. */
      account_events: {
        Row: {
          /** The account that the event is about. */
          account_id: string;
          /** The event as WhatsApp sent it: the value of the webhook's field. */
          content: NonNullable<Json>;
          /** The MD5 of content in hex: the same event is kept once. */
          content_md5: string;
          /** When the event was kept (server time, UTC). */
          created_at: string;
          /** Identifies the event. */
          id: string;
          /** When it happened, by WhatsApp's clock (UTC); null where WhatsApp gives no time. */
          occurred_at: string | null;
          /** The field of the webhook, such as account_update; errors for errors that belong to no message. */
          type: string;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          content: NonNullable<Json>;
          content_md5?: never;
          created_at?: string;
          id?: string;
          occurred_at?: string | null;
          type: string;
        };
        Update: {
          account_id?: string;
          content?: NonNullable<Json>;
          content_md5?: never;
          created_at?: string;
          id?: string;
          occurred_at?: string | null;
          type?: string;
        };
        Relationships: [
          {
            foreignKeyName: "account_events_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          }
        ];
      };
      /** What is wrong with an account at the moment. A row exists as long as its trouble; looked for every minute. */
      account_health: {
        Row: {
          /** The account. */
          account_id: string;
          /** How many: numbers, failed runs, webhooks or messages. */
          count: number;
          /** When it was found (server time, UTC). */
          created_at: string;
          /** Identifies the row. */
          id: string;
          /** stopped_number: WhatsApp lets a number send nothing; paused_account and paused_number: a person has paused it; failing_sync: Metakocka; refused_signatures and unknown_number: webhooks that were not taken; waiting_messages: to be sent for more than 5 minutes; failed_messages: of the last 24 hours. */
          kind: "stopped_number" | "paused_account" | "paused_number" | "failing_sync" | "refused_signatures" | "unknown_number" | "waiting_messages" | "failed_messages";
          /** What has happened, in a sentence, in the account's language. */
          meaning: string;
          /** What to do, in the account's language. */
          remedy: string;
          /** Since when (UTC). */
          since: string;
          /** The WhatsApp number: as people write it, and of unknown_number Meta's id; empty where it is about none. */
          subject: string;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** Rises with every change of the row. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          count: number;
          created_at?: string;
          id?: string;
          kind: "stopped_number" | "paused_account" | "paused_number" | "failing_sync" | "refused_signatures" | "unknown_number" | "waiting_messages" | "failed_messages";
          meaning: string;
          remedy: string;
          since: string;
          subject?: string;
          updated_at?: string;
          version?: number;
        };
        Update: {
          account_id?: string;
          count?: number;
          created_at?: string;
          id?: string;
          kind?: "stopped_number" | "paused_account" | "paused_number" | "failing_sync" | "refused_signatures" | "unknown_number" | "waiting_messages" | "failed_messages";
          meaning?: string;
          remedy?: string;
          since?: string;
          subject?: string;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: "account_health_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          }
        ];
      };
      /** Who works for an account: owner, admin, agent or viewer. */
      account_members: {
        Row: {
          /** The account for which the person works. */
          account_id: string;
          /** When the person was added (server time, UTC). */
          created_at: string;
          /** The name that colleagues and customers see. */
          display_name: string;
          /** owner, admin, agent or viewer. Owners and admins also manage the account; viewers only read. */
          role: "owner" | "admin" | "agent" | "viewer";
          /** The person's login (auth.users). */
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          created_at?: string;
          display_name: string;
          role: "owner" | "admin" | "agent" | "viewer";
          user_id: string;
        };
        Update: {
          account_id?: string;
          created_at?: string;
          display_name?: string;
          role?: "owner" | "admin" | "agent" | "viewer";
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "account_members_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          }
        ];
      };
      /** A business that uses Rapport: the tenant. Every other row names its account. Owners and admins change name, country, time_zone, language, assigns_in_turn, the quiet hours, messages_kept_days and files_kept_days. */
      accounts: {
        Row: {
          /** Whether a free conversation, when the customer writes, goes to the member at the desk who was given one least recently; see stay_at_desk. */
          assigns_in_turn: boolean;
          /** How many contacts the account may keep. Beyond it users can't add any; who writes by WhatsApp becomes a contact all the same. */
          contacts_quota: number;
          /** The country of the business by ISO 3166-1, such as SI; null is unknown. */
          country: string | null;
          /** When the account was made (server time, UTC). */
          created_at: string;
          /** The account's part of older conversation keys; see resolve_conversation. */
          external_id: string;
          /** How many bytes of files the account may keep. Beyond it users can't upload any; files that come by WhatsApp are stored all the same. */
          file_bytes_quota: number;
          /** For how many days the files of messages are kept, 30 at least; the messages stay. Null: as long as their messages. */
          files_kept_days: number | null;
          /** Identifies the account; every other row of the business names it as account_id. */
          id: string;
          /** The language in which the system writes to people: en or sl. If none is given: sl for an account in Slovenia, and en for others. */
          language: "en" | "sl";
          /** For how many days messages are kept after they came or were written here, 30 at least. Older ones are deleted for good, with their files, except under a legal hold. Null: for ever. */
          messages_kept_days: number | null;
          /** How many messages one user, staff or customer, may write in a minute. */
          messages_per_minute: number;
          /** How many messages one user may write in one request. */
          messages_per_request: number;
          /** How many messages the account may keep. Beyond it users can't write any more; what comes by WhatsApp is stored all the same. */
          messages_quota: number;
          /** The name of the business, which customers see. */
          name: string;
          /** Since when a person has nothing sent for the account (server time, UTC); null while it sends. See pause_sending and resume_sending. */
          paused_at: string | null;
          /** The time of day, in the account's time zone, at which the quiet hours begin. During them no reminder and no scheduled message is sent. Null: there are no quiet hours. */
          quiet_from: string | null;
          /** The time of day at which the quiet hours end; earlier than quiet_from means on the next day. */
          quiet_until: string | null;
          /** How many rows one user may write in one request. */
          rows_per_request: number;
          /** The IANA time zone in which the account's days begin and end. If none is given: that of its country, or UTC. Due dates, expiring points and notices follow it. */
          time_zone: string;
          /** How many writes one user may make in a minute. A request that writes counts as one, and so does each row that it writes. */
          writes_per_minute: number;
        };
        ComputedFields: never;
        Insert: {
          assigns_in_turn?: boolean;
          contacts_quota?: number;
          country?: string | null;
          created_at?: string;
          external_id?: string;
          file_bytes_quota?: number;
          files_kept_days?: number | null;
          id?: string;
          language: "en" | "sl";
          messages_kept_days?: number | null;
          messages_per_minute?: number;
          messages_per_request?: number;
          messages_quota?: number;
          name: string;
          paused_at?: string | null;
          quiet_from?: string | null;
          quiet_until?: string | null;
          rows_per_request?: number;
          time_zone: string;
          writes_per_minute?: number;
        };
        Update: {
          assigns_in_turn?: boolean;
          contacts_quota?: number;
          country?: string | null;
          created_at?: string;
          external_id?: string;
          file_bytes_quota?: number;
          files_kept_days?: number | null;
          id?: string;
          language?: "en" | "sl";
          messages_kept_days?: number | null;
          messages_per_minute?: number;
          messages_per_request?: number;
          messages_quota?: number;
          name?: string;
          paused_at?: string | null;
          quiet_from?: string | null;
          quiet_until?: string | null;
          rows_per_request?: number;
          time_zone?: string;
          writes_per_minute?: number;
        };
        Relationships: [
        ];
      };
      /** The identities by which contacts are recognised. Each identity has one owner in an account. */
      contact_identities: {
        Row: {
          /** The account in which the identity has one owner. */
          account_id: string;
          /** The contact that owns the identity. */
          contact_id: string;
          /** When the identity was claimed (server time, UTC). */
          created_at: string;
          /** phone, bsuid (WhatsApp's user id), username, email or metakocka (the partner's id in the ERP). */
          kind: "phone" | "bsuid" | "username" | "email" | "metakocka";
          /** The key that all spellings of one identity share. */
          match_key: string;
          /** The identity as it was written, such as +38640111222. */
          value: string;
          /** The exact WhatsApp id of a phone number, to which replies go; null for other kinds, and before WhatsApp tells it. */
          wa_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          contact_id: string;
          created_at?: string;
          kind: "phone" | "bsuid" | "username" | "email" | "metakocka";
          match_key?: never;
          value: string;
          wa_id?: string | null;
        };
        Update: {
          account_id?: string;
          contact_id?: string;
          created_at?: string;
          kind?: "phone" | "bsuid" | "username" | "email" | "metakocka";
          match_key?: never;
          value?: string;
          wa_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "contact_identities_contact_fkey";
            columns: [
              "contact_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** The journal of merges: who merged which contacts and when, both contacts before, the kept one after, and the rows that moved. */
      contact_merges: {
        Row: {
          /** The account of both contacts. */
          account_id: string;
          /** The ids of the suggestions that the kept contact took over from the dropped one. */
          added_suggestions: string[];
          /** The dropped contact's row before the merge. */
          dropped_before: NonNullable<Json>;
          /** The contact that was merged into the kept one. */
          dropped_contact_id: string;
          /** Identifies the merge; undo_merge takes it. */
          id: string;
          /** The kept contact's row after the merge. */
          kept_after: NonNullable<Json>;
          /** The kept contact's row before the merge. */
          kept_before: NonNullable<Json>;
          /** The contact that stayed. */
          kept_contact_id: string;
          /** The ids of the conversations that the kept contact had before. */
          kept_conversations: string[];
          /** When the contacts were merged (server time, UTC). */
          merged_at: string;
          /** The user who merged the contacts. */
          merged_by: string | null;
          /** The ids of the conversations that moved to the kept contact. */
          moved_conversations: string[];
          /** The rows that moved to the kept contact: jobs, invoices and loyalty_transactions by their ids, and loyalty_lots with the points left of each. */
          moved_customer_rows: {
            jobs: string[];
            invoices: string[];
            loyalty_transactions: string[];
            loyalty_lots: {
              [key: string]: number;
            };
          };
          /** The identities that moved to the kept contact, as rows. */
          moved_identities: (Database["public"]["Tables"]["contact_identities"]["Row"])[];
          /** The ids of the suggestions about the two contacts that the merge settled. */
          settled_suggestions: string[];
          /** When the merge was undone (server time, UTC); null while it stands. */
          undone_at: string | null;
          /** The user who undid the merge; null while it stands. */
          undone_by: string | null;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          added_suggestions: string[];
          dropped_before: NonNullable<Json>;
          dropped_contact_id: string;
          id?: string;
          kept_after: NonNullable<Json>;
          kept_before: NonNullable<Json>;
          kept_contact_id: string;
          kept_conversations: string[];
          merged_at?: string;
          merged_by?: string | null;
          moved_conversations: string[];
          moved_customer_rows?: NonNullable<Json>;
          moved_identities: NonNullable<Json>;
          settled_suggestions: string[];
          undone_at?: string | null;
          undone_by?: string | null;
        };
        Update: {
          account_id?: string;
          added_suggestions?: string[];
          dropped_before?: NonNullable<Json>;
          dropped_contact_id?: string;
          id?: string;
          kept_after?: NonNullable<Json>;
          kept_before?: NonNullable<Json>;
          kept_contact_id?: string;
          kept_conversations?: string[];
          merged_at?: string;
          merged_by?: string | null;
          moved_conversations?: string[];
          moved_customer_rows?: NonNullable<Json>;
          moved_identities?: NonNullable<Json>;
          settled_suggestions?: string[];
          undone_at?: string | null;
          undone_by?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "contact_merges_dropped_contact_fkey";
            columns: [
              "dropped_contact_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          },
          {
            foreignKeyName: "contact_merges_kept_contact_fkey";
            columns: [
              "kept_contact_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** Pairs of contacts that may be one person, with the reason; see merge_contacts. */
      contact_suggestions: {
        Row: {
          /** The account of both contacts. */
          account_id: string;
          /** One of the two contacts: the one with the lesser id. */
          contact_id: string;
          /** When the suggestion was made (server time, UTC). */
          created_at: string;
          /** When the pair was merged or dismissed (server time, UTC); null while it is open. */
          decided_at: string | null;
          /** The user who merged or dismissed the pair; null while it is open. */
          decided_by: string | null;
          /** The evidence that both are one person, for the member who decides: phone, email, name … */
          evidence: {
            [key: string]: Json;
          };
          /** Identifies the suggestion; dismiss_suggestion takes it. */
          id: string;
          /** The other contact. */
          other_contact_id: string;
          /** same_sender, number_changed, user_id_changed, same_name, same_phone, same_email, same_row (of an imported file) or same_partner (of the ERP). */
          reason: "same_sender" | "number_changed" | "user_id_changed" | "same_name" | "same_phone" | "same_email" | "same_row" | "same_partner";
          /** open, merged or dismissed. */
          status: "open" | "merged" | "dismissed";
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          contact_id: string;
          created_at?: string;
          decided_at?: string | null;
          decided_by?: string | null;
          evidence?: NonNullable<Json>;
          id?: string;
          other_contact_id: string;
          reason: "same_sender" | "number_changed" | "user_id_changed" | "same_name" | "same_phone" | "same_email" | "same_row" | "same_partner";
          status?: "open" | "merged" | "dismissed";
        };
        Update: {
          account_id?: string;
          contact_id?: string;
          created_at?: string;
          decided_at?: string | null;
          decided_by?: string | null;
          evidence?: NonNullable<Json>;
          id?: string;
          other_contact_id?: string;
          reason?: "same_sender" | "number_changed" | "user_id_changed" | "same_name" | "same_phone" | "same_email" | "same_row" | "same_partner";
          status?: "open" | "merged" | "dismissed";
        };
        Relationships: [
          {
            foreignKeyName: "contact_suggestions_contact_fkey";
            columns: [
              "contact_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          },
          {
            foreignKeyName: "contact_suggestions_other_contact_fkey";
            columns: [
              "other_contact_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** A person or company that an account knows. Staff read it; customers see public.customers. */
      contacts: {
        Row: {
          /** The account that knows the contact. */
          account_id: string;
          /** Further addresses: {mk_id, address_type, street, post_number, city, province, country}. */
          addresses: ({
            [key: string]: Json;
          })[];
          /** Whether the contact is a business and not a private person; null is unknown. */
          business_entity: boolean | null;
          /** Whether the contact buys from the account, as the ERP has it; null is unknown. */
          buyer: boolean | null;
          /** The country of the main address, as the ERP writes it. */
          country: string | null;
          /** When the contact was made (server time, UTC). */
          created_at: string;
          /** Since when the contact is deleted (server time, UTC). Its contents are blanked, and lists leave it out. */
          deleted_at: string | null;
          /** One email address. */
          email: string | null;
          /** The fax number, as the ERP has it. */
          fax: string | null;
          /** Whether the country is a foreign one (the ERP's spelling); null is unknown. */
          foreign_county: boolean | null;
          /** The mobile number, as the ERP has it; in E.164 if it could be read as a number, and then the contact is known by it. */
          gsm: string | null;
          /** Identifies the contact; customers.id is the same. */
          id: string;
          /** When the person last stopped or allowed marketing messages, by WhatsApp's clock (UTC). */
          marketing_chosen_at: string | null;
          /** Since when the person takes no marketing messages on WhatsApp, by WhatsApp's clock (UTC). The person chooses that in WhatsApp, and nobody writes it here. Null: marketing messages may be sent. */
          marketing_stopped_at: string | null;
          /** The contact into which this one was merged. */
          merged_into: string | null;
          /** The name that staff gave; if it is null, clients show profile_name. */
          name: string | null;
          /** Notes of staff, at most 20,000 characters; customers do not see them. */
          notes: string | null;
          /** Further persons of a company: {mk_id, mk_address_id, name, email, phone, gsm, fax}. */
          people: ({
            [key: string]: Json;
          })[];
          /** The phone number in E.164, such as +38640111222. */
          phone: string | null;
          /** The town of the main address. */
          place: string | null;
          /** The login (auth.users) with which the person enters the portal; null without one. */
          portal_user_id: string | null;
          /** The postal code of the main address. */
          post_number: string | null;
          /** The customer's choices, such as language, channels and consent: an object of at most 8 KB. Written through my_profile and contacts_v2. */
          preferences: {
            [key: string]: Json;
          };
          /** The name of the person's WhatsApp profile; null is unknown. */
          profile_name: string | null;
          /** When the person sent the message that brought profile_name, by WhatsApp's clock (UTC). */
          profile_named_at: string | null;
          /** The province of the main address. */
          province: string | null;
          /** The number in the register of companies. */
          registration_number: string | null;
          /** open, pending or closed: the contact's own status, shown until it has a conversation. contacts_v2 has the status that clients show. The changes of conversations tell when one begins or is opened again. */
          status: "open" | "pending" | "closed";
          /** When staff last changed the status of a conversation of the contact (server time, UTC). */
          status_changed_at: string | null;
          /** Street and house number of the main address. */
          street: string | null;
          /** Whether the contact supplies the account, as the ERP has it; null is unknown. */
          supplier: boolean | null;
          /** Labels that staff give, at most 100. */
          tags: string[];
          /** The tax number, with or without the country code. */
          tax_id_number: string | null;
          /** Whether the contact is liable for VAT; null is unknown. */
          taxpayer: boolean | null;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** The person's latest known WhatsApp username, without @. */
          username: string | null;
          /** Rises by 1 with each change of the row. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          addresses?: NonNullable<Json>;
          business_entity?: boolean | null;
          buyer?: boolean | null;
          country?: string | null;
          created_at?: string;
          deleted_at?: string | null;
          email?: string | null;
          fax?: string | null;
          foreign_county?: boolean | null;
          gsm?: string | null;
          id?: string;
          marketing_chosen_at?: string | null;
          marketing_stopped_at?: string | null;
          merged_into?: string | null;
          name?: string | null;
          notes?: string | null;
          people?: NonNullable<Json>;
          phone?: string | null;
          place?: string | null;
          portal_user_id?: string | null;
          post_number?: string | null;
          preferences?: NonNullable<Json>;
          profile_name?: string | null;
          profile_named_at?: string | null;
          province?: string | null;
          registration_number?: string | null;
          status?: "open" | "pending" | "closed";
          status_changed_at?: string | null;
          street?: string | null;
          supplier?: boolean | null;
          tags?: string[];
          tax_id_number?: string | null;
          taxpayer?: boolean | null;
          updated_at?: string;
          username?: string | null;
          version?: number;
        };
        Update: {
          account_id?: string;
          addresses?: NonNullable<Json>;
          business_entity?: boolean | null;
          buyer?: boolean | null;
          country?: string | null;
          created_at?: string;
          deleted_at?: string | null;
          email?: string | null;
          fax?: string | null;
          foreign_county?: boolean | null;
          gsm?: string | null;
          id?: string;
          marketing_chosen_at?: string | null;
          marketing_stopped_at?: string | null;
          merged_into?: string | null;
          name?: string | null;
          notes?: string | null;
          people?: NonNullable<Json>;
          phone?: string | null;
          place?: string | null;
          portal_user_id?: string | null;
          post_number?: string | null;
          preferences?: NonNullable<Json>;
          profile_name?: string | null;
          profile_named_at?: string | null;
          province?: string | null;
          registration_number?: string | null;
          status?: "open" | "pending" | "closed";
          status_changed_at?: string | null;
          street?: string | null;
          supplier?: boolean | null;
          tags?: string[];
          tax_id_number?: string | null;
          taxpayer?: boolean | null;
          updated_at?: string;
          username?: string | null;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: "contacts_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          },
          {
            foreignKeyName: "contacts_merged_into_fkey";
            columns: [
              "merged_into",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** The latest seq and times of each conversation, one row for each. Sort the inbox by last_message_at. */
      conversation_activity: {
        Row: {
          /** The account of the conversation. */
          account_id: string;
          /** The conversation. */
          conversation_id: string;
          /** The contact of the conversation; null for a group. */
          customer_id: string | null;
          /** When the customer last wrote or called: on WhatsApp by WhatsApp's clock (UTC). It opens the 24-hour window. */
          last_inbound_at: string | null;
          /** When the latest message was sent (messages.sent_at, UTC); before the first message, when the conversation was made. */
          last_message_at: string;
          /** The seq of the latest message, 0 before the first. All seqs from 1 to it have existed; the first ones may be gone, see accounts.messages_kept_days. */
          last_seq: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          conversation_id: string;
          customer_id?: string | null;
          last_inbound_at?: string | null;
          last_message_at?: string;
          last_seq?: number;
        };
        Update: {
          account_id?: string;
          conversation_id?: string;
          customer_id?: string | null;
          last_inbound_at?: string | null;
          last_message_at?: string;
          last_seq?: number;
        };
        Relationships: [
          {
            foreignKeyName: "conversation_activity_conversation_fkey";
            columns: [
              "conversation_id",
              "account_id",
              "customer_id"
            ];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: [
              "id",
              "account_id",
              "customer_id"
            ];
          }
        ];
      };
      /** Which conversations have which labels. Written by label_conversation and unlabel_conversation. */
      conversation_labels: {
        Row: {
          /** The account of the conversation and the label. */
          account_id: string;
          /** The conversation. */
          conversation_id: string;
          /** When it was labelled (server time, UTC). */
          created_at: string;
          /** Identifies the row. */
          id: string;
          /** The label that it has. */
          label_id: string;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          conversation_id: string;
          created_at?: string;
          id?: string;
          label_id: string;
          updated_at?: string;
          version?: number;
        };
        Update: {
          account_id?: string;
          conversation_id?: string;
          created_at?: string;
          id?: string;
          label_id?: string;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: "conversation_labels_conversation_fkey";
            columns: [
              "conversation_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: [
              "id",
              "account_id"
            ];
          },
          {
            foreignKeyName: "conversation_labels_label_fkey";
            columns: [
              "label_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "labels";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** Notes of staff about a conversation, and its events at the desk; no customer reads them. Insert conversation_id, note and mentions; the author may change note and mentions, and delete_note deletes. */
      conversation_notes: {
        Row: {
          /** The account of the conversation; filled in. */
          account_id: string;
          /** The user who wrote it or did it; null if the system did. */
          author_id: string | null;
          /** The author's name when it was written. */
          author_name: string | null;
          /** The conversation that the note is about. */
          conversation_id: string;
          /** When it was written (server time, UTC). */
          created_at: string;
          /** When it was deleted (UTC); its text is gone, its number stays, and nobody reads it any more. */
          deleted_at: string | null;
          /** The facts of the event (the assignee, the label, the end of the snooze), for clients that write a text of their own; null for a note. */
          event: {
            event: string;
            assignee_id?: string;
            assignee_name?: string;
            former_assignee_id?: string;
            label_id?: string;
            label?: string;
            snoozed_until?: string;
            time?: string;
          } | null;
          /** Identifies the note. A client may choose it, so that a repeated insert is refused (409). */
          id: string;
          /** note (a person wrote it) or event (taken, handed over, released, labelled, snoozed). */
          kind: "note" | "event";
          /** The user ids of the members whom the note mentions, at most 50. */
          mentions: string[];
          /** The text, 1 to 4,096 characters; an event's is in the account's language. Empty once deleted. */
          note: string;
          /** Counts 1, 2, 3 … in its conversation, apart from the messages. */
          seq: number;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          author_id?: string | null;
          author_name?: string | null;
          conversation_id: string;
          created_at?: string;
          deleted_at?: string | null;
          event?: Json | null;
          id?: string;
          kind?: "note" | "event";
          mentions?: string[];
          note: string;
          seq: number;
          updated_at?: string;
          version?: number;
        };
        Update: {
          account_id?: string;
          author_id?: string | null;
          author_name?: string | null;
          conversation_id?: string;
          created_at?: string;
          deleted_at?: string | null;
          event?: Json | null;
          id?: string;
          kind?: "note" | "event";
          mentions?: string[];
          note?: string;
          seq?: number;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: "conversation_notes_conversation_fkey";
            columns: [
              "conversation_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** A conversation with one customer, on WhatsApp, about a booking or in the portal, or with a group on WhatsApp. */
      conversations: {
        Row: {
          /** The account whose staff take part. */
          account_id: string;
          /** The job that a booking's conversation is about; null on other channels. */
          booking_id: string | null;
          /** whatsapp, booking or portal. */
          channel: "whatsapp" | "booking" | "portal";
          /** When the conversation was made (server time, UTC). */
          created_at: string;
          /** The contact that takes part; null for a group. */
          customer_id: string | null;
          /** The exact WhatsApp id to which replies go; null where WhatsApp has not told one. */
          customer_wa_id: string | null;
          /** WhatsApp's id of the group; null for a conversation with one customer. */
          group_id: string | null;
          /** The group's subject; null if WhatsApp has not told it. */
          group_name: string | null;
          /** active, suspended or deleted; messages go to an active group only. Null for a conversation with one customer. */
          group_state: "active" | "suspended" | "deleted" | null;
          /** Identifies the conversation in rows, topics, URLs and events. */
          id: string;
          /** The present and former members of the group, as far as WhatsApp has told. A message's sender_id is one of the two ids. */
          participants: ({
            wa_id: string | null;
            user_id: string | null;
            name: string | null;
            is_member: boolean;
            joined_at: string | null;
            left_at: string | null;
          })[];
          /** open, pending or closed; written by set_conversation_status and through the contact's faces. */
          status: "open" | "pending" | "closed";
          /** Who the customer is on this channel. Of the conversations with one key, one is open at a time. */
          thread_key: string;
          /** When the row last changed (server time, UTC); messages do not change it. */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
          /** The account's WhatsApp number that carries the conversation; null on other channels. */
          whatsapp_channel_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          booking_id?: string | null;
          channel: "whatsapp" | "booking" | "portal";
          created_at?: string;
          customer_id?: string | null;
          customer_wa_id?: string | null;
          group_id?: string | null;
          group_name?: string | null;
          group_state?: "active" | "suspended" | "deleted" | null;
          id?: string;
          participants?: NonNullable<Json>;
          status?: "open" | "pending" | "closed";
          thread_key: string;
          updated_at?: string;
          version?: number;
          whatsapp_channel_id?: string | null;
        };
        Update: {
          account_id?: string;
          booking_id?: string | null;
          channel?: "whatsapp" | "booking" | "portal";
          created_at?: string;
          customer_id?: string | null;
          customer_wa_id?: string | null;
          group_id?: string | null;
          group_name?: string | null;
          group_state?: "active" | "suspended" | "deleted" | null;
          id?: string;
          participants?: NonNullable<Json>;
          status?: "open" | "pending" | "closed";
          thread_key?: string;
          updated_at?: string;
          version?: number;
          whatsapp_channel_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "conversations_booking_fkey";
            columns: [
              "booking_id",
              "account_id",
              "customer_id"
            ];
            isOneToOne: false;
            referencedRelation: "jobs";
            referencedColumns: [
              "id",
              "account_id",
              "customer_id"
            ];
          },
          {
            foreignKeyName: "conversations_customer_fkey";
            columns: [
              "customer_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          },
          {
            foreignKeyName: "conversations_whatsapp_channel_fkey";
            columns: [
              "whatsapp_channel_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "whatsapp_channels";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** A contact, as its customer sees it in the portal. The id is the contact's. */
      customers: {
        Row: {
          /** The account whose customer it is. */
          account_id: string;
          /** When the contact was made (server time, UTC). */
          created_at: string;
          /** One email address. */
          email: string | null;
          /** Identifies the customer; contacts.id is the same. */
          id: string;
          /** The name that staff gave, or else that of the WhatsApp profile. */
          name: string | null;
          /** The phone number in E.164, such as +38640111222. */
          phone: string | null;
          /** The login (auth.users) with which the customer enters the portal; null without one. */
          portal_user_id: string | null;
          /** The customer's own choices, written through my_profile. {"wants_reminders": false} ends reminders. */
          preferences: {
            [key: string]: Json;
          };
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          created_at?: string;
          email?: string | null;
          id: string;
          name?: string | null;
          phone?: string | null;
          portal_user_id?: string | null;
          preferences?: NonNullable<Json>;
          updated_at?: string;
          version?: number;
        };
        Update: {
          account_id?: string;
          created_at?: string;
          email?: string | null;
          id?: string;
          name?: string | null;
          phone?: string | null;
          portal_user_id?: string | null;
          preferences?: NonNullable<Json>;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: "customers_contact_fkey";
            columns: [
              "account_id",
              "id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "account_id",
              "id"
            ];
          }
        ];
      };
      /** The state of conversations at the desk: who answers, and until when one waits. A conversation without a row is free. No customer reads it. */
      desk_states: {
        Row: {
          /** The account of the conversation. */
          account_id: string;
          /** The member who answers; null if the conversation is free. Written by take_conversation, hand_over_conversation and release_conversation. */
          assignee_id: string | null;
          /** When the row was made (server time, UTC). */
          created_at: string;
          /** The conversation. */
          id: string;
          /** Until when the conversation waits (UTC); null if it does not. */
          snoozed_until: string | null;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          assignee_id?: string | null;
          created_at?: string;
          id: string;
          snoozed_until?: string | null;
          updated_at?: string;
          version?: number;
        };
        Update: {
          account_id?: string;
          assignee_id?: string | null;
          created_at?: string;
          id?: string;
          snoozed_until?: string | null;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: "desk_states_assignee_fkey";
            columns: [
              "account_id",
              "assignee_id"
            ];
            isOneToOne: false;
            referencedRelation: "account_members";
            referencedColumns: [
              "account_id",
              "user_id"
            ];
          },
          {
            foreignKeyName: "desk_states_conversation_fkey";
            columns: [
              "id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** Bills to customers. An invoice begins as a draft, and its status sends it. A sent invoice can't be deleted: make it void. */
      invoices: {
        Row: {
          /** The customer's account; filled in if not given. */
          account_id: string;
          /** The total with tax, in minor units: 12050 is 120.50 EUR. */
          amount_minor: number;
          /** When the draft was made (server time, UTC). */
          created_at: string;
          /** The currency as in ISO 4217, such as EUR. */
          currency: string;
          /** The customer: a contact's id. A merged contact stands for the one it was merged into. */
          customer_id: string;
          /** What the invoice is for, as the customer reads it; at most 4,000 characters. */
          description: string | null;
          /** The last day to pay it, in the account's time zone. Without it an invoice never becomes overdue. */
          due_on: string | null;
          /** Identifies the invoice. A client may choose it. */
          id: string;
          /** The date of the invoice; if not given, the day on which it is sent. */
          issued_on: string | null;
          /** The job that it bills, of the same customer; null for none. The job's chat hears of the invoice. */
          job_id: string | null;
          /** The business' own invoice number, unique in the account; 1 to 64 characters. */
          number: string;
          /** When its status became paid (server time, UTC); null until then. */
          paid_at: string | null;
          /** When it was sent and became visible to the customer (UTC); null for a draft. The customer hears it through postgres_changes as an UPDATE whose old sent_at is null, and as the broadcast invoices.inserted. */
          sent_at: string | null;
          /** draft, sent, paid, overdue or void. The daily schedule makes a sent invoice overdue once due_on has passed. */
          status: "draft" | "sent" | "paid" | "overdue" | "void";
          /** The tax within amount_minor, in the same minor units. */
          tax_minor: number;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
          /** When its status became void (server time, UTC); null until then. */
          voided_at: string | null;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          amount_minor: number;
          created_at?: string;
          currency: string;
          customer_id: string;
          description?: string | null;
          due_on?: string | null;
          id?: string;
          issued_on?: string | null;
          job_id?: string | null;
          number: string;
          paid_at?: string | null;
          sent_at?: string | null;
          status?: "draft" | "sent" | "paid" | "overdue" | "void";
          tax_minor?: number;
          updated_at?: string;
          version?: number;
          voided_at?: string | null;
        };
        Update: {
          account_id?: string;
          amount_minor?: number;
          created_at?: string;
          currency?: string;
          customer_id?: string;
          description?: string | null;
          due_on?: string | null;
          id?: string;
          issued_on?: string | null;
          job_id?: string | null;
          number?: string;
          paid_at?: string | null;
          sent_at?: string | null;
          status?: "draft" | "sent" | "paid" | "overdue" | "void";
          tax_minor?: number;
          updated_at?: string;
          version?: number;
          voided_at?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "invoices_customer_fkey";
            columns: [
              "customer_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          },
          {
            foreignKeyName: "invoices_job_fkey";
            columns: [
              "job_id",
              "account_id",
              "customer_id"
            ];
            isOneToOne: false;
            referencedRelation: "jobs";
            referencedColumns: [
              "id",
              "account_id",
              "customer_id"
            ];
          }
        ];
      };
      /** Appointments, which customers book. Insert and update them as in any table. A job is cancelled, never deleted. */
      jobs: {
        Row: {
          /** The customer's account; filled in if not given. */
          account_id: string;
          /** Where it takes place; at most 500 characters. */
          address: string | null;
          /** When the job was made (server time, UTC). */
          created_at: string;
          /** The customer: a contact's id. A merged contact stands for the one it was merged into. */
          customer_id: string;
          /** What the customer should know; at most 4,000 characters. The customer reads all of a job. */
          description: string | null;
          /** When it ends (UTC); null where that is open. */
          ends_at: string | null;
          /** Identifies the job; conversations and messages name it as booking_id. A client may choose it. */
          id: string;
          /** The service, in the business' own words; 1 to 200 characters. */
          service_type: string;
          /** When it starts (UTC). */
          starts_at: string;
          /** scheduled, rescheduled, in_progress, completed or cancelled; it only moves forward. Another time makes it rescheduled. */
          status: "scheduled" | "rescheduled" | "in_progress" | "completed" | "cancelled";
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          address?: string | null;
          created_at?: string;
          customer_id: string;
          description?: string | null;
          ends_at?: string | null;
          id?: string;
          service_type: string;
          starts_at: string;
          status?: "scheduled" | "rescheduled" | "in_progress" | "completed" | "cancelled";
          updated_at?: string;
          version?: number;
        };
        Update: {
          account_id?: string;
          address?: string | null;
          created_at?: string;
          customer_id?: string;
          description?: string | null;
          ends_at?: string | null;
          id?: string;
          service_type?: string;
          starts_at?: string;
          status?: "scheduled" | "rescheduled" | "in_progress" | "completed" | "cancelled";
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: "jobs_customer_fkey";
            columns: [
              "customer_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** The labels that an account's team puts on conversations. Insert, update and delete them as in any table. */
      labels: {
        Row: {
          /** The account whose label it is; filled in if you write for one account. */
          account_id: string;
          /** The colour in which it is shown: # and six hexadecimal digits in lower case. */
          colour: string;
          /** When the label was made (server time, UTC). */
          created_at: string;
          /** Identifies the label. A client may choose it. */
          id: string;
          /** The text that people read, 1 to 64 characters, unique in the account. */
          name: string;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          colour?: string;
          created_at?: string;
          id?: string;
          name: string;
          updated_at?: string;
          version?: number;
        };
        Update: {
          account_id?: string;
          colour?: string;
          created_at?: string;
          id?: string;
          name?: string;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: "labels_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          }
        ];
      };
      /** A customer's balance of points. No row means none. */
      loyalty_balances: {
        Row: {
          /** The customer's account. */
          account_id: string;
          /** The customer: a contact's id. */
          customer_id: string;
          /** The sum of the customer's loyalty_transactions. Points past expires_on count until the daily schedule writes them off. */
          points: number;
          /** When the balance last changed (server time, UTC). */
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          customer_id: string;
          points?: number;
          updated_at?: string;
        };
        Update: {
          account_id?: string;
          customer_id?: string;
          points?: number;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: "loyalty_balances_customer_fkey";
            columns: [
              "customer_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** A customer's points, line by line. Insert a line to give points (earned, bonus) or to take them (redeemed). A line never changes, and the balance never goes below zero (409). */
      loyalty_transactions: {
        Row: {
          /** The customer's account; filled in if not given. */
          account_id: string;
          /** When the line was written (server time, UTC). */
          created_at: string;
          /** The customer: a contact's id. A merged contact stands for the one it was merged into. */
          customer_id: string;
          /** The reason, as the customer reads it; at most 500 characters. */
          description: string | null;
          /** The last day on which these points may be redeemed, in the account's time zone; null if they never expire. */
          expires_on: string | null;
          /** The line's id. Choose it yourself, and a repeated insert is refused (409) instead of counted twice. */
          id: string;
          /** The number of points: positive for earned and bonus, negative for redeemed and expired. */
          points: number;
          /** earned, bonus or redeemed. Only the daily schedule writes expired. */
          type: "earned" | "redeemed" | "bonus" | "expired";
          /** When the row last changed (server time, UTC): a line only moves to another customer in a merge. */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          created_at?: string;
          customer_id: string;
          description?: string | null;
          expires_on?: string | null;
          id?: string;
          points: number;
          type: "earned" | "redeemed" | "bonus" | "expired";
          updated_at?: string;
          version?: number;
        };
        Update: {
          account_id?: string;
          created_at?: string;
          customer_id?: string;
          description?: string | null;
          expires_on?: string | null;
          id?: string;
          points?: number;
          type?: "earned" | "redeemed" | "bonus" | "expired";
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: "loyalty_transactions_customer_fkey";
            columns: [
              "customer_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** The files of messages, at most one for each message. GET /api/messages/{message_id}/media returns the address of the file. */
      message_media: {
        Row: {
          /** The account of the conversation. */
          account_id: string;
          /** The conversation. */
          conversation_id: string;
          /** When the message brought the file (server time, UTC). */
          created_at: string;
          /** The contact of the conversation; null for a group. */
          customer_id: string | null;
          /** Why it failed or expired, in a sentence; null otherwise. */
          error: string | null;
          /** The file's name, as the sender says; null where there is none. */
          file_name: string | null;
          /** Identifies the file. */
          id: string;
          /** The message to which the file belongs. */
          message_id: string;
          /** The media type, such as image/jpeg, as the sender says. Check the file before you show it by this type. */
          mime_type: string | null;
          /** The file's key in the bucket, under the account's own prefix. GET /api/messages/{message_id}/media gives an address. */
          object_key: string;
          /** WhatsApp's id of the file. WhatsApp keeps the file for 7 days after the message. */
          provider_id: string | null;
          /** The SHA-256 of the file in hex. A stored file has been checked against it. */
          sha256: string | null;
          /** The size in bytes; null until the file is stored. */
          size: number | null;
          /** pending: it is being fetched; stored: it can be read; failed: refetch_media tries again; expired: WhatsApp no longer has it, the sender deleted it, or the account keeps files for a time only. */
          state: "pending" | "stored" | "failed" | "expired";
          /** When the file was stored (server time, UTC); null until then. */
          stored_at: string | null;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          conversation_id: string;
          created_at?: string;
          customer_id?: string | null;
          error?: string | null;
          file_name?: string | null;
          id?: string;
          message_id: string;
          mime_type?: string | null;
          object_key: string;
          provider_id?: string | null;
          sha256?: string | null;
          size?: number | null;
          state?: "pending" | "stored" | "failed" | "expired";
          stored_at?: string | null;
          updated_at?: string;
          version?: number;
        };
        Update: {
          account_id?: string;
          conversation_id?: string;
          created_at?: string;
          customer_id?: string | null;
          error?: string | null;
          file_name?: string | null;
          id?: string;
          message_id?: string;
          mime_type?: string | null;
          object_key?: string;
          provider_id?: string | null;
          sha256?: string | null;
          size?: number | null;
          state?: "pending" | "stored" | "failed" | "expired";
          stored_at?: string | null;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: "message_media_conversation_fkey";
            columns: [
              "conversation_id",
              "account_id",
              "customer_id"
            ];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: [
              "id",
              "account_id",
              "customer_id"
            ];
          },
          {
            foreignKeyName: "message_media_message_id_fkey";
            columns: [
              "message_id"
            ];
            isOneToOne: true;
            referencedRelation: "messages";
            referencedColumns: [
              "id"
            ];
          }
        ];
      };
      /** The messages of conversations, in both directions, with their status. */
      messages: {
        Row: {
          /** The account of the conversation. */
          account_id: string;
          /** The job that the conversation is about; null on other channels. */
          booking_id: string | null;
          /** The sender's own id of the message, at most 128 characters, unique for each sender. A repeated send stays one message. */
          client_ref: string | null;
          /** The provider's object for the type; null for plain text. For a notice: {event, …}. */
          content: Json | null;
          /** The conversation. */
          conversation_id: string;
          /** When the row was inserted (server time, UTC). */
          created_at: string;
          /** The contact of the conversation; null for a group. */
          customer_id: string | null;
          /** When the message was delivered (UTC): on WhatsApp by WhatsApp's clock. */
          delivered_at: string | null;
          /** When the sender last edited the message (UTC); message and content are the edited ones. */
          edited_at: string | null;
          /** The error code of a failed message. */
          error_code: number | null;
          /** A sentence that says why the message failed. */
          error_message: string | null;
          /** When the message failed (UTC). */
          failed_at: string | null;
          /** Whether the message shows an invoice. */
          has_invoice: boolean;
          /** Identifies the message. A client may choose it. */
          id: string;
          /** The invoice that the message shows, as it was then. amount_minor is in minor units, such as cents. */
          invoice_data: {
            invoice_id: string;
            number: string;
            amount_minor: number;
            currency: string;
            status: "draft" | "sent" | "paid" | "overdue" | "void";
            due_on: string | null;
          } | null;
          /** Whether the message comes from the phone app's history, from before the number came here. It is never unread and opens no window. */
          is_history: boolean;
          /** The text; for a type without text a placeholder, such as [image]. */
          message: string;
          /** WhatsApp's id of the message; null before WhatsApp has accepted it, and on other channels. */
          provider_id: string | null;
          /** The latest reaction of each person; sender_id is null outside groups. */
          reactions: ({
            sender_type: "client" | "operator" | "system";
            sender_id: string | null;
            emoji: string;
            at: string;
          })[];
          /** When the receiver read the message (UTC): on WhatsApp by WhatsApp's clock. */
          read_at: string | null;
          /** The message that this one answers. */
          reply_to: string | null;
          /** When the sender deleted the message for everybody (UTC). message is empty and content null; the row and its seq stay. */
          revoked_at: string | null;
          /** The writer: a user's id, or the WhatsApp id or user id of a person on WhatsApp; null for the system. */
          sender_id: string | null;
          /** The writer's name when the message was written. */
          sender_name: string | null;
          /** Who wrote: client (the customer), operator (staff) or system. */
          sender_type: "client" | "operator" | "system";
          /** When the message was sent (UTC): by WhatsApp's clock, or when it was written here. */
          sent_at: string | null;
          /** The message's number in its conversation: 1, 2, 3 … without a gap, in the order of arrival, in which they are shown; the first ones may have been deleted (accounts.messages_kept_days). The time and day to show is sent_at. */
          seq: number;
          /** queued, sent, delivered, read, failed or unknown (WhatsApp has not answered). */
          status: "queued" | "sent" | "delivered" | "read" | "failed" | "unknown";
          /** text, image, location … as WhatsApp names it; system for notices. */
          type: string;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
          /** The account's WhatsApp number of the conversation; null on other channels. */
          whatsapp_channel_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          booking_id?: string | null;
          client_ref?: string | null;
          content?: Json | null;
          conversation_id: string;
          created_at?: string;
          customer_id?: string | null;
          delivered_at?: string | null;
          edited_at?: string | null;
          error_code?: number | null;
          error_message?: string | null;
          failed_at?: string | null;
          has_invoice?: boolean;
          id?: string;
          invoice_data?: Json | null;
          is_history?: boolean;
          message: string;
          provider_id?: string | null;
          reactions?: NonNullable<Json>;
          read_at?: string | null;
          reply_to?: string | null;
          revoked_at?: string | null;
          sender_id?: string | null;
          sender_name?: string | null;
          sender_type: "client" | "operator" | "system";
          sent_at?: string | null;
          seq: number;
          status: "queued" | "sent" | "delivered" | "read" | "failed" | "unknown";
          type?: string;
          updated_at?: string;
          version?: number;
          whatsapp_channel_id?: string | null;
        };
        Update: {
          account_id?: string;
          booking_id?: string | null;
          client_ref?: string | null;
          content?: Json | null;
          conversation_id?: string;
          created_at?: string;
          customer_id?: string | null;
          delivered_at?: string | null;
          edited_at?: string | null;
          error_code?: number | null;
          error_message?: string | null;
          failed_at?: string | null;
          has_invoice?: boolean;
          id?: string;
          invoice_data?: Json | null;
          is_history?: boolean;
          message?: string;
          provider_id?: string | null;
          reactions?: NonNullable<Json>;
          read_at?: string | null;
          reply_to?: string | null;
          revoked_at?: string | null;
          sender_id?: string | null;
          sender_name?: string | null;
          sender_type?: "client" | "operator" | "system";
          sent_at?: string | null;
          seq?: number;
          status?: "queued" | "sent" | "delivered" | "read" | "failed" | "unknown";
          type?: string;
          updated_at?: string;
          version?: number;
          whatsapp_channel_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "messages_conversation_fkey";
            columns: [
              "conversation_id",
              "account_id",
              "customer_id"
            ];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: [
              "id",
              "account_id",
              "customer_id"
            ];
          },
          {
            foreignKeyName: "messages_reply_to_fkey";
            columns: [
              "reply_to"
            ];
            isOneToOne: false;
            referencedRelation: "messages";
            referencedColumns: [
              "id"
            ];
          }
        ];
      };
      /** An account's connection to its company at Metakocka. The secret key is not here. For owners and admins. */
      metakocka_connections: {
        Row: {
          /** The connected account; filled in if you write for one account. */
          account_id: string;
          /** Whether the account is synchronized. Known contacts that change while it is false are sent once it is true again. */
          active: boolean;
          /** The address of a company with a server of its own; null for https://main.metakocka.si/rest/eshop/v1. */
          base_url: string | null;
          /** The company's id at Metakocka. It can't change once contacts are partners of this company (409), and it can't be a company that another account is connected to (409). */
          company_id: string;
          /** The side whose value wins where both sides have changed a field: crm, metakocka or newest; ask leaves it to a person (sync_conflicts). */
          conflict_rule: "crm" | "metakocka" | "newest" | "ask";
          /** When the account was connected (server time, UTC). */
          created_at: string;
          /** Up to when documents have been read for their partners (UTC). */
          documents_seen_until: string | null;
          /** How partners are found. all: list and compare every partner; documents: only the partners of changed documents. */
          listing: "all" | "documents";
          /** The reason of the pause, in a sentence; null if there is no pause. */
          pause_reason: string | null;
          /** Until when no calls are made (UTC), because of a quota or a key that Metakocka does not accept; null if there is no pause. Set it to null to try at once. */
          paused_until: string | null;
          /** The number of pauses in a row. Each is longer than the one before. */
          pauses: number;
          /** How long a request waits for a running run of the account to end: 0 to 12 seconds. */
          request_wait: string;
          /** How often a call is tried, and the waits in between, for each kind of operation. contact is for a contact that failed, and pause for an account whose company takes no calls. Waits are in seconds and double from try to try. jitter is the random part of a wait, from 0 to 1. A write may name only some settings; the others stay as they are. */
          retries: {
            read: {
              attempts: number;
              first_wait: number;
              longest_wait: number;
              jitter: number;
            };
            list: {
              attempts: number;
              first_wait: number;
              longest_wait: number;
              jitter: number;
            };
            write: {
              attempts: number;
              first_wait: number;
              longest_wait: number;
              jitter: number;
            };
            create: {
              attempts: number;
              first_wait: number;
              longest_wait: number;
              jitter: number;
            };
            contact: {
              first_wait: number;
              longest_wait: number;
              jitter: number;
            };
            pause: {
              first_wait: number;
              longest_wait: number;
              jitter: number;
            };
          };
          /** How often partners are read. Contacts that change are sent at once. */
          sync_interval: string;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** The user who connected the account. */
          user_id: string | null;
          /** Rises by 1 with each change of the row. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          active?: boolean;
          base_url?: string | null;
          company_id: string;
          conflict_rule?: "crm" | "metakocka" | "newest" | "ask";
          created_at?: string;
          documents_seen_until?: string | null;
          listing?: "all" | "documents";
          pause_reason?: string | null;
          paused_until?: string | null;
          pauses?: number;
          request_wait?: string;
          retries?: NonNullable<Json>;
          sync_interval?: string;
          updated_at?: string;
          user_id?: string | null;
          version?: number;
        };
        Update: {
          account_id?: string;
          active?: boolean;
          base_url?: string | null;
          company_id?: string;
          conflict_rule?: "crm" | "metakocka" | "newest" | "ask";
          created_at?: string;
          documents_seen_until?: string | null;
          listing?: "all" | "documents";
          pause_reason?: string | null;
          paused_until?: string | null;
          pauses?: number;
          request_wait?: string;
          retries?: NonNullable<Json>;
          sync_interval?: string;
          updated_at?: string;
          user_id?: string | null;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: "metakocka_connections_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: true;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          }
        ];
      };
      /** The partner of each contact at Metakocka, and the state on which both sides last agreed. */
      metakocka_contact_mappings: {
        Row: {
          /** The contact's account. */
          account_id: string;
          /** The fields as both sides last agreed on them. A side that differs from them has changed since. Null before the first agreement. */
          base: Json | null;
          /** The contact's version at the last agreement. */
          base_version: number | null;
          /** The contact. */
          contact_id: string;
          /** When the mapping was made (server time, UTC). */
          created_at: string;
          /** When both sides last agreed on something new (UTC). */
          last_synced_at: string | null;
          /** The partner's mk_id; null while Metakocka does not have the contact. */
          metakocka_id: string | null;
          /** The fields that Metakocka requires and the contact lacks. */
          missing: string[];
          /** The mk_ids of partners that, as a person has said, are not this contact. The sync never takes one of them for it again. */
          not_partners: string[];
          /** A digest of the partner as it was last seen. */
          partner_hash: string | null;
          /** When the partner was last seen in its agreed state (UTC): a difference in it now was edited later. While nothing waits to be sent, the partner may have been seen later than this. */
          seen_at: string | null;
          /** synced; waiting: to be sent or checked; conflict: a person must decide (sync_conflicts); blocked: it can't be sent because fields are missing or the contact is deleted; unknown: the partner may have been made, and the sync is checking; unlinked: a person wants no partner for it, and only a request sends it. */
          state: "synced" | "waiting" | "conflict" | "blocked" | "unknown" | "unlinked";
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** The user who connected the account, or asked for the sync that wrote this row. */
          user_id: string | null;
          /** Rises by 1 with each change of the row. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          base?: Json | null;
          base_version?: number | null;
          contact_id: string;
          created_at?: string;
          last_synced_at?: string | null;
          metakocka_id?: string | null;
          missing?: string[];
          not_partners?: string[];
          partner_hash?: string | null;
          seen_at?: string | null;
          state: "synced" | "waiting" | "conflict" | "blocked" | "unknown" | "unlinked";
          updated_at?: string;
          user_id?: string | null;
          version?: number;
        };
        Update: {
          account_id?: string;
          base?: Json | null;
          base_version?: number | null;
          contact_id?: string;
          created_at?: string;
          last_synced_at?: string | null;
          metakocka_id?: string | null;
          missing?: string[];
          not_partners?: string[];
          partner_hash?: string | null;
          seen_at?: string | null;
          state?: "synced" | "waiting" | "conflict" | "blocked" | "unknown" | "unlinked";
          updated_at?: string;
          user_id?: string | null;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: "metakocka_contact_mappings_contact_fkey";
            columns: [
              "contact_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** Which kinds of notifications the signed-in user has chosen or refused, by choose_notifications. A kind without a row is wanted. */
      notification_choices: {
        Row: {
          /** Whether the user wants to be told of this kind. */
          is_wanted: boolean;
          /** message, mention, assigned, appointment, invoice or points. */
          kind: "message" | "mention" | "assigned" | "appointment" | "invoice" | "points";
          /** When the user chose (server time, UTC). */
          updated_at: string;
          /** The user: the signed-in one. */
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          is_wanted: boolean;
          kind: "message" | "mention" | "assigned" | "appointment" | "invoice" | "points";
          updated_at?: string;
          user_id: string;
        };
        Update: {
          is_wanted?: boolean;
          kind?: "message" | "mention" | "assigned" | "appointment" | "invoice" | "points";
          updated_at?: string;
          user_id?: string;
        };
        Relationships: [
        ];
      };
      /** Invitations of contacts to the portal. One is open until claimed_at, revoked_at or expires_at. invite_to_portal makes them. */
      portal_invitations: {
        Row: {
          /** The account of the contact. */
          account_id: string;
          /** When it was claimed (UTC); null until then. */
          claimed_at: string | null;
          /** The login that claimed it; null until then, and once that login is deleted. */
          claimed_by: string | null;
          /** The invited contact. If it has been merged since, the kept contact gets the login. */
          contact_id: string;
          /** When it was made (server time, UTC). */
          created_at: string;
          /** The member who invited; null once that login is deleted. */
          created_by: string | null;
          /** Until when it can be claimed (UTC). */
          expires_at: string;
          /** Identifies the invitation; revoke_invitation takes it. */
          id: string;
          /** When it was revoked (UTC); null until then. A later invitation of the contact revokes it too. */
          revoked_at: string | null;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          claimed_at?: string | null;
          claimed_by?: string | null;
          contact_id: string;
          created_at?: string;
          created_by?: string | null;
          expires_at: string;
          id?: string;
          revoked_at?: string | null;
        };
        Update: {
          account_id?: string;
          claimed_at?: string | null;
          claimed_by?: string | null;
          contact_id?: string;
          created_at?: string;
          created_by?: string | null;
          expires_at?: string;
          id?: string;
          revoked_at?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "portal_invitations_contact_fkey";
            columns: [
              "contact_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** Exports and erasures of people's data, and legal holds: who, when, which contact, counts. No words of the people. For owners. */
      privacy_actions: {
        Row: {
          /** The account whose contact it is. */
          account_id: string;
          /** export, erase, hold or release. */
          action: "export" | "erase" | "hold" | "release";
          /** The contact; of a merged one, the contact into which it was merged. */
          contact_id: string;
          /** Of an erasure: how many rows of each table went or changed, and how many files were removed. */
          counts: {
            [key: string]: number;
          };
          /** When it was asked for (server time, UTC). */
          created_at: string;
          /** When it was finished (server time, UTC); null while it runs. */
          finished_at: string | null;
          /** Identifies the action. */
          id: string;
          /** Of an erasure: the rows of others in which words of the person were found at its end, at most 200, such as a message that quotes the name. They stay, for a person to judge. */
          remaining: ({
            table: string;
            id: string;
            kinds: string[];
          })[];
          /** running: an erasure that is not finished; the schedule goes on with it. done otherwise. */
          state: "running" | "done";
          /** The owner who asked (auth.users); null for the people who run the service. */
          user_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          action: "export" | "erase" | "hold" | "release";
          contact_id: string;
          counts?: NonNullable<Json>;
          created_at?: string;
          finished_at?: string | null;
          id?: string;
          remaining?: NonNullable<Json>;
          state?: "running" | "done";
          user_id?: string | null;
        };
        Update: {
          account_id?: string;
          action?: "export" | "erase" | "hold" | "release";
          contact_id?: string;
          counts?: NonNullable<Json>;
          created_at?: string;
          finished_at?: string | null;
          id?: string;
          remaining?: NonNullable<Json>;
          state?: "running" | "done";
          user_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "privacy_actions_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          }
        ];
      };
      /** The devices on which the signed-in user is told; written by save_push_subscription and delete_push_subscription. At most 20 of a user, the latest. */
      push_subscriptions: {
        Row: {
          /** The device's secret for encryption, in base64url. */
          auth: string;
          /** When the device was added (server time, UTC). */
          created_at: string;
          /** The address at the push service, as the browser gave it. */
          endpoint: string;
          /** How many tries in a row have failed. After 100, which take four days, the subscription is forgotten. */
          failures: number;
          /** Identifies the subscription. */
          id: string;
          /** Until then nothing is sent to this device, since its push service asked for a pause (server time, UTC). */
          not_before: string;
          /** The device's public key (P-256), in base64url. */
          p256dh: string;
          /** The user who is signed in on the device. */
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          auth: string;
          created_at?: string;
          endpoint: string;
          failures?: number;
          id?: string;
          not_before?: string;
          p256dh: string;
          user_id: string;
        };
        Update: {
          auth?: string;
          created_at?: string;
          endpoint?: string;
          failures?: number;
          id?: string;
          not_before?: string;
          p256dh?: string;
          user_id?: string;
        };
        Relationships: [
        ];
      };
      /** How far the signed-in user has read each conversation; moved by mark_read. */
      read_markers: {
        Row: {
          /** The account of the conversation. */
          account_id: string;
          /** The conversation. */
          conversation_id: string;
          /** The contact of the conversation; null for a group. */
          customer_id: string | null;
          /** The seq of the latest message that the user has read; 0 for none. */
          last_read_seq: number;
          /** When the marker last moved (server time, UTC). */
          read_at: string;
          /** The reader: the signed-in user. */
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          conversation_id: string;
          customer_id?: string | null;
          last_read_seq: number;
          read_at?: string;
          user_id: string;
        };
        Update: {
          account_id?: string;
          conversation_id?: string;
          customer_id?: string | null;
          last_read_seq?: number;
          read_at?: string;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "read_markers_conversation_fkey";
            columns: [
              "conversation_id",
              "account_id",
              "customer_id"
            ];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: [
              "id",
              "account_id",
              "customer_id"
            ];
          }
        ];
      };
      /** The rules by which customers are reminded of appointments, invoices and points. Owners and admins write them; try_reminder_rule says what a rule would have sent, upcoming_reminders what will be sent. */
      reminder_rules: {
        Row: {
          /** The account whose customers are reminded; filled in if you write for one account. */
          account_id: string;
          /** Since when the rule stands as it does (UTC): it sends nothing that was due before. */
          active_since: string;
          /** When the rule was made (server time, UTC). */
          created_at: string;
          /** Days before the last day for payment or of the points, or after it (0, or for invoice_overdue_by 1, to 365); null for the kinds that count minutes. */
          days: number | null;
          /** Identifies the rule. */
          id: string;
          /** Whether the rule reminds at present. */
          is_active: boolean;
          /** before_appointment, after_job, invoice_due_in, invoice_overdue_by or points_expire_in. */
          kind: "before_appointment" | "after_job" | "invoice_due_in" | "invoice_overdue_by" | "points_expire_in";
          /** Minutes before a job starts (5 to 525,600), or after a completed job's end (from 0); null for the kinds that count days. */
          minutes: number | null;
          /** What the rule is called; 1 to 200 characters. */
          name: string;
          /** The template on WhatsApp: {name, language, variables}. The variables' texts may hold {{contact.name}}, {{appointment.time}} and the other variables of saved replies. */
          template: {
            [key: string]: Json;
          } | null;
          /** The message in the portal, for customers with a login whom the template does not reach; with the same variables. */
          text: string | null;
          /** At which time of that day the kinds that count days remind, in the account's time zone. */
          time_of_day: string;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
          /** The account's WhatsApp number that sends the template; its only number if none is given. */
          whatsapp_channel_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          active_since?: string;
          created_at?: string;
          days?: number | null;
          id?: string;
          is_active?: boolean;
          kind: "before_appointment" | "after_job" | "invoice_due_in" | "invoice_overdue_by" | "points_expire_in";
          minutes?: number | null;
          name: string;
          template?: Json | null;
          text?: string | null;
          time_of_day?: string;
          updated_at?: string;
          version?: number;
          whatsapp_channel_id?: string | null;
        };
        Update: {
          account_id?: string;
          active_since?: string;
          created_at?: string;
          days?: number | null;
          id?: string;
          is_active?: boolean;
          kind?: "before_appointment" | "after_job" | "invoice_due_in" | "invoice_overdue_by" | "points_expire_in";
          minutes?: number | null;
          name?: string;
          template?: Json | null;
          text?: string | null;
          time_of_day?: string;
          updated_at?: string;
          version?: number;
          whatsapp_channel_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "reminder_rules_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          },
          {
            foreignKeyName: "reminder_rules_whatsapp_channel_fkey";
            columns: [
              "whatsapp_channel_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "whatsapp_channels";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** Replies that a team writes often. Insert, update and delete them as in any table; fill_saved_reply fills one for a conversation. */
      saved_replies: {
        Row: {
          /** The account whose reply it is; filled in if you write for one account. */
          account_id: string;
          /** When the reply was made (server time, UTC). */
          created_at: string;
          /** Identifies the reply. A client may choose it. */
          id: string;
          /** The code that people type to find it: 1 to 32 small letters, digits, hyphens and underscores, unique in the account. */
          short_code: string;
          /** The reply, 1 to 4,096 characters, with variables: {{contact.name}}, {{appointment.time}}, {{appointment.service}}, {{invoice.number}}, {{invoice.amount}}, {{invoice.due_on}}, {{points.total}}, {{agent.name}}, {{account.name}}. */
          text: string;
          /** The title that people read in the list; at most 200 characters. */
          title: string | null;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          created_at?: string;
          id?: string;
          short_code: string;
          text: string;
          title?: string | null;
          updated_at?: string;
          version?: number;
        };
        Update: {
          account_id?: string;
          created_at?: string;
          id?: string;
          short_code?: string;
          text?: string;
          title?: string | null;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: "saved_replies_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          }
        ];
      };
      /** Messages that are sent later. Insert one with its conversation_id and send_at, or with a customer_id and a template, which opens the conversation on WhatsApp if there is none; update it, or set its status to cancelled, while it waits. Customers see none of it. The message that is sent has the same id. */
      scheduled_messages: {
        Row: {
          /** The account of the conversation. */
          account_id: string;
          /** The member who wrote it or last changed what it says, and in whose name it is sent. Who moves it to another time does not become its author. */
          author_id: string;
          /** The author's name when it was written or last changed. */
          author_name: string;
          /** The provider's object for the type; null for plain text. */
          content: {
            [key: string]: Json;
          } | null;
          /** The conversation in which it will be sent. */
          conversation_id: string;
          /** When it was written (server time, UTC). */
          created_at: string;
          /** The contact of the conversation; null for a group. If given in place of conversation_id, it means the customer's conversation on WhatsApp. */
          customer_id: string | null;
          /** When the worker looks at it next (UTC). */
          due_at: string;
          /** A sentence that says why it failed; null otherwise. */
          error_message: string | null;
          /** Identifies the row, and later the message. A client may choose it. */
          id: string;
          /** The text, as of messages. */
          message: string;
          /** The message that this one answers. */
          reply_to: string | null;
          /** When it is sent (UTC), within a year. A time in the quiet hours becomes their end. */
          send_at: string;
          /** waiting, sent, cancelled or failed. A user writes cancelled only. */
          status: "waiting" | "sent" | "cancelled" | "failed";
          /** What is sent instead if WhatsApp's window is closed at that time: {name, language, variables}, as the content of a message of type template. Needed unless the window will be open. */
          template: {
            [key: string]: Json;
          } | null;
          /** As of messages: text, image, template … */
          type: string;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** Rises by 1 with each change of the row. */
          version: number;
          /** The send_at that was given (UTC). It differs from send_at if it lies in the account's quiet hours. */
          wanted_at: string;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          author_id: string;
          author_name: string;
          content?: Json | null;
          conversation_id: string;
          created_at?: string;
          customer_id?: string | null;
          due_at: string;
          error_message?: string | null;
          id?: string;
          message: string;
          reply_to?: string | null;
          send_at: string;
          status?: "waiting" | "sent" | "cancelled" | "failed";
          template?: Json | null;
          type?: string;
          updated_at?: string;
          version?: number;
          wanted_at: string;
        };
        Update: {
          account_id?: string;
          author_id?: string;
          author_name?: string;
          content?: Json | null;
          conversation_id?: string;
          created_at?: string;
          customer_id?: string | null;
          due_at?: string;
          error_message?: string | null;
          id?: string;
          message?: string;
          reply_to?: string | null;
          send_at?: string;
          status?: "waiting" | "sent" | "cancelled" | "failed";
          template?: Json | null;
          type?: string;
          updated_at?: string;
          version?: number;
          wanted_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: "scheduled_messages_conversation_fkey";
            columns: [
              "conversation_id",
              "account_id",
              "customer_id"
            ];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: [
              "id",
              "account_id",
              "customer_id"
            ];
          }
        ];
      };
      /** The words of each face for a conversation's status: contacts page, live chat, WATI-style clients, portal, ERP. */
      status_words: {
        Row: {
          /** contacts_page, live_chat, wati, portal or erp. */
          face: "contacts_page" | "live_chat" | "wati" | "portal" | "erp";
          /** The status of a conversation: open, pending or closed. */
          status: "open" | "pending" | "closed";
          /** The word of the face for this status, with exact case. */
          word: string;
        };
        ComputedFields: never;
        Insert: {
          face: "contacts_page" | "live_chat" | "wati" | "portal" | "erp";
          status: "open" | "pending" | "closed";
          word: string;
        };
        Update: {
          face?: "contacts_page" | "live_chat" | "wati" | "portal" | "erp";
          status?: "open" | "pending" | "closed";
          word?: string;
        };
        Relationships: [
        ];
      };
      /** Fields that both sides have changed, and contacts or partners that the sync can't identify. resolve_sync_conflict decides them. */
      sync_conflicts: {
        Row: {
          /** The account of the contacts. */
          account_id: string;
          /** The field's value at the last agreement; null for other questions. */
          base: Json | null;
          /** The ids of the contacts that may be the partner. */
          candidates: string[];
          /** The decision: crm or metakocka; the id of a contact or a partner; new; unlink; or agreed where both sides came to the same value. Null while it is open. */
          choice: string | null;
          /** The contact; null while the question is which contact the partner is. */
          contact_id: string | null;
          /** When the question came up (server time, UTC). */
          created_at: string;
          /** The contact's value when the conflict was last seen; null for other questions. */
          crm: Json | null;
          /** Who decided: a rule of the connection (crm, metakocka, newest), a person, or both sides. Null while it is open. */
          decided_by: "crm" | "metakocka" | "newest" | "person" | "both" | null;
          /** The field that both sides have changed; within a list for example people.228000046630.email. Null for other questions. */
          field: string | null;
          /** Identifies the conflict; resolve_sync_conflict takes it. */
          id: string;
          /** The partner's value; where the question is which contact the partner is, the partner itself. */
          metakocka: Json | null;
          /** The partner. Where the question is which partner a contact is: its present partner or the one that is gone; null if it has none. */
          metakocka_id: string | null;
          /** The partners that the contact may be: [{metakocka_id, name, email, …}]; null for other questions. */
          partners: Json | null;
          /** field: which value wins; contact: which contact the partner is; partner: which partner the contact is. */
          question: string | null;
          /** When it was decided (server time, UTC); null while it is open. */
          resolved_at: string | null;
          /** The person who decided; null where no person did. */
          resolved_by: string | null;
          /** open or resolved. */
          state: "open" | "resolved";
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          base?: Json | null;
          candidates?: string[];
          choice?: string | null;
          contact_id?: string | null;
          created_at?: string;
          crm?: Json | null;
          decided_by?: "crm" | "metakocka" | "newest" | "person" | "both" | null;
          field?: string | null;
          id?: string;
          metakocka?: Json | null;
          metakocka_id?: string | null;
          partners?: Json | null;
          question?: never;
          resolved_at?: string | null;
          resolved_by?: string | null;
          state?: "open" | "resolved";
        };
        Update: {
          account_id?: string;
          base?: Json | null;
          candidates?: string[];
          choice?: string | null;
          contact_id?: string | null;
          created_at?: string;
          crm?: Json | null;
          decided_by?: "crm" | "metakocka" | "newest" | "person" | "both" | null;
          field?: string | null;
          id?: string;
          metakocka?: Json | null;
          metakocka_id?: string | null;
          partners?: Json | null;
          question?: never;
          resolved_at?: string | null;
          resolved_by?: string | null;
          state?: "open" | "resolved";
        };
        Relationships: [
          {
            foreignKeyName: "sync_conflicts_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          },
          {
            foreignKeyName: "sync_conflicts_contact_fkey";
            columns: [
              "contact_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** Errors of the sync with their context. For owners and admins. */
      sync_errors: {
        Row: {
          /** The account of the sync. */
          account_id: string;
          /** The number of tries. */
          attempts: number;
          /** Always SYNC. */
          category: string;
          /** The kind of error, as the code names it. */
          code: string;
          /** The contact that it is about; null where there is none. */
          contact_id: string | null;
          /** When it happened (server time, UTC). */
          created_at: string;
          /** More facts about the error. Never a request's body, since that holds the secret key. */
          details: NonNullable<Json>;
          /** Identifies the error. */
          id: string;
          /** The error, in a sentence. */
          message: string;
          /** The partner's mk_id, or batch for an error about several partners. */
          metakocka_id: string | null;
          /** The operation, such as syncContactToMetakocka. */
          operation: string;
          /** The run in which it happened; null outside of runs, and once the run is deleted. */
          run_id: string | null;
          /** The user who asked for the sync, or connected the account; null where none is known. */
          user_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          attempts?: number;
          category?: string;
          code: string;
          contact_id?: string | null;
          created_at?: string;
          details?: NonNullable<Json>;
          id?: string;
          message: string;
          metakocka_id?: string | null;
          operation: string;
          run_id?: string | null;
          user_id?: string | null;
        };
        Update: {
          account_id?: string;
          attempts?: number;
          category?: string;
          code?: string;
          contact_id?: string | null;
          created_at?: string;
          details?: NonNullable<Json>;
          id?: string;
          message?: string;
          metakocka_id?: string | null;
          operation?: string;
          run_id?: string | null;
          user_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "sync_errors_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          },
          {
            foreignKeyName: "sync_errors_contact_fkey";
            columns: [
              "contact_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          },
          {
            foreignKeyName: "sync_errors_run_fkey";
            columns: [
              "run_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "sync_runs";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** Runs of the sync with Metakocka, with their progress. */
      sync_runs: {
        Row: {
          /** The account that is synchronized. */
          account_id: string;
          /** When the run was queued or began (server time, UTC). */
          created_at: string;
          /** Where the next run continues; for the sync only. */
          cursor: Json | null;
          /** to_metakocka, from_metakocka or both. */
          direction: "to_metakocka" | "from_metakocka" | "both";
          /** The number that has been checked: succeeded, failed, unchanged and waiting together. */
          done: number;
          /** The time from begin to end, in milliseconds; null until it ends. */
          duration_ms: number | null;
          /** The number of errors of each kind. */
          errors: {
            [key: string]: number;
          };
          /** The number that failed; sync_errors says why. */
          failed: number;
          /** When the run ended (server time, UTC); null until then. */
          finished_at: string | null;
          /** Identifies the run. */
          id: string;
          /** Whether contacts are written without an event for each. One resync at the end tells clients to read again. */
          quiet: boolean;
          /** The request of the user: some contacts, some partners, or everything if it names neither. */
          request: {
            contact_ids?: string[];
            metakocka_ids?: string[];
          };
          /** When the run continues (UTC), because Metakocka takes no calls before; null otherwise. */
          resumes_at: string | null;
          /** When the run first began (server time, UTC); null while it is queued. */
          started_at: string | null;
          /** queued: waits to begin; running; stopped: its time was over, or Metakocka takes no calls until resumes_at, and the next run continues it; done; failed. */
          state: "queued" | "running" | "stopped" | "done" | "failed";
          /** The number that were made or changed on either side. */
          succeeded: number;
          /** The number of contacts or partners to check; null while it is not known. */
          total: number | null;
          /** The cause of the run: the schedule, a changed contact (wake), a user, or the command line. */
          trigger: "schedule" | "wake" | "user" | "cli";
          /** The number without a difference. */
          unchanged: number;
          /** When the row last changed (server time, UTC). */
          updated_at: string;
          /** The user who asked for it; null for runs of the schedule and of changed contacts. */
          user_id: string | null;
          /** Rises by 1 with each change of the row. */
          version: number;
          /** The number that wait: for a person (sync_conflicts), or for another try. */
          waiting: number;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          created_at?: string;
          cursor?: Json | null;
          direction: "to_metakocka" | "from_metakocka" | "both";
          done?: number;
          duration_ms?: number | null;
          errors?: NonNullable<Json>;
          failed?: number;
          finished_at?: string | null;
          id?: string;
          quiet?: boolean;
          request?: NonNullable<Json>;
          resumes_at?: string | null;
          started_at?: string | null;
          state?: "queued" | "running" | "stopped" | "done" | "failed";
          succeeded?: number;
          total?: number | null;
          trigger: "schedule" | "wake" | "user" | "cli";
          unchanged?: number;
          updated_at?: string;
          user_id?: string | null;
          version?: number;
          waiting?: number;
        };
        Update: {
          account_id?: string;
          created_at?: string;
          cursor?: Json | null;
          direction?: "to_metakocka" | "from_metakocka" | "both";
          done?: number;
          duration_ms?: number | null;
          errors?: NonNullable<Json>;
          failed?: number;
          finished_at?: string | null;
          id?: string;
          quiet?: boolean;
          request?: NonNullable<Json>;
          resumes_at?: string | null;
          started_at?: string | null;
          state?: "queued" | "running" | "stopped" | "done" | "failed";
          succeeded?: number;
          total?: number | null;
          trigger?: "schedule" | "wake" | "user" | "cli";
          unchanged?: number;
          updated_at?: string;
          user_id?: string | null;
          version?: number;
          waiting?: number;
        };
        Relationships: [
          {
            foreignKeyName: "sync_runs_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          }
        ];
      };
      /** A WhatsApp number of an account, by Meta's phone_number_id. */
      whatsapp_channels: {
        Row: {
          /** The account that owns the number. */
          account_id: string;
          /** When the number was added (server time, UTC). */
          created_at: string;
          /** The number as people write it. */
          display_phone_number: string;
          /** Identifies the number; conversations and messages name it as whatsapp_channel_id. */
          id: string;
          /** How many messages a second WhatsApp accepts from this number: 80, 1,000 after an upgrade, 20 if the phone app uses it too. */
          messages_per_second: number;
          /** The name of the number, for staff. */
          name: string;
          /** Since when a person has nothing sent from this number (server time, UTC); null while it sends. See pause_sending and resume_sending. */
          paused_at: string | null;
          /** Meta's id of the number. It belongs to one account only. */
          phone_number_id: string;
          /** Since when nothing is sent from this number (server time, UTC); null while it sends. resume_channel starts it again. */
          stopped_at: string | null;
          /** WhatsApp's error code that stopped the number; null while it sends. */
          stopped_code: number | null;
          /** A sentence that says why the number is stopped; null while it sends. */
          stopped_reason: string | null;
          /** Meta's id of the WhatsApp Business account that owns the number and its templates; null is unknown. */
          waba_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          created_at?: string;
          display_phone_number: string;
          id?: string;
          messages_per_second?: number;
          name: string;
          paused_at?: string | null;
          phone_number_id: string;
          stopped_at?: string | null;
          stopped_code?: number | null;
          stopped_reason?: string | null;
          waba_id?: string | null;
        };
        Update: {
          account_id?: string;
          created_at?: string;
          display_phone_number?: string;
          id?: string;
          messages_per_second?: number;
          name?: string;
          paused_at?: string | null;
          phone_number_id?: string;
          stopped_at?: string | null;
          stopped_code?: number | null;
          stopped_reason?: string | null;
          waba_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "whatsapp_channels_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          }
        ];
      };
      /** The message templates of an account's WhatsApp Business accounts, as last read from WhatsApp or reported by its webhooks. */
      whatsapp_templates: {
        Row: {
          /** The account that can send it. */
          account_id: string;
          /** WhatsApp's word: MARKETING, UTILITY or AUTHENTICATION. */
          category: string;
          /** The time of the known category, by WhatsApp's clock (UTC). */
          category_at: string | null;
          /** Header, body, footer and buttons, as WhatsApp describes them. */
          components: NonNullable<Json>;
          /** Since when WhatsApp no longer lists it (UTC); null while it does. */
          gone_at: string | null;
          /** Identifies the template in this account. */
          id: string;
          /** The language code, such as sl or en_US; messages name it in content.language. */
          language: string;
          /** The template's name at WhatsApp; messages name it in content.name. */
          name: string;
          /** WhatsApp's word: APPROVED, PENDING, REJECTED, PAUSED, DISABLED or another one. */
          status: string;
          /** The time of the known status, by WhatsApp's clock (UTC). */
          status_at: string | null;
          /** When WhatsApp last listed it (UTC); null where only a webhook has reported it, and no reading has yet. */
          synced_at: string | null;
          /** The names of the variables to fill. A name is for example body.1, header.image or buttons.0.1. A message with the content {name, language, variables: {name: text}} fills them. header.image, header.video, header.document and header.location take an object, as in a message of that type. */
          variables: {
            header?: string[];
            body?: string[];
            buttons?: string[];
          };
          /** Meta's id of the WhatsApp Business account that owns the template. */
          waba_id: string;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          category: string;
          category_at?: string | null;
          components: NonNullable<Json>;
          gone_at?: string | null;
          id?: string;
          language: string;
          name: string;
          status: string;
          status_at?: string | null;
          synced_at?: string | null;
          variables: NonNullable<Json>;
          waba_id: string;
        };
        Update: {
          account_id?: string;
          category?: string;
          category_at?: string | null;
          components?: NonNullable<Json>;
          gone_at?: string | null;
          id?: string;
          language?: string;
          name?: string;
          status?: string;
          status_at?: string | null;
          synced_at?: string | null;
          variables?: NonNullable<Json>;
          waba_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "whatsapp_templates_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          }
        ];
      };
    };
    Views: {
      /** Contacts, as the live chat shows them. Write name, phone, email, username, tags and conversation_status. A write that finds no contact is refused (404), and so is one with an old version (409). */
      contacts_live_chat: {
        Row: {
          /** The account that knows the contact. */
          account_id: string;
          /** The channel of the current conversation: whatsapp, booking or portal. */
          channel: "whatsapp" | "booking" | "portal" | null;
          /** The current conversation, which gets a written status; null before the first one. */
          conversation_id: string | null;
          /** Open, Pending or Closed: the status of the current conversation (latest activity), or the contact's own before the first one. */
          conversation_status: "Open" | "Pending" | "Closed";
          /** When the contact was made (server time, UTC). */
          created_at: string;
          /** One email address. */
          email: string | null;
          /** Identifies the contact. */
          id: string;
          /** When the customer last wrote or called in the current conversation: on WhatsApp by WhatsApp's clock (UTC). */
          last_inbound_at: string | null;
          /** When the latest message of the current conversation was sent (UTC). */
          last_message_at: string | null;
          /** The name that staff gave, or else that of the WhatsApp profile. */
          name: string | null;
          /** The phone number in E.164, such as +38640111222. */
          phone: string | null;
          /** Labels that staff give, at most 100. */
          tags: string[];
          /** When the contact last changed (server time, UTC). */
          updated_at: string;
          /** The person's latest known WhatsApp username, without @. */
          username: string | null;
          /** Rises by 1 with each change of the contact. An update that gives the version it has read is refused (409) if the contact has changed since. */
          version: number;
          /** The WhatsApp id to which replies in the current conversation go. */
          wa_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          account_id?: string | null;
          channel?: "whatsapp" | "booking" | "portal" | null;
          conversation_id?: string | null;
          conversation_status?: "Open" | "Pending" | "Closed" | null;
          created_at?: string | null;
          email?: string | null;
          id?: string | null;
          last_inbound_at?: string | null;
          last_message_at?: string | null;
          name?: string | null;
          phone?: string | null;
          tags?: string[] | null;
          updated_at?: string | null;
          username?: string | null;
          version?: number | null;
          wa_id?: string | null;
        };
        Update: {
          account_id?: string | null;
          channel?: "whatsapp" | "booking" | "portal" | null;
          conversation_id?: string | null;
          conversation_status?: "Open" | "Pending" | "Closed" | null;
          created_at?: string | null;
          email?: string | null;
          id?: string | null;
          last_inbound_at?: string | null;
          last_message_at?: string | null;
          name?: string | null;
          phone?: string | null;
          tags?: string[] | null;
          updated_at?: string | null;
          username?: string | null;
          version?: number | null;
          wa_id?: string | null;
        };
        Relationships: [
        ];
      };
      /** Contacts, as the contacts page shows them. Write name, phone, email, username, tags, notes, preferences and conversation_status. A write that finds no contact is refused (404), and so is one with an old version (409). */
      contacts_v2: {
        Row: {
          /** The account that knows the contact. */
          account_id: string;
          /** The current conversation, which gets a written status; null before the first one. */
          conversation_id: string | null;
          /** open, pending or closed: the status of the current conversation (latest activity), or the contact's own before the first one. */
          conversation_status: "open" | "pending" | "closed";
          /** When the contact was made (server time, UTC). */
          created_at: string;
          /** One email address. */
          email: string | null;
          /** Identifies the contact. */
          id: string;
          /** Since when the person takes no marketing messages on WhatsApp, by WhatsApp's clock (UTC): the person's own choice, read-only. */
          marketing_stopped_at: string | null;
          /** The name that staff gave, or else that of the WhatsApp profile. */
          name: string | null;
          /** Notes of staff, at most 20,000 characters; customers do not see them. */
          notes: string | null;
          /** The phone number in E.164, such as +38640111222. */
          phone: string | null;
          /** The login (auth.users) with which the person enters the portal; null without one. */
          portal_user_id: string | null;
          /** The customer's choices: an object of at most 8 KB. */
          preferences: {
            [key: string]: Json;
          };
          /** The name of the person's WhatsApp profile; read-only. */
          profile_name: string | null;
          /** Labels that staff give, at most 100. */
          tags: string[];
          /** When the contact last changed (server time, UTC). */
          updated_at: string;
          /** The person's latest known WhatsApp username, without @. */
          username: string | null;
          /** Rises by 1 with each change of the contact. An update that gives the version it has read is refused (409) if the contact has changed since. */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id?: string | null;
          conversation_id?: string | null;
          conversation_status?: "open" | "pending" | "closed" | null;
          created_at?: string | null;
          email?: string | null;
          id?: string | null;
          marketing_stopped_at?: string | null;
          name?: string | null;
          notes?: string | null;
          phone?: string | null;
          portal_user_id?: string | null;
          preferences?: Json | null;
          profile_name?: string | null;
          tags?: string[] | null;
          updated_at?: string | null;
          username?: string | null;
          version?: number | null;
        };
        Update: {
          account_id?: string | null;
          conversation_id?: string | null;
          conversation_status?: "open" | "pending" | "closed" | null;
          created_at?: string | null;
          email?: string | null;
          id?: string | null;
          marketing_stopped_at?: string | null;
          name?: string | null;
          notes?: string | null;
          phone?: string | null;
          portal_user_id?: string | null;
          preferences?: Json | null;
          profile_name?: string | null;
          tags?: string[] | null;
          updated_at?: string | null;
          username?: string | null;
          version?: number | null;
        };
        Relationships: [
        ];
      };
      /** Conversations, with the columns of a list of them. Filter by one account_id, or as a customer by one customer_id. Sort by last_message_at (descending) and id. inbox_page finds by assignee, label, snooze and name. */
      inbox: {
        Row: {
          /** The account of the conversation. */
          account_id: string;
          /** The member who answers; null if the conversation is free. Customers see null. */
          assignee_id: string | null;
          /** The assignee's name. Customers see null. */
          assignee_name: string | null;
          /** whatsapp, booking or portal. */
          channel: "whatsapp" | "booking" | "portal";
          /** When the conversation was made (server time, UTC). */
          created_at: string;
          /** The contact of the conversation; null for a group. */
          customer_id: string | null;
          /** The customer's name: the one that staff gave, or else that of the WhatsApp profile. For a group, the name of the group. */
          customer_name: string | null;
          /** The exact WhatsApp id to which replies go. */
          customer_wa_id: string | null;
          /** WhatsApp's id of the group; null for a conversation with one customer. */
          group_id: string | null;
          /** The group's subject; null if WhatsApp has not told it. */
          group_name: string | null;
          /** The conversation. */
          id: string;
          /** The ids of the conversation's labels; see labels. Customers see none. */
          label_ids: string[] | null;
          /** When the customer last wrote or called: on WhatsApp by WhatsApp's clock (UTC). */
          last_inbound_at: string | null;
          /** The invoice of a latest message that is a notice about one; else null. See messages.invoice_data. */
          last_invoice_data: Json | null;
          /** The text of the latest message, or a placeholder such as [image] or [deleted]. */
          last_message: string | null;
          /** When the latest message was sent (UTC); before the first message, when the conversation was made. */
          last_message_at: string;
          /** The content of the latest message where clients have words of their own for it: a notice of the system, a call, audio (is it a voice message?). Null for others. */
          last_message_content: Json | null;
          /** The status of the latest message: queued, sent, delivered, read, failed or unknown. */
          last_message_status: "queued" | "sent" | "delivered" | "read" | "failed" | "unknown" | null;
          /** The type of the latest message: text, image, location … */
          last_message_type: string | null;
          /** The seq up to which the signed-in user has read; mark_read moves it. */
          last_read_seq: number;
          /** The name of the person who wrote the latest message. */
          last_sender_name: string | null;
          /** Who wrote the latest message: client, operator or system. */
          last_sender_type: "client" | "operator" | "system" | null;
          /** The seq of the latest message; 0 before the first. */
          last_seq: number;
          /** The present and former members of the group; see conversations. */
          participants: ({
            wa_id: string | null;
            user_id: string | null;
            name: string | null;
            is_member: boolean;
            joined_at: string | null;
            left_at: string | null;
          })[];
          /** How many messages of scheduled_messages wait for their time in this conversation; 100 stands for 100 or more. Customers see null. */
          send_later_count: number | null;
          /** Until when the conversation waits (UTC); null if it does not. Customers see null. */
          snoozed_until: string | null;
          /** open, pending or closed; written by set_conversation_status. */
          status: "open" | "pending" | "closed";
          /** How many messages of the other side the signed-in user has not read, without deleted ones; 100 stands for 100 or more. */
          unread_count: number;
          /** The conversation's version: rises by 1 with each change of it, but not with a message. */
          version: number;
          /** The account's WhatsApp number that carries the conversation; null on other channels. */
          whatsapp_channel_id: string | null;
        };
        ComputedFields: never;
        Relationships: [
          {
            foreignKeyName: "conversation_activity_conversation_fkey";
            columns: [
              "id",
              "account_id",
              "customer_id"
            ];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: [
              "id",
              "account_id",
              "customer_id"
            ];
          }
        ];
      };
      /** Contacts as Metakocka has partners, with the state of their sync. Write any field of a partner, or conversation_status. A write that hits no row is refused (404), and so is one with an old version (409). */
      metakocka_partners: {
        Row: {
          /** The account that knows the contact. */
          account_id: string;
          /** Further addresses: {mk_id, address_type, street, post_number, city, province, country}. */
          addresses: ({
            [key: string]: Json;
          })[];
          /** Whether the contact is a business and not a private person; null is unknown. */
          business_entity: boolean | null;
          /** Whether the contact buys from the account; null is unknown. */
          buyer: boolean | null;
          /** O (open), P (pending) or C (closed): the status of the current conversation, the latest active one; before the first conversation the contact's own. */
          conversation_status: "O" | "P" | "C";
          /** The country of the main address, as Metakocka writes it. */
          country: string | null;
          /** When the contact was made (server time, UTC). */
          created_at: string;
          /** One email address. */
          email: string | null;
          /** The fax number. */
          fax: string | null;
          /** Whether the contact's country is a foreign one (Metakocka's spelling); null is unknown. */
          foreign_county: boolean | null;
          /** The mobile number; in E.164 where it could be read as one. */
          gsm: string | null;
          /** The contact's id. */
          id: string;
          /** When both sides last agreed on something new (UTC). */
          last_synced_at: string | null;
          /** The partner's mk_id; null while Metakocka does not have the contact. */
          metakocka_id: string | null;
          /** The fields that Metakocka requires and the contact lacks. */
          missing: string[] | null;
          /** The name that staff gave. The name of a WhatsApp profile is not sent. */
          name: string | null;
          /** Further persons of a company: {mk_id, mk_address_id, name, email, phone, gsm, fax}. */
          people: ({
            [key: string]: Json;
          })[];
          /** The phone number in E.164, such as +38640111222. */
          phone: string | null;
          /** The town of the main address. */
          place: string | null;
          /** The postal code of the main address. */
          post_number: string | null;
          /** The province of the main address. */
          province: string | null;
          /** The number in the register of companies. */
          registration_number: string | null;
          /** Street and house number of the main address. */
          street: string | null;
          /** Whether the contact supplies the account; null is unknown. */
          supplier: boolean | null;
          /** The state as in metakocka_contact_mappings; null where the sync has never seen the contact. */
          sync_state: "synced" | "waiting" | "conflict" | "blocked" | "unknown" | "unlinked" | null;
          /** The tax number, with or without the country code. */
          tax_id_number: string | null;
          /** Whether the contact is liable for VAT; null is unknown. */
          taxpayer: boolean | null;
          /** When the contact last changed (server time, UTC). */
          updated_at: string;
          /** Rises by 1 with each change of the contact. A write with an old version is refused (409). */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_id?: string | null;
          addresses?: Json | null;
          business_entity?: boolean | null;
          buyer?: boolean | null;
          conversation_status?: "O" | "P" | "C" | null;
          country?: string | null;
          created_at?: string | null;
          email?: string | null;
          fax?: string | null;
          foreign_county?: boolean | null;
          gsm?: string | null;
          id?: string | null;
          last_synced_at?: string | null;
          metakocka_id?: string | null;
          missing?: string[] | null;
          name?: string | null;
          people?: Json | null;
          phone?: string | null;
          place?: string | null;
          post_number?: string | null;
          province?: string | null;
          registration_number?: string | null;
          street?: string | null;
          supplier?: boolean | null;
          sync_state?: "synced" | "waiting" | "conflict" | "blocked" | "unknown" | "unlinked" | null;
          tax_id_number?: string | null;
          taxpayer?: boolean | null;
          updated_at?: string | null;
          version?: number | null;
        };
        Update: {
          account_id?: string | null;
          addresses?: Json | null;
          business_entity?: boolean | null;
          buyer?: boolean | null;
          conversation_status?: "O" | "P" | "C" | null;
          country?: string | null;
          created_at?: string | null;
          email?: string | null;
          fax?: string | null;
          foreign_county?: boolean | null;
          gsm?: string | null;
          id?: string | null;
          last_synced_at?: string | null;
          metakocka_id?: string | null;
          missing?: string[] | null;
          name?: string | null;
          people?: Json | null;
          phone?: string | null;
          place?: string | null;
          post_number?: string | null;
          province?: string | null;
          registration_number?: string | null;
          street?: string | null;
          supplier?: boolean | null;
          sync_state?: "synced" | "waiting" | "conflict" | "blocked" | "unknown" | "unlinked" | null;
          tax_id_number?: string | null;
          taxpayer?: boolean | null;
          updated_at?: string | null;
          version?: number | null;
        };
        Relationships: [
        ];
      };
      /** Your own contact, with one row for each business whose customer you are. Write name, phone, email and preferences, one row at a time. A write that hits no row is refused (404), and so is one with an old version (409). */
      my_profile: {
        Row: {
          /** The country of the business by ISO 3166-1, such as SI, in which phone numbers without a country code are read; null is unknown. */
          account_country: string | null;
          /** The business whose customer you are. */
          account_id: string;
          /** The name of the business. */
          account_name: string | null;
          /** The IANA time zone of the business, in which its appointments, due dates and notices are. */
          account_time_zone: string | null;
          /** Your email address. */
          email: string | null;
          /** The customer's id, as in public.customers. */
          id: string;
          /** Your name; staff see it and may change it too. At most 200 characters. */
          name: string | null;
          /** Your phone number in E.164, such as +38640111222. Messages from WhatsApp are still recognised by the number that they come from. */
          phone: string | null;
          /** Your own choices, an object of at most 8 KB. A write replaces all of it. {"wants_reminders": false} ends reminders. */
          preferences: {
            [key: string]: Json;
          };
          /** When your profile last changed (server time, UTC). */
          updated_at: string;
          /** Rises with each change of what you see of yourself. Send the version that you read, and a write after another change is refused (409). */
          version: number;
        };
        ComputedFields: never;
        Insert: {
          account_country?: string | null;
          account_id?: string | null;
          account_name?: string | null;
          account_time_zone?: string | null;
          email?: string | null;
          id?: string | null;
          name?: string | null;
          phone?: string | null;
          preferences?: Json | null;
          updated_at?: string | null;
          version?: number | null;
        };
        Update: {
          account_country?: string | null;
          account_id?: string | null;
          account_name?: string | null;
          account_time_zone?: string | null;
          email?: string | null;
          id?: string | null;
          name?: string | null;
          phone?: string | null;
          preferences?: Json | null;
          updated_at?: string | null;
          version?: number | null;
        };
        Relationships: [
          {
            foreignKeyName: "customers_contact_fkey";
            columns: [
              "account_id",
              "id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "account_id",
              "id"
            ];
          }
        ];
      };
      /** The suggestions that wait for a decision, with both names; suggestions about a deleted contact are left out. */
      open_suggestions: {
        Row: {
          /** The account of both contacts. */
          account_id: string;
          /** One of the two contacts: the one with the lesser id. */
          contact_id: string;
          /** When the suggestion was made (server time, UTC). */
          created_at: string;
          /** The evidence that both are one person, for the member who decides: phone, email, name … */
          evidence: {
            [key: string]: Json;
          };
          /** Identifies the suggestion; dismiss_suggestion takes it. */
          id: string;
          /** The name of the first contact. */
          name: string | null;
          /** The other contact. */
          other_contact_id: string;
          /** The name of the other contact. */
          other_name: string | null;
          /** same_sender, number_changed, user_id_changed, same_name, same_phone, same_email, same_row (of an imported file) or same_partner (of the ERP). */
          reason: "same_sender" | "number_changed" | "user_id_changed" | "same_name" | "same_phone" | "same_email" | "same_row" | "same_partner";
        };
        ComputedFields: never;
        Relationships: [
          {
            foreignKeyName: "contact_suggestions_contact_fkey";
            columns: [
              "contact_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          },
          {
            foreignKeyName: "contact_suggestions_other_contact_fkey";
            columns: [
              "other_contact_id",
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "contacts";
            referencedColumns: [
              "id",
              "account_id"
            ];
          }
        ];
      };
      /** Webhooks of a WhatsApp Business account that could not be applied, by number and reason. For the owners and admins of the account of its number, or else of the only account that names it (whatsapp_channels.waba_id). A row disappears when rapport replay has applied its webhooks. */
      rejected_webhooks: {
        Row: {
          /** The account of the number, or the one that names the WhatsApp Business account. */
          account_id: string | null;
          /** When the first of them arrived (UTC). */
          first_received_at: string | null;
          /** When the last of them arrived, or arrived again (UTC). */
          last_received_at: string | null;
          /** The number, by WhatsApp's id; null where the webhook names none. */
          phone_number_id: string | null;
          /** Why they could not be applied: unknown_phone_number_id, unknown_account, unhandled_field or another reason. */
          reason: string | null;
          /** The remedy, in a sentence. */
          remedy: string | null;
          /** The number of such updates: messages, statuses and so on. */
          updates: number | null;
          /** Meta's id of the WhatsApp Business account that the webhooks are about; null where they name none. */
          waba_id: string | null;
          /** The number of webhooks with such updates. */
          webhooks: number | null;
        };
        ComputedFields: never;
        Relationships: [
        ];
      };
      /** Templates that can be sent now, with the number of variables in each part. */
      sendable_templates: {
        Row: {
          /** The account that can send it. */
          account_id: string;
          /** The number of variables in the body. */
          body_variables: number | null;
          /** The number of variables in the buttons. */
          button_variables: number | null;
          /** WhatsApp's word: MARKETING, UTILITY or AUTHENTICATION. */
          category: string;
          /** Header, body, footer and buttons, as WhatsApp describes them. */
          components: NonNullable<Json>;
          /** The number of variables in the header. */
          header_variables: number | null;
          /** Identifies the template in this account. */
          id: string;
          /** The language code, such as sl or en_US; a message gives it in content.language. */
          language: string;
          /** The template's name; a message gives it in content.name. */
          name: string;
          /** The names of the variables to fill; a message gives them in content.variables. */
          variables: {
            header?: string[];
            body?: string[];
            buttons?: string[];
          };
          /** Meta's id of the WhatsApp Business account that owns the template. */
          waba_id: string;
        };
        ComputedFields: never;
        Insert: {
          account_id?: string | null;
          body_variables?: never;
          button_variables?: never;
          category?: string | null;
          components?: Json | null;
          header_variables?: never;
          id?: string | null;
          language?: string | null;
          name?: string | null;
          variables?: Json | null;
          waba_id?: string | null;
        };
        Update: {
          account_id?: string | null;
          body_variables?: never;
          button_variables?: never;
          category?: string | null;
          components?: Json | null;
          header_variables?: never;
          id?: string | null;
          language?: string | null;
          name?: string | null;
          variables?: Json | null;
          waba_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "whatsapp_templates_account_id_fkey";
            columns: [
              "account_id"
            ];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: [
              "id"
            ];
          }
        ];
      };
    };
    Functions: {
      /** What is wrong with an account, the gravest first: since when, how often, what it means and what to do, in its language. For owners and admins. Live: follow the table account_health. */
      account_health: {
        Args: {
          account_id: string;
        };
        Returns: {
          account_id: string;
          count: number;
          created_at: string;
          id: string;
          kind: string;
          meaning: string;
          remedy: string;
          since: string;
          subject: string;
          updated_at: string;
          version: number;
        }[];
        SetofOptions: {
          from: "*";
          to: "account_health";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      /** Whether you may synchronize these contacts. For owners and admins of a connected account. Without account_id the account of the contacts counts, or the only one that you administer. */
      authorize_sync: {
        Args: {
          account_id?: string | null;
          contact_ids?: string[];
        };
        Returns: {
          account_id: string;
          user_id: string;
          contact_ids: string[];
          not_found: string[];
        };
      };
      /** Announces a file to send in a conversation. size is in bytes. POST /api/media calls it and adds the address for the bytes. */
      begin_upload: {
        Args: {
          conversation_id: string;
          file_name?: string | null;
          mime_type: string;
          size: number;
          type: string;
        };
        Returns: {
          upload_id: string;
          object_key: string;
          mime_type: string;
          size: number;
        };
      };
      /** Gives a member of an account another role (owner, admin, agent or viewer) or name; what is left out stays. For the account's owners. Refused: a person who does not work for it (404), and another role for the only owner (409). */
      change_member: {
        Args: {
          account_id: string;
          display_name?: string | null;
          role?: string | null;
          user_id: string;
        };
        Returns: undefined;
      };
      /** The changes since a cursor. Call it without a cursor first, before you read rows: that gives the first cursor. Call it again at once while more is true. Where resync is true, read everything again. An entry without a record means that the row is gone or that you may no longer see it. Within a page the entries are in the order of writing, and messages of a conversation in the order of seq. Between pages compare version and seq. */
      changes_since: {
        Args: {
          cursor?: string | null;
          page_size?: number;
        };
        Returns: {
          cursor: string;
          changes: ({
            table: string;
            id: string;
            version: number;
            operation: "INSERT" | "UPDATE" | "DELETE";
            record: Json | null;
          })[];
          more: boolean;
          resync: boolean;
        };
      };
      /** Says whether the caller wants notifications of a kind: message, mention, assigned, appointment, invoice or points. Another kind: 422. */
      choose_notifications: {
        Args: {
          is_wanted: boolean;
          kind: string;
        };
        Returns: undefined;
      };
      /** Makes you a member of the account that invited your email address. Claiming it again gives the same answer, and if you were a member before, your role stays. Refused: an invitation that is unknown or claimed (404), one that has expired (410), and one for another address, or for yours before it is confirmed (409). */
      claim_member_invitation: {
        Args: {
          token: string;
        };
        Returns: {
          account_id: string;
          role: "owner" | "admin" | "agent" | "viewer";
        };
      };
      /** Makes you the customer who was invited. Claiming it again gives the same answer. Refused: an invitation that is unknown, revoked or claimed by another login (404); one that has expired (410); a customer who has a login, or a caller who is another customer of the business (409). */
      claim_portal_invitation: {
        Args: {
          token: string;
        };
        Returns: {
          account_id: string;
          customer_id: string;
        };
      };
      /** Confirms fields of a contact (email, gsm, name, phone, username; all if none are given). From now on WhatsApp, imports and the ERP find the contact by them. Returns the fields that are still unproved. If another contact is known by a value: 409. */
      confirm_contact: {
        Args: {
          contact_id: string;
          fields?: string[] | null;
        };
        Returns: string[];
      };
      /** The people who may show themselves in a conversation of yours: the account's staff and the customer's login. A person_id is the first half of the SHA-256 of the user's id, written as a UUID; use yours in presence. Trust these names: a payload of presence or typing can hold any name. */
      conversation_people: {
        Args: {
          conversation_id: string;
        };
        Returns: ({
          person_id: string;
          side: "staff" | "customer";
          display_name: string;
        })[];
      };
      /** Deletes a message of a booking's or the portal's conversation for both sides: a customer's own, or for staff one of the business. The row stays without contents, with revoked_at. Returns the row. Not the caller's: 403. On WhatsApp: 422. */
      delete_message: {
        Args: {
          message_id: string;
        };
        Returns: Database["public"]["Tables"]["messages"]["Row"];
      };
      /** Deletes a note: its text goes, its number stays. The author may, and owners and admins. An event is refused (422). Unknown: 404. */
      delete_note: {
        Args: {
          note_id: string;
        };
        Returns: undefined;
      };
      /** Ends the notifications on a device of the caller. Call it when the user signs out. */
      delete_push_subscription: {
        Args: {
          endpoint: string;
        };
        Returns: undefined;
      };
      /** Says that two contacts are not one person: dismisses the suggestion and all others about the same two contacts. A second call changes nothing. If the two have been merged meanwhile: 409. */
      dismiss_suggestion: {
        Args: {
          suggestion_id: string;
        };
        Returns: undefined;
      };
      /** Drops a message that waits, or whose outcome is unknown: it is not sent again. */
      drop_message: {
        Args: {
          message_id: string;
        };
        Returns: undefined;
      };
      /** Erases all that is known of a contact, for its owner: at once the contact goes, its login is unlinked and nothing more is sent to it; its conversations, files and the rest follow within the hour, as privacy_actions shows. Invoices that were sent stay, with their figures alone. It can't be taken back. Under a legal hold: 409. */
      erase_contact: {
        Args: {
          contact_id: string;
        };
        Returns: Database["public"]["Tables"]["privacy_actions"]["Row"];
      };
      /** All that is known of a contact, for its owner. Without table_name the list of tables, and the export is recorded in privacy_actions; with one of these a page of its rows, and with the last page's after the next page, until that is null. */
      export_contact: {
        Args: {
          after?: Json | null;
          contact_id: string;
          table_name?: string | null;
        };
        Returns: {
          account_id?: string;
          account_name?: string;
          contact_ids?: string[];
          tables?: ({
            table: string;
            rows: number | null;
            about: string | null;
          })[];
          rows?: Json[];
          after?: Json | null;
        };
      };
      /** The text of a saved reply with its variables filled for a conversation's customer, to be shown before it is sent. In a booking's chat the appointment is the booking's. A variable without a value is refused (422) with its name. Unknown reply or conversation: 404. */
      fill_saved_reply: {
        Args: {
          conversation_id: string;
          reply_id: string;
        };
        Returns: string;
      };
      /** Gives a conversation to an owner, admin or agent of the account, also if another member has it; returns its state. Another user: 422. Unknown: 404. */
      hand_over_conversation: {
        Args: {
          conversation_id: string;
          user_id: string;
        };
        Returns: {
          account_id: string;
          assignee_id: string | null;
          created_at: string;
          id: string;
          snoozed_until: string | null;
          updated_at: string;
          version: number;
        };
        SetofOptions: {
          from: "*";
          to: "desk_states";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      /** Places a contact under a legal hold, for its owner: until release_contact it is neither deleted nor erased. Another call changes nothing. */
      hold_contact: {
        Args: {
          contact_id: string;
          reason: string;
        };
        Returns: undefined;
      };
      /** How many conversations each filter finds. Assignees count conversations that are not closed, free counts open ones that do not wait; 100 stands for 100 or more. Not a member of the account: 404. */
      inbox_counts: {
        Args: {
          account_id: string;
        };
        Returns: {
          assignees: ({
            user_id: string;
            name: string;
            conversations: number;
          })[];
          snoozed: number;
          free: number;
        };
      };
      /** A page of an account's inbox, latest first: rows of inbox. Filters: assignee_id, is_free (nobody has it), label_id, is_snoozed (true, false, or null for both), status, and query, which finds contacts as search_contacts does and groups by their name; ids asks for these conversations alone, at most 200. page_size is at most 200. For the next page give the last row's last_message_at as before and its id as before_id. Not a member of the account: 404. */
      inbox_page: {
        Args: {
          account_id: string;
          assignee_id?: string | null;
          before?: string | null;
          before_id?: string | null;
          ids?: string[] | null;
          is_free?: boolean;
          is_snoozed?: boolean | null;
          label_id?: string | null;
          page_size?: number;
          query?: string | null;
          status?: string | null;
        };
        Returns: {
          account_id: string;
          assignee_id: string | null;
          assignee_name: string | null;
          channel: string;
          created_at: string;
          customer_id: string | null;
          customer_name: string | null;
          customer_wa_id: string | null;
          group_id: string | null;
          group_name: string | null;
          id: string;
          label_ids: string[] | null;
          last_inbound_at: string | null;
          last_invoice_data: Json | null;
          last_message: string | null;
          last_message_at: string;
          last_message_content: Json | null;
          last_message_status: string | null;
          last_message_type: string | null;
          last_read_seq: number | null;
          last_sender_name: string | null;
          last_sender_type: string | null;
          last_seq: number;
          participants: NonNullable<Json>;
          send_later_count: number | null;
          snoozed_until: string | null;
          status: string;
          unread_count: number | null;
          version: number;
          whatsapp_channel_id: string | null;
        }[];
        SetofOptions: {
          from: "*";
          to: "inbox";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      /** Invites a person, by email address, to work for an account as owner, admin, agent or viewer. For its owners. Only this answer holds the token. The person who gives it to claim_member_invitation, signed in with that address, becomes a member. An earlier invitation of the same address ends. It ends also when the inviting owner is removed or is no longer an owner, and by revoke_member_invitation. */
      invite_member: {
        Args: {
          account_id: string;
          display_name?: string | null;
          email: string;
          role: string;
          valid_for?: string;
        };
        Returns: {
          token: string;
          expires_at: string;
        };
      };
      /** Invites a contact to the portal. The invitation is valid for 5 minutes to 30 days. Only this answer holds the token. The signed-in user who gives it to claim_portal_invitation becomes the contact's login. Earlier invitations of the contact end. A contact that has a login is refused (409). */
      invite_to_portal: {
        Args: {
          contact_id: string;
          valid_for?: string;
        };
        Returns: {
          invitation_id: string;
          token: string;
          expires_at: string;
        };
      };
      /** Puts a label of the account on a conversation, which has at most 50. No such label: 422. Unknown conversation: 404. */
      label_conversation: {
        Args: {
          conversation_id: string;
          label_id: string;
        };
        Returns: undefined;
      };
      /** How many conversations that are not closed have each label of an account; 100 stands for 100 or more. Not a member of the account: 404. */
      label_counts: {
        Args: {
          account_id: string;
        };
        Returns: {
          labels: ({
            label_id: string;
            name: string;
            conversations: number;
          })[];
        };
      };
      /** The customer's latest message in a WhatsApp conversation, by WhatsApp's ids. Null before the first message, for a group, and while the number or the account is paused. For members who may answer. */
      latest_inbound: {
        Args: {
          conversation_id: string;
        };
        Returns: {
          phone_number_id: string;
          provider_id: string;
        } | null;
      };
      /** Marks a conversation as read by the caller up to this seq; the marker moves forward only, and not beyond the latest message. Returns the seq at which it stands. Staff, viewers too, and the conversation's customer may call it. In the portal and about bookings it also sets the other side's messages to read, except for a viewer. Unknown conversation: 404. In one transaction, out of the order of the ids and at work elsewhere: 503. */
      mark_read: {
        Args: {
          conversation_id: string;
          up_to_seq: number;
        };
        Returns: number;
      };
      /** Marks a conversation as unread by the caller: the marker goes back before the last message of the other side. Returns the seq at which it stands. The other side has not written: 409. Unknown conversation: 404. */
      mark_unread: {
        Args: {
          conversation_id: string;
        };
        Returns: number;
      };
      /** Merges the contact drop into the contact keep, whose values win. Returns the kept contact. Conversations move, but are not joined. undo_merge takes the merge back. If one is already merged, or both have a portal login: 409. */
      merge_contacts: {
        Args: {
          drop: string;
          keep: string;
        };
        Returns: {
          merge_id: string;
          contact: Database["public"]["Views"]["contacts_v2"]["Row"];
        };
      };
      /** The partners of contacts, by page: of one contact, or of all that you may see. The last page has no cursor. */
      metakocka_mappings: {
        Args: {
          account_id?: string | null;
          contact_id?: string | null;
          cursor?: string | null;
          page_size?: number;
        };
        Returns: {
          mappings: ({
            contact_id: string;
            account_id: string;
            metakocka_id: string;
            state: "synced" | "waiting" | "conflict" | "blocked" | "unknown" | "unlinked";
            missing: string[];
            user_id: string | null;
            last_synced_at: string | null;
            created_at: string;
            updated_at: string;
          })[];
          cursor: string | null;
        };
      };
      /** The private topics that you may join; id is that of the account, the customer or the conversation. Read-only kinds: account (all of an account, for staff), customer (all of yours, as a customer), conversation (the given conversation). Presence: presence_desk (staff at the desk), presence_staff and presence_customer (people in the conversation). Typing: typing_staff, typing_customer. You send presence and typing on your own side's topics only. Names change when somebody leaves: call it again when a join is refused, and on the event topics.changed. Clients that watch a desk get that event on the desk's topic. */
      my_topics: {
        Args: {
          conversation_id?: string | null;
        };
        Returns: ({
          topic: string;
          kind: "account" | "customer" | "conversation" | "presence_desk" | "presence_staff" | "presence_customer" | "typing_staff" | "typing_customer";
          id: string;
        })[];
      };
      /** The invitations to work for an account that nobody has claimed, also those that have expired: the address, the role and the name that it gives, who invites, and until when it is valid (UTC). For the account's owners. */
      open_member_invitations: {
        Args: {
          account_id: string;
        };
        Returns: ({
          email: string;
          role: "owner" | "admin" | "agent" | "viewer";
          display_name: string;
          invited_by: string;
          expires_at: string;
        })[];
      };
      /** Has nothing sent from a WhatsApp number of the account any more, or without a number from the whole account: no message, no read mark, and of the account nothing that is sent later and no reminder. What comes in is stored and shown. For owners and admins. */
      pause_sending: {
        Args: {
          account_id: string;
          channel_id?: string | null;
        };
        Returns: undefined;
      };
      /** What an open invitation is about: the business that invites, and the contact's email address, to which a link to sign in can be sent. Nobody has to be signed in: the token, which nobody can guess, would show the same once it is claimed. One that is unknown, claimed, revoked or expired is refused (404). */
      portal_invitation: {
        Args: {
          token: string;
        };
        Returns: {
          account_name: string;
          email: string | null;
          expires_at: string;
        };
      };
      /** Writes a message and returns its row; a message with the same client_ref is written once. The same as an insert into messages. Give the conversation_id, the booking_id, or the customer_id for the conversation in the portal, which is opened if needed. With invoice_data {invoice_id} staff show an invoice. */
      post_message: {
        Args: {
          booking_id?: string | null;
          client_ref?: string | null;
          content?: Json | null;
          conversation_id?: string | null;
          customer_id?: string | null;
          invoice_data?: Json | null;
          message?: string | null;
          reply_to?: string | null;
          type?: string;
        };
        Returns: Database["public"]["Tables"]["messages"]["Row"];
      };
      /** The public key of VAPID with which a browser subscribes (applicationServerKey), in base64url; null where notifications are not set up. */
      push_key: {
        Args: Record<PropertyKey, never>;
        Returns: string | null;
      };
      /** Fetches the file of a message again if it has failed. If another try is planned, it goes now. */
      refetch_media: {
        Args: {
          message_id: string;
        };
        Returns: undefined;
      };
      /** Ends the legal hold of a contact, for its owner. A contact without one stays as it is. */
      release_contact: {
        Args: {
          contact_id: string;
        };
        Returns: undefined;
      };
      /** Makes a conversation free, also if another member has it; returns its state. Unknown: 404. */
      release_conversation: {
        Args: {
          conversation_id: string;
        };
        Returns: {
          account_id: string;
          assignee_id: string | null;
          created_at: string;
          id: string;
          snoozed_until: string | null;
          updated_at: string;
          version: number;
        };
        SetofOptions: {
          from: "*";
          to: "desk_states";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      /** Removes a member from an account: the person sees nothing of it from then on, and conversations that the person has are free. For the account's owners. Refused: a person who does not work for it (404), and the only owner (409). */
      remove_member: {
        Args: {
          account_id: string;
          user_id: string;
        };
        Returns: undefined;
      };
      /** Whether free text may be sent now, and until when (UTC). If it is not open, send a template. Other channels are always open. */
      reply_window: {
        Args: {
          conversation_id: string;
        };
        Returns: {
          open: boolean;
          closes_at: string | null;
        };
      };
      /** Asks for a sync of some contacts or partners, or of all. Returns the id of a run in sync_runs. For owners and admins. Other accounts' contacts count as unknown. */
      request_sync: {
        Args: {
          account_id?: string | null;
          contact_ids?: string[];
          direction: "to_metakocka" | "from_metakocka" | "both";
          metakocka_ids?: string[];
        };
        Returns: string;
      };
      /** Sends a message again that has failed, or whose outcome is unknown for two minutes. It is a new attempt of the same message. */
      resend_message: {
        Args: {
          message_id: string;
        };
        Returns: undefined;
      };
      /** The uuid of a conversation, from a uuid or an older key such as 695a15a5c526dbe7c085ece2_1003427786179738_923456789012 (account, phone number id, customer number). Unknown: 404. */
      resolve_conversation: {
        Args: {
          reference: string;
        };
        Returns: string;
      };
      /** Decides a conflict. For a field: crm or metakocka. For a partner: the id of one of the candidates, or new for a contact of its own. For a contact: the id of one of the partners, new for another partner, or unlink for none. Returns the row of metakocka_partners. The sync does the rest at once. A decided conflict is refused (409). */
      resolve_sync_conflict: {
        Args: {
          choice: string;
          conflict_id: string;
        };
        Returns: Database["public"]["Views"]["metakocka_partners"]["Row"];
      };
      /** Lets a stopped WhatsApp number send again. First fix the problem in stopped_reason. */
      resume_channel: {
        Args: {
          channel_id: string;
        };
        Returns: undefined;
      };
      /** Ends the pause of a number, or without one that of the account. What waits is sent, or with withdraw withdrawn: messages become failed, scheduled messages that were due cancelled, and reminders that were due are left out. It withdraws 500 at a time: call it again while is_paused. waiting: the messages that are sent now; those of numbers that are still paused or stopped are not counted. For owners and admins. */
      resume_sending: {
        Args: {
          account_id: string;
          channel_id?: string | null;
          withdraw?: boolean;
        };
        Returns: {
          is_paused: boolean;
          withdrawn: number;
          waiting: number;
        };
      };
      /** Ends an invitation before it is claimed. One that has ended stays so. A claimed one is refused (409). */
      revoke_invitation: {
        Args: {
          invitation_id: string;
        };
        Returns: undefined;
      };
      /** Ends the open invitation of an email address to work for an account. For its owners. An address without an open invitation: 404. */
      revoke_member_invitation: {
        Args: {
          account_id: string;
          email: string;
        };
        Returns: undefined;
      };
      /** Tells the caller on this device from now on: endpoint, keys.p256dh and keys.auth of the browser's subscription. A device that another user has used is the caller's now, if the keys are the same; otherwise: 409. Returns the subscription's id. Another address than that of a push service: 422. Notifications are not set up: 409. */
      save_push_subscription: {
        Args: {
          auth: string;
          endpoint: string;
          p256dh: string;
        };
        Returns: string;
      };
      /** The saved replies whose short code or title begins like this, those by code first; at most 100, 20 if not said. A slash before the code is passed over. */
      saved_replies_beginning: {
        Args: {
          account_id: string;
          beginning?: string;
          page_size?: number;
        };
        Returns: {
          account_id: string;
          created_at: string;
          id: string;
          short_code: string;
          text: string;
          title: string | null;
          updated_at: string;
          version: number;
        }[];
        SetofOptions: {
          from: "*";
          to: "saved_replies";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      /** Finds contacts by name, username, email, phone and tags, without regard to case and accents. Every word of the query must be part of one of them; a word of one or two letters must begin a word. A phone number is found in any spelling. Returns them in the order of their names, and the cursor of the next page, null at the end. An empty query lists all. At most 200 characters and 200 rows. Not a member of the account: 404. */
      search_contacts: {
        Args: {
          account_id: string;
          cursor?: string | null;
          page_size?: number;
          query?: string;
        };
        Returns: {
          contacts: (Database["public"]["Views"]["contacts_v2"]["Row"])[];
          cursor: string | null;
        };
      };
      /** Sends a template on WhatsApp to a customer, and opens the conversation if the customer has never written; template is {name, language, variables}. Returns the message; one with the same client_ref is sent once. A customer without a proved number is refused (422), and so is an account whose numbers are all stopped (409). */
      send_template: {
        Args: {
          client_ref?: string | null;
          customer_id: string;
          template: Json;
        };
        Returns: Database["public"]["Tables"]["messages"]["Row"];
      };
      /** Sets a conversation to open, pending or closed, in the word of a face (contacts_page, live_chat, wati, portal, erp); returns the word. Another conversation with the same person is open: 409. Not a member of the account: 404. */
      set_conversation_status: {
        Args: {
          conversation_id: string;
          face?: "contacts_page" | "live_chat" | "wati" | "portal" | "erp";
          status: string;
        };
        Returns: string;
      };
      /** Lets a conversation wait until a time within the next year (UTC), or until the customer writes; null ends that. Returns its state. Unknown: 404. */
      snooze_conversation: {
        Args: {
          conversation_id: string;
          until: string;
        };
        Returns: {
          account_id: string;
          assignee_id: string | null;
          created_at: string;
          id: string;
          snoozed_until: string | null;
          updated_at: string;
          version: number;
        };
        SetofOptions: {
          from: "*";
          to: "desk_states";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      /** Says that the caller looks at a conversation. Clients call it each minute meanwhile; 90 seconds after the last call the caller is told of new messages again, of those that came meanwhile too unless they are read. Unknown conversation: 404. */
      stay_at_conversation: {
        Args: {
          conversation_id: string;
        };
        Returns: undefined;
      };
      /** Says that you are at the desk of an account; say it once a minute while you are. It counts for 2 minutes: see accounts.assigns_in_turn. If you work for one account, it need not be named; for several: 422. Not a member of the account: 404. */
      stay_at_desk: {
        Args: {
          account_id?: string | null;
        };
        Returns: undefined;
      };
      /** Looks for contacts of an account that may be one person, and adds them to open_suggestions. Returns the number of new suggestions, at most 500; if it is 500, call it again. A dismissed pair is not suggested again. */
      suggest_duplicates: {
        Args: {
          account_id: string;
        };
        Returns: number;
      };
      /** Takes a conversation: from now on you answer it; returns its state. If somebody else has it: 409, with the name. Unknown: 404. */
      take_conversation: {
        Args: {
          conversation_id: string;
        };
        Returns: {
          account_id: string;
          assignee_id: string | null;
          created_at: string;
          id: string;
          snoozed_until: string | null;
          updated_at: string;
          version: number;
        };
        SetofOptions: {
          from: "*";
          to: "desk_states";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      /** What a rule with these columns of reminder_rules would have sent in the last 30 days, or between since and until, as far as jobs, invoices and points still tell. dropped counts by reason. Of more than 1,000 the first 1,000 are counted by reason; the first 50 are shown. Nothing is written or sent. */
      try_reminder_rule: {
        Args: {
          account_id: string;
          days?: number | null;
          kind: string;
          minutes?: number | null;
          since?: string;
          template?: Json | null;
          text?: string | null;
          time_of_day?: string;
          until?: string;
          whatsapp_channel_id?: string | null;
        };
        Returns: {
          found: number;
          sent: number;
          dropped: {
            [key: string]: number;
          };
          reminders: ({
            rule_name: string;
            kind: "before_appointment" | "after_job" | "invoice_due_in" | "invoice_overdue_by" | "points_expire_in";
            customer_id: string;
            customer_name: string | null;
            job_id: string | null;
            invoice_id: string | null;
            due_at: string;
            send_at: string | null;
            way: "whatsapp" | "portal" | null;
            message: string | null;
            reason: string | null;
            why_not: string | null;
          })[];
        };
      };
      /** Undoes a merge and returns both contacts. What was changed, opened or unlinked since the merge stays with the kept contact, and the answer names it. A login that came in by the dropped contact's invitation goes back with that contact. If the merge is already undone, or a later one builds on it: 409. */
      undo_merge: {
        Args: {
          merge_id: string;
        };
        Returns: {
          kept: Database["public"]["Views"]["contacts_v2"]["Row"];
          restored: Database["public"]["Views"]["contacts_v2"]["Row"];
          changed_since: ({
            field: string;
            merged: Json | null;
            now: Json | null;
          })[];
          not_returned: ({
            kind: string;
            value: string;
            reason: string;
            contact_id: string | null;
          })[];
        };
      };
      /** Takes a label from a conversation. No such label: 422. Unknown conversation: 404. */
      unlabel_conversation: {
        Args: {
          conversation_id: string;
          label_id: string;
        };
        Returns: undefined;
      };
      /** Ends the access of a contact's login to the portal and its live topics, at once. Open invitations of the contact end too. A contact without a login stays as it is. */
      unlink_portal_login: {
        Args: {
          contact_id: string;
        };
        Returns: undefined;
      };
      /** The fields of a contact (of email, gsm, name, phone and username) that nobody has proved, because its customer wrote them or they came with a partner. No look-up finds the contact by them. Null for a contact that the caller may not read. */
      unproved_fields: {
        Args: {
          contact_id: string;
        };
        Returns: string[] | null;
      };
      /** The reminders that will be sent until a time (UTC; 7 days if none is given, at most a year), earliest first. way is whatsapp or portal; a reminder that will not be sent has null and says why_not in the account's language. Give the cursor back for the next page (page_size, at most 200); null is the end. What moves meanwhile moves here too. */
      upcoming_reminders: {
        Args: {
          account_id: string;
          cursor?: Json | null;
          page_size?: number;
          until?: string;
        };
        Returns: {
          reminders: ({
            rule_id: string;
            rule_name: string;
            kind: "before_appointment" | "after_job" | "invoice_due_in" | "invoice_overdue_by" | "points_expire_in";
            customer_id: string;
            customer_name: string | null;
            job_id: string | null;
            invoice_id: string | null;
            due_at: string;
            send_at: string | null;
            way: "whatsapp" | "portal" | null;
            message: string | null;
            reason: string | null;
            why_not: string | null;
          })[];
          cursor: Json | null;
        };
      };
      /** Writes a contact that is found by its id, phone, email or username, or inserts it. Given fields are written, others stay. face is contacts_page or live_chat; the answer is the row, as that face shows it. If the values belong to several contacts: 409. */
      upsert_contact: {
        Args: {
          account_id: string;
          contact: Json;
          face?: "contacts_page" | "live_chat";
        };
        Returns: Database["public"]["Views"]["contacts_v2"]["Row"] | Database["public"]["Views"]["contacts_live_chat"]["Row"];
      };
      /** Why something does not show: the steps from the webhook to the people who see it, in their order, and the first broken one in words with its remedy. The reference is an id of ours, WhatsApp's id of a message (wamid) or of a number, a telephone number as people write it, an email, a username, a partner's id at Metakocka, or the older key of a conversation. kind tells apart what several things have; login (an email or a user id) asks whether that login may see it. language is en or sl. A step's ok is null where it can't be known; code and facts say the same for programs, with ids, figures and times (UTC). The words have times by the clocks of time_zone. match: whether it was told to somebody, or to this login, under the id for which the reference stands. For owners and admins, about their own accounts. */
      why_not_shown: {
        Args: {
          account_id?: string | null;
          kind?: "message" | "number" | "conversation" | "contact" | "partner" | null;
          language?: "en" | "sl";
          login?: string | null;
          reference: string;
        };
        Returns: {
          reference: string;
          kind: "message" | "number" | "conversation" | "contact" | "partner" | null;
          id: string | null;
          account_id: string | null;
          time_zone: string;
          match: boolean | null;
          broken: string | null;
          words: string;
          remedy: string | null;
          steps: ({
            step: string;
            ok: boolean | null;
            code: string;
            words: string;
            facts: {
              [key: string]: Json;
            };
            remedy: string | null;
          })[];
        };
      };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      [_ in never]: never;
    };
  };
};
type DatabaseWithoutInternals = Omit<Database, '__InternalSupabase'>;
type DefaultSchema = DatabaseWithoutInternals[Extract<keyof Database, "public">];
export type Tables<DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema["Tables"] & DefaultSchema["Views"]) | {
  schema: keyof DatabaseWithoutInternals;
}, TableName extends DefaultSchemaTableNameOrOptions extends {
  schema: keyof DatabaseWithoutInternals;
} ? keyof (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"] & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"]) : never = never> = DefaultSchemaTableNameOrOptions extends {
  schema: keyof DatabaseWithoutInternals;
} ? (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"] & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"])[TableName] extends {
  Row: infer R;
} ? R : never : DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema["Tables"] & DefaultSchema["Views"]) ? (DefaultSchema["Tables"] & DefaultSchema["Views"])[DefaultSchemaTableNameOrOptions] extends {
  Row: infer R;
} ? R : never : never;
export type TablesInsert<DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"] | {
  schema: keyof DatabaseWithoutInternals;
}, TableName extends DefaultSchemaTableNameOrOptions extends {
  schema: keyof DatabaseWithoutInternals;
} ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"] : never = never> = DefaultSchemaTableNameOrOptions extends {
  schema: keyof DatabaseWithoutInternals;
} ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
  Insert: infer I;
} ? I : never : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"] ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
  Insert: infer I;
} ? I : never : never;
export type TablesUpdate<DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"] | {
  schema: keyof DatabaseWithoutInternals;
}, TableName extends DefaultSchemaTableNameOrOptions extends {
  schema: keyof DatabaseWithoutInternals;
} ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"] : never = never> = DefaultSchemaTableNameOrOptions extends {
  schema: keyof DatabaseWithoutInternals;
} ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
  Update: infer U;
} ? U : never : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"] ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
  Update: infer U;
} ? U : never : never;
export type Enums<DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"] | {
  schema: keyof DatabaseWithoutInternals;
}, EnumName extends DefaultSchemaEnumNameOrOptions extends {
  schema: keyof DatabaseWithoutInternals;
} ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"] : never = never> = DefaultSchemaEnumNameOrOptions extends {
  schema: keyof DatabaseWithoutInternals;
} ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"][EnumName] : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"] ? DefaultSchema["Enums"][DefaultSchemaEnumNameOrOptions] : never;
export type CompositeTypes<PublicCompositeTypeNameOrOptions extends keyof DefaultSchema["CompositeTypes"] | {
  schema: keyof DatabaseWithoutInternals;
}, CompositeTypeName extends PublicCompositeTypeNameOrOptions extends {
  schema: keyof DatabaseWithoutInternals;
} ? keyof DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"] : never = never> = PublicCompositeTypeNameOrOptions extends {
  schema: keyof DatabaseWithoutInternals;
} ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"][CompositeTypeName] : PublicCompositeTypeNameOrOptions extends keyof DefaultSchema["CompositeTypes"] ? DefaultSchema["CompositeTypes"][PublicCompositeTypeNameOrOptions] : never;
/** The rows that broadcasts, `changes_since` and the live client tell, by table. */
export type Told = {
  account_health: Tables<"account_health">;
  contacts: Omit<Tables<"contacts">, "profile_named_at" | "marketing_chosen_at" | "merged_into" | "deleted_at">;
  conversation_labels: Tables<"conversation_labels">;
  conversation_notes: Tables<"conversation_notes">;
  conversations: Tables<"conversations">;
  customers: Tables<"customers">;
  desk_states: Tables<"desk_states">;
  invoices: Tables<"invoices">;
  jobs: Tables<"jobs">;
  labels: Tables<"labels">;
  loyalty_transactions: Tables<"loyalty_transactions">;
  messages: Tables<"messages">;
  reminder_rules: Tables<"reminder_rules">;
  saved_replies: Tables<"saved_replies">;
  scheduled_messages: Omit<Tables<"scheduled_messages">, "customer_id" | "due_at">;
  sync_runs: Omit<Tables<"sync_runs">, "request" | "cursor" | "quiet" | "waiting">;
};
