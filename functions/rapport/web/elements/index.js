/**
 * Elements for portals and dashboards, on Lit and the live client: `<connection-status>`,
 * `<realtime-notification>`, `<inbox-list>`, `<conversation-view>`, `<message-composer>`,
 * `<job-list>`, `<invoice-list>`, `<points-total>`. They stand in the page's own tree; `elements.css` is how they look.
 */

export { ConnectionStatus, MultiSubscriptionStatus } from "./connection_status.js";
export { ConversationView, MOST_BUBBLES } from "./conversation_view.js";
export { InboxList } from "./inbox_list.js";
export { InvoiceList } from "./invoice_list.js";
export { JobList } from "./job_list.js";
export { Files } from "./media/files.js";
export { MessageComposer } from "./message_composer.js";
export { NotificationStack, RealtimeNotification } from "./realtime_notification.js";
export { PointsTotal } from "./points_total.js";
export { language, languages, text } from "./texts.js";
