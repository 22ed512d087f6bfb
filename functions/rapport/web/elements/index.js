/**
 * Elements for portals and dashboards, on Lit and the live client: `<connection-status>`,
 * `<realtime-notification>`, `<inbox-list>`, `<conversation-view>`, `<message-composer>`,
 * `<booking-chat>`, `<job-list>`, `<invoice-list>`, `<points-total>`, `<profile-form>`,
 * `<push-switch>`, `<onboarding-steps>`. They stand in the page's own tree; `elements.css` is how
 * they look.
 */

export { BookingChat } from "./booking_chat.js";
export { ConnectionStatus } from "./connection_status.js";
export { MultiSubscriptionStatus } from "./multi_subscription_status.js";
export { ConversationView, MOST_BUBBLES } from "./conversation_view.js";
export { InboxList } from "./inbox_list.js";
export { InvoiceList } from "./invoice_list.js";
export { JobList } from "./job_list.js";
export { Files } from "./media/files.js";
export { MessageComposer } from "./message_composer.js";
export { NotificationStack, RealtimeNotification } from "./realtime_notification.js";
export { OnboardingSteps } from "./onboarding_steps.js";
export { PointsTotal } from "./points_total.js";
export { ProfileForm } from "./profile_form.js";
export { PushSwitch } from "./push_switch.js";
export { endPushes } from "./pushes.js";
export { language, languages, text } from "./texts.js";
